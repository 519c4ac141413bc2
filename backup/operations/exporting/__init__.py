"""An export of a snapshot: its record and its report."""
