"""A scripted AWS for tests: states take time, calls are denied and throttled when told to.

Requests and answers are read and written by botocore's own service model, so that no script can
drift from the API.
"""
