"""`structnet validate`: the checks of a base network and its data."""

from search.command import Command

COMMAND = Command(
    "validate",
    "The base network and its data, checked before an experiment; exit code 1 if a check fails. Needs no Ray.",
    "search.commands.validate.command:ValidateOptions",
    "search.commands.validate.run:run",
)
