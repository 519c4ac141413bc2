"""A snapshot: whom of, by whom, under which name, and which old ones go."""
