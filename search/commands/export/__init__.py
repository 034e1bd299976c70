"""`structnet export`: a grown network as files that run without structnet."""

from search.commands.export.command import COMMAND

__all__ = ["COMMAND"]
