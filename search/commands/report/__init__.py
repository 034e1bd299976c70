"""`structnet report`: pages of what was found, to look at and to show around."""

from search.command import Command

COMMAND = Command(
    "report",
    "A page of an experiment, or of all in the folder, that opens anywhere without a network.",
    "search.commands.report.command:ReportOptions",
    "search.commands.report.run:run",
)
