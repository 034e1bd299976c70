"""SET, RigL, pruning, static and dense networks of stated sizes: what a grown network has to beat."""

from search.command import Command

COMMAND = Command(
    "evolve",
    "SET, RigL, GraNet, CHT, pruning, static and dense networks of stated sizes: what a grown network has to beat.",
    "search.commands.evolve.command:EvolveOptions",
    "search.commands.evolve.run:run",
    "search.commands.evolve.command:defaults",
    goes_on=True,
)
