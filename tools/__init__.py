"""What maintainers run; nothing of it is in the image."""
