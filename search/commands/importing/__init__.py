"""`structnet import`: a plain PyTorch network becomes a StructNet."""

from search.commands.importing.command import COMMAND

__all__ = ["COMMAND"]
