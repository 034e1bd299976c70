"""`structnet export`: a grown network as files that run without structnet."""

from search.command import Command

COMMAND = Command(
    "export",
    "A grown network as files that run without structnet, held against it on the whole test set.",
    "search.commands.export.command:ExportOptions",
    "search.commands.export.run:run",
)
