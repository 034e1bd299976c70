"""Sweeps: any option of grow or hunt, over several rng_seeds."""
