"""`structnet validate`: the checks of a base network and its data."""

from search.commands.validate.command import COMMAND

__all__ = ["COMMAND"]
