"""`structnet hunt`: which small sparse networks are worth growing, out of thousands."""

from search.command import Command

COMMAND = Command(
    "hunt",
    "Seed hunting: train thousands of small sparse networks, and keep the ones worth growing.",
    "search.commands.hunt.command:HuntOptions",
    "search.commands.hunt.run:run",
    goes_on=True,
)
