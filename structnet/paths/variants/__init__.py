"""How plastic networks are laid out, one file for each layout; structnet/paths/registry.py names them."""
