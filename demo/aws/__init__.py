"""A new user's way to a green audit, from an empty AWS account: `python -m demo.aws`."""
