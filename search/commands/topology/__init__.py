"""`structnet topology`: what sparse evolution learns about where connections belong, and what regularisation does."""

from search.commands.topology.command import COMMAND

__all__ = ["COMMAND"]
