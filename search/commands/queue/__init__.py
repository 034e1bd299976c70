"""`structnet queue`: experiments by priority, in a store that survives whoever runs them."""

from search.commands.queue.command import COMMAND

__all__ = ["COMMAND"]
