"""What hardware is here, and who uses it."""
