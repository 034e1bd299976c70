"""`structnet paths`: plastic residual networks against static ones and residual networks of as many parameters."""

from search.commands.paths.command import COMMAND

__all__ = ["COMMAND"]
