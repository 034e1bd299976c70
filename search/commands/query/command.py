"""The options of `query`."""

from __future__ import annotations

from typing import Literal

from search.options import Options, argument, option, results_folder

Format = Literal["table", "csv", "json", "markdown", "parquet"]


class QueryOptions(Options):
    """The options of `query`."""

    question: str | None = argument(
        None,
        "The name of a question, or one SELECT over the tables experiments, rounds, candidates, …",
        metavar="QUESTION | SQL",
    )
    list: bool = option(False, "Say which questions there are; with the name of one, its SQL.")
    experiment: str | None = option(None, "Ask about this one alone.", shown="all")
    format: Format | None = option(
        None,
        "table, csv, json, markdown or parquet.",
        shown="by the ending of --output, or else table",
    )
    output: str | None = option(None, "A file or an fsspec URL for the rows.", shown="the terminal")
    compact: bool = option(False, "First merge the many small files of experiments that have ended.")
    results: str = results_folder()
