"""How fast, and at what cost, against the pipes that people write instead."""
