"""`structnet predict`: what a snapshot makes of a file of images or rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.commands.predict.command import PredictOptions
from search.session.console import Console, outcome
from search.session.waiting import waiting
from structnet.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa


def run(options: PredictOptions) -> None:
    """Runs the command."""
    check_output(options.output)
    console = Console()
    with waiting(f"reading {options.inputs}", console):
        from structnet.measure.prediction import predict

        found = predict(
            options.snapshot, options.inputs, key=options.key, probabilities=options.probabilities
        )
    for note in found.notes:
        console.say(note, markup=False)
    if options.output:
        write_predictions(found.table, options.output)
    else:
        print_predictions(found.table)
        outcome(lambda: {"rows": found.table.to_pylist()})
    known = known_of(found.table)
    outcome(
        output=options.output,
        predictions=found.table.num_rows,
        accuracy=sum(known) / len(known) if known else None,
        notes=found.notes,
    )


def check_output(output: str | None) -> None:
    """Raises UserError for a file of a kind that is not written."""
    if output is not None and Path(output).suffix.lower() not in (".csv", ".parquet"):
        raise UserError(f"output is '{output}', but must end in .csv or .parquet: name the file so")


def print_predictions(table: pa.Table, rows: int = 20) -> None:
    """Prints the first rows, and the accuracy if labels are known."""
    from rich.markup import escape
    from rich.table import Table

    shown = Table(*(escape(name) for name in table.column_names))
    for row in table.slice(0, rows).to_pylist():
        shown.add_row(*(escape(_cell(value)) for value in row.values()))
    console = Console(asked=True)
    console.print(shown)
    if table.num_rows > rows:
        console.print(f"… and {table.num_rows - rows:,} more rows")
    if known := known_of(table):
        console.print(f"accuracy {sum(known) / len(known):.4f}: {sum(known):,} of {len(known):,} correct")


def known_of(table: pa.Table) -> list[bool]:
    """Whether each prediction is right of which that is known."""
    if "correct" not in table.column_names:
        return []
    return [row for row in table.column("correct").to_pylist() if row is not None]


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
    Console().say(f"wrote {table.num_rows:,} predictions to {output}", markup=False)
