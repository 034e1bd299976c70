"""Sweeps: any option of grow or hunt, over several rng_seeds."""

from search.commands.sweep.command import COMMAND

__all__ = ["COMMAND"]
