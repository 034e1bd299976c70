"""When and where networks grow, and what became of it."""
