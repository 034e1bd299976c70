"""The cliff-rescue test of a growth mechanism."""

from search.commands.rescue.command import COMMAND

__all__ = ["COMMAND"]
