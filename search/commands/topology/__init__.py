"""`structnet topology`: what sparse evolution learns about where connections belong, and what regularisation does."""

from search.command import Command

COMMAND = Command(
    "topology",
    "What topology sparse evolution learns, and what regularisation does to it.",
    "search.commands.topology.command:TopologyOptions",
    "search.commands.topology.run:run",
    goes_on=True,
)
