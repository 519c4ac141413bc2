"""What the jobs of a fleet have left in its buckets."""
