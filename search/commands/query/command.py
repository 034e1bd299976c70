"""The options of `query`."""

from __future__ import annotations

from search.options import Command, Options, argument, option, results_folder


class QueryOptions(Options):
    """The options of `query`."""

    sql: str | None = argument(None, "One SELECT over the tables experiments, rounds, candidates, …")
    compact: bool = option(False, "First merge the many small files of experiments that have ended.")
    results: str = results_folder()


COMMAND = Command(
    "query",
    "SQL over the tables of the results folder, read-only.",
    QueryOptions,
    "search.commands.query.run:run",
)
