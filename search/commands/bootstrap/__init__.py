"""From the smallest seed that learns to larger networks."""

from search.commands.bootstrap.command import COMMAND

__all__ = ["COMMAND"]
