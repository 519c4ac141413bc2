"""Who is told how a run ended, of what, and in which form."""
