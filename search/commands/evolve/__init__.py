"""SET, RigL, pruning, static and dense networks of stated sizes: what a grown network has to beat."""

from search.commands.evolve.command import COMMAND

__all__ = ["COMMAND"]
