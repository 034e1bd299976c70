"""The cliff-rescue test of a growth mechanism."""
