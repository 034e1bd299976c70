"""`structnet status`: what experiments are doing."""

from search.command import Command

COMMAND = Command(
    "status",
    "What experiments are doing, read from their tables.",
    "search.commands.status.command:StatusOptions",
    "search.commands.status.run:run",
)
