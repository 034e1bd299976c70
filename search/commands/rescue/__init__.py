"""The cliff-rescue test of a growth mechanism."""

from search.command import Command

COMMAND = Command(
    "rescue",
    "The cliff-rescue test: can a growth mechanism bring back a network that is too sparse to learn?",
    "search.commands.rescue.command:RescueOptions",
    "search.commands.rescue.run:run",
    goes_on=True,
)
