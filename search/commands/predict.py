"""`structnet predict`: what a snapshot makes of a file of images or rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from search.options import Command, Options, argument, option
from structnet.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa


class PredictOptions(Options):
    """The options of `predict`."""

    snapshot: str = argument(..., "A snapshot, with or without its ending.")
    inputs: str = argument(..., "A Parquet or CSV file, an image, or a folder of images.")
    output: str | None = option(None, "Write a Parquet file instead of a table.")


COMMAND = Command(
    "predict", "What a grown network says about a file of images or rows.", PredictOptions, f"{__name__}:run"
)


def run(options: PredictOptions) -> None:
    """Runs the command."""
    from structnet.measure.prediction import predict

    table = predict(options.snapshot, options.inputs)
    if options.output:
        write_predictions(table, options.output)
    else:
        print_predictions(table)


def print_predictions(table: pa.Table, rows: int = 20) -> None:
    """Prints the first rows, and the accuracy if labels are known."""
    from rich.markup import escape
    from rich.table import Table

    from search.session.console import Console

    shown = Table(*table.column_names)
    for row in table.slice(0, rows).to_pylist():
        cells = {**row, "probability": f"{row['probability']:.3f}"}
        if "correct" in row:
            cells["correct"] = "yes" if row["correct"] else "no"
        shown.add_row(*(escape(str(cell)) for cell in cells.values()))
    console = Console()
    console.print(shown)
    if table.num_rows > rows:
        console.print(f"… and {table.num_rows - rows:,} more rows")
    if "correct" in table.column_names and table.num_rows:
        correct = sum(table.column("correct").to_pylist())
        console.print(f"accuracy {correct / table.num_rows:.4f}: {correct:,} of {table.num_rows:,} correct")


def write_predictions(table: pa.Table, output: str) -> None:
    """Writes all rows as a Parquet file and says so. Raises UserError if the file cannot be written."""
    import pyarrow.parquet as pq

    try:
        pq.write_table(table, output)
    except OSError as error:
        raise UserError(
            f"output is '{output}', but cannot be written ({error}): name another file"
        ) from error
    typer.echo(f"wrote {table.num_rows:,} predictions to {output}")
