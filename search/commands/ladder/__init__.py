"""`structnet ladder`: one architecture at falling densities, and the cliff where it becomes too sparse to learn."""

from search.commands.ladder.command import COMMAND

__all__ = ["COMMAND"]
