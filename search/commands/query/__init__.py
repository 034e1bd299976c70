"""`structnet query`: SQL over the tables of results."""

from search.commands.query.command import COMMAND

__all__ = ["COMMAND"]
