"""`structnet hunt`: which small sparse networks are worth growing, out of thousands."""

from search.commands.hunt.command import COMMAND

__all__ = ["COMMAND"]
