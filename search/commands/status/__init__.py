"""`structnet status`: what experiments are doing."""

from search.commands.status.command import COMMAND

__all__ = ["COMMAND"]
