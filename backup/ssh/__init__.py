"""OpenSSH: a tunnel to a database that cannot be reached directly, and the keys for it."""
