"""`structnet pick`: another network of a front, for another target, without training again."""

from search.command import Command

COMMAND = Command(
    "pick",
    "Another network of a front: for another target or limit, without training again.",
    "search.commands.pick.command:PickOptions",
    "search.commands.pick.run:run",
)
