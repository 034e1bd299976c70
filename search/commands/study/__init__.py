"""Studies: a question, arms with controls over several rng_seeds, and a verdict that follows from the rows."""

from search.commands.study.command import COMMAND

__all__ = ["COMMAND"]
