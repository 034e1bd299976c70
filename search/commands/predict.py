"""`structnet predict`: what a snapshot makes of a file of images or rows.

The snapshot says how raw inputs become the network's, so the file needs no preprocessing and no options.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from search.options import Command, Options, argument, option

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

    from structnet import StructNet

# Rows evaluated at once: enough to keep the processor busy, while the activations stay in a few megabytes.
BLOCK = 2_000


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
    table = predict(options.snapshot, options.inputs)
    if options.output:
        write_predictions(table, options.output)
    else:
        print_predictions(table)


def predict(snapshot: str, inputs: str) -> pa.Table:
    """One row for each input: row (from 0), prediction (class name), probability of it (softmax, in [0, 1]).

    If the file has labels also label (class name) and correct. snapshot: path or URL as for
    `structnet.storage.snapshot.load_snapshot`. inputs: a file or folder as for
    `structnet.data.preprocessing.read_inputs`.
    Raises UserError if a file cannot be read or does not fit the network.
    """
    import numpy as np
    import pyarrow as pa

    from structnet.data.preprocessing import read_inputs
    from structnet.errors import UserError
    from structnet.storage.snapshot import load_snapshot

    loaded = load_snapshot(snapshot)
    network = loaded.state.network
    if "kind" not in loaded.preprocessing:
        raise UserError(
            f"snapshot '{snapshot}' has no preprocessing of a dataset, but raw inputs need one: "
            "save it with preprocessing=dataset.preprocessing"
        )
    images, labels = read_inputs(inputs, loaded.preprocessing)
    features, expected = images[:1].numel(), network.architecture[0]
    if len(images) and features != expected:
        raise UserError(
            f"'{inputs}' has {features} values per row, but the network takes {expected}: "
            "give inputs like those that it was trained on"
        )
    known = loaded.class_names or loaded.preprocessing["class_names"]
    if len(known) != network.architecture[-1]:
        raise UserError(
            f"snapshot '{snapshot}' has {len(known)} class names, but {network.architecture[-1]} outputs: "
            "save it with class_names, one for each output"
        )
    names = np.array(known, dtype=object)
    classes, probability = _classify(network, images)
    columns = {
        "row": pa.array(np.arange(len(images))),
        "prediction": pa.array(names[classes.numpy()], pa.string()),
        "probability": pa.array(probability.numpy()),
    }
    if labels is not None:
        columns["label"] = pa.array(names[labels.numpy()], pa.string())
        columns["correct"] = pa.array((labels == classes).numpy())
    return pa.table(columns)


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

    from structnet.errors import UserError

    try:
        pq.write_table(table, output)
    except OSError as error:
        raise UserError(
            f"output is '{output}', but cannot be written ({error}): name another file"
        ) from error
    typer.echo(f"wrote {table.num_rows:,} predictions to {output}")


def _classify(network: StructNet, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Class number and its probability for each image, (images,) each."""
    import torch

    classes = torch.empty(len(images), dtype=torch.int64)
    probability = torch.empty(len(images), dtype=torch.float64)
    with torch.no_grad():
        for start in range(0, len(images), BLOCK):
            block = slice(start, start + BLOCK)
            probability[block], classes[block] = network(images[block]).double().softmax(dim=1).max(dim=1)
    return classes, probability
