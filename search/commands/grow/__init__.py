"""`structnet grow`: the tournament as a command."""

from search.command import Command

COMMAND = Command(
    "grow",
    "The main job: grow a sparse network by a tournament of growth actions.",
    "search.commands.grow.command:GrowOptions",
    "search.commands.grow.run:run",
    goes_on=True,
)
