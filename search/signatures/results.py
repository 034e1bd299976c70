"""`predict`, `query` and `status`, on the command line."""

from __future__ import annotations

from typing import Annotated

import typer

from search import options as opt
from structnet.errors import UserError


def predict(
    snapshot: Annotated[str, typer.Argument(help="A snapshot, with or without its ending.")],
    inputs: Annotated[str, typer.Argument(help="A Parquet or CSV file, an image, or a folder of images.")],
    output: Annotated[str | None, typer.Option(help="Write a Parquet file instead of a table.")] = None,
) -> None:
    """What a grown network says about a file of images or rows."""
    from search.commands.predict import predict as predicted
    from search.commands.predict import print_predictions, write_predictions

    table = predicted(snapshot, inputs)
    if output:
        write_predictions(table, output)
    else:
        print_predictions(table)


def query(
    sql: Annotated[
        str | None, typer.Argument(help="One SELECT over the tables experiments, rounds, candidates, …")
    ] = None,
    compact: Annotated[
        bool,
        typer.Option("--compact", help="First merge the many small files of experiments that have ended."),
    ] = False,
    results: opt.Results = None,
) -> None:
    """SQL over the tables of the results folder, read-only."""
    if sql is None and not compact:
        raise UserError("there is no statement, but must be one SELECT in quotes, or --compact: give one")
    from search.commands.query import print_compaction, print_query

    if compact:
        print_compaction(results or "results")
    if sql is not None:
        print_query(results or "results", sql)


def status(
    name: Annotated[
        str | None,
        typer.Argument(help="An experiment to show in detail; all of them in a table if left out."),
    ] = None,
    watch: Annotated[
        float | None, typer.Option(help="Look again every so many seconds, until it has ended.")
    ] = None,
    results: opt.Results = None,
) -> None:
    """What experiments are doing, read from their tables."""
    from search.commands.status import run

    run(name, results or "results", watch)
