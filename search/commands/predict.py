"""`structnet predict`: what a snapshot makes of a file of images or rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from search.options import Command, Options, argument, option
from structnet.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa


class PredictOptions(Options):
    """The options of `predict`."""

    snapshot: str = argument(..., "A snapshot, with or without its ending.")
    inputs: str = argument(..., "A Parquet or CSV file, an image, or a folder of images.")
    output: str | None = option(None, "Write a .csv or .parquet file instead of a table.")
    key: str | None = option(None, "A column that names the rows, to be kept beside the predictions.")
    probabilities: bool = option(False, "The probability of every class, too.")


COMMAND = Command(
    "predict", "What a grown network says about a file of images or rows.", PredictOptions, f"{__name__}:run"
)


def run(options: PredictOptions) -> None:
    """Runs the command."""
    from structnet.measure.prediction import predict

    check_output(options.output)
    found = predict(options.snapshot, options.inputs, key=options.key, probabilities=options.probabilities)
    for note in found.notes:
        typer.echo(note)
    if options.output:
        write_predictions(found.table, options.output)
    else:
        print_predictions(found.table)


def check_output(output: str | None) -> None:
    """Raises UserError for a file of a kind that is not written."""
    if output is not None and Path(output).suffix.lower() not in (".csv", ".parquet"):
        raise UserError(f"output is '{output}', but must end in .csv or .parquet: name the file so")


def print_predictions(table: pa.Table, rows: int = 20) -> None:
    """Prints the first rows, and the accuracy if labels are known."""
    from rich.markup import escape
    from rich.table import Table

    from search.session.console import Console

    shown = Table(*(escape(name) for name in table.column_names))
    for row in table.slice(0, rows).to_pylist():
        shown.add_row(*(escape(_cell(value)) for value in row.values()))
    console = Console()
    console.print(shown)
    if table.num_rows > rows:
        console.print(f"… and {table.num_rows - rows:,} more rows")
    if "correct" in table.column_names:
        known = [row for row in table.column("correct").to_pylist() if row is not None]
        if known:
            console.print(f"accuracy {sum(known) / len(known):.4f}: {sum(known):,} of {len(known):,} correct")


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def write_predictions(table: pa.Table, output: str) -> None:
    """Writes all rows to a CSV or Parquet file and says so. Raises UserError if the file cannot be written."""
    import pyarrow.csv
    import pyarrow.parquet

    write = pyarrow.csv.write_csv if output.lower().endswith(".csv") else pyarrow.parquet.write_table
    try:
        write(table, output)
    except OSError as error:
        raise UserError(
            f"output is '{output}', but cannot be written ({error}): name another file"
        ) from error
    typer.echo(f"wrote {table.num_rows:,} predictions to {output}")
