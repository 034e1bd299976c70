"""Training: one network, a cohort of them, their rates, and the way down to a size."""
