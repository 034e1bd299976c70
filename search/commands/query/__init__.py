"""`structnet query`: questions to the tables of results, ready-made or in SQL."""

from search.command import Command

COMMAND = Command(
    "query",
    "Ready-made questions, or SQL, over the tables of the results folder, read-only.",
    "search.commands.query.command:QueryOptions",
    "search.commands.query.run:run",
)
