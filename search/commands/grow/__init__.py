"""`structnet grow`: the tournament as a command."""

from search.commands.grow.command import COMMAND

__all__ = ["COMMAND"]
