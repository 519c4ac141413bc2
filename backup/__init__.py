"""PostgreSQL backups in S3: streamed, complete or absent, restorable by hand."""

__version__ = "1.0.0"
