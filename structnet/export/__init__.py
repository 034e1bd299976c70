"""A grown network as a file that runs without structnet: one file of this room for each form, and `registry`."""
