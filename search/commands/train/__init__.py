"""`structnet train`: one network on several workers, with Ray Train."""

from search.commands.train.command import COMMAND

__all__ = ["COMMAND"]
