"""Which attention heads a transformer can do without: by scores, little by little, or by a tournament."""

from search.command import Command

COMMAND = Command(
    "heads",
    "Which attention heads a transformer can do without: by scores, little by little, or by a tournament.",
    "search.commands.heads.command:HeadsOptions",
    "search.commands.heads.run:run",
    "search.commands.heads.command:defaults",
    goes_on=True,
)
