"""A backup and a restore by hand, whole, on this machine: `python -m demo`."""
