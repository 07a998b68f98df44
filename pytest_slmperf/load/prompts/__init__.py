"""What is sent: token lengths and prompt text. Pure functions of a seed."""
