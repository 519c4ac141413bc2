"""PostgreSQL: the source, its clients, its snapshot; nothing of AWS, nothing of GitHub."""
