"""A new instance or cluster in place of a lost one, step by step."""
