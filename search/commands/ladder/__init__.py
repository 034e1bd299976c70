"""`structnet ladder`: one architecture at falling densities, and the cliff where it becomes too sparse to learn."""

from search.command import Command

COMMAND = Command(
    "ladder",
    "The sparsity ladder: one architecture at falling densities, and the cliff where it stops to learn.",
    "search.commands.ladder.command:LadderOptions",
    "search.commands.ladder.run:run",
    goes_on=True,
)
