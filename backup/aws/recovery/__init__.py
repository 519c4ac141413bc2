"""RDS as the maker of new instances: from what, with which settings, and how far it is."""
