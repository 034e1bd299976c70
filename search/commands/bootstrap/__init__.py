"""From the smallest seed that learns to larger networks."""

from search.command import Command

COMMAND = Command(
    "bootstrap",
    "The smallest seed that learns, a larger network started from it, and coarse-to-fine training.",
    "search.commands.bootstrap.command:BootstrapOptions",
    "search.commands.bootstrap.run:run",
    goes_on=True,
)
