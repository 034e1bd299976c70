"""Pages that people show around: one for every experiment, and one for a folder of them. Read from the tables alone."""
