"""`structnet query`: SQL over the tables of results, and merging their small files."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import pyarrow as pa
import typer

from search.commands.query.command import QueryOptions
from structnet.errors import UserError
from structnet.storage.sql import run_query

_ROWS_ON_TERMINAL = 200


def run(options: QueryOptions) -> None:
    """Runs the command."""
    if options.sql is None and not options.compact:
        raise UserError("there is no statement, but must be one SELECT in quotes, or --compact: give one")
    if options.compact:
        print_compaction(options.results)
    if options.sql is not None:
        print_query(options.results, options.sql)


def print_query(results: str, sql: str) -> None:
    """Prints the rows of a statement, and a line on stderr for each damaged part that was left out."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        rows = run_query(results, sql)
    for warning in caught:
        typer.echo(warning.message, err=True)
    print_table(rows)


def print_compaction(results: str) -> None:
    """Merges the parts of all experiments that have ended, and prints what became of them."""
    from structnet.storage.compaction import compact

    report = compact(results)
    for done in report.merged:
        typer.echo(
            f"{done.experiment} {done.table}: {done.parts_before:,} parts became {done.parts_after:,}, "
            f"{done.rows:,} rows"
        )
    if not report.merged:
        typer.echo("Nothing to merge.")
    for line in report.left_alone:
        typer.echo(f"left alone: {line}")
    for line in report.damaged:
        typer.echo(f"skipped: {line}", file=sys.stderr)


def print_table(table: pa.Table) -> None:
    """Prints the rows: on a terminal as wide as it is and at most 200, elsewhere all of them in full."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from search.session.console import Console

    console = Console() if sys.stdout.isatty() else Console(width=1_000_000)
    shown = table.slice(0, _ROWS_ON_TERMINAL) if console.is_terminal else table
    grid = Table(box=box.SIMPLE_HEAD)
    for field in table.schema:
        number = pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
        grid.add_column(Text(field.name), justify="right" if number else "left")
    columns = [column.to_pylist() for column in shown.columns]
    for values in zip(*columns):
        grid.add_row(*(Text(_cell(value)) for value in values))
    console.print(grid)
    if shown.num_rows < table.num_rows:
        console.print(
            f"{shown.num_rows} of {table.num_rows:,} rows; the rest with LIMIT and OFFSET, or in a file"
        )


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
