"""What a snapshot makes of a file of images or rows.

The snapshot says how raw inputs become the network's, so the file needs no preprocessing and no options.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch

from structnet.data.new_inputs import read_inputs
from structnet.errors import UserError
from structnet.network.network import StructNet
from structnet.storage.snapshot import Snapshot, load_snapshot

# Rows evaluated at once: enough to keep the processor busy, while the activations stay in a few megabytes.
BLOCK = 2_000
OWN_COLUMNS = ("row", "prediction", "probability", "label", "correct")


class Prediction(NamedTuple):
    """table: a row for each input. notes: what was skipped or decided when the inputs were read, a sentence each."""

    table: pa.Table
    notes: list[str]


def predict(snapshot: str, inputs: str, *, key: str | None = None, probabilities: bool = False) -> Prediction:
    """What the network says of each input.

    Columns: row (from 0); what names the rows, such as `file`; prediction (class name), probability of it (softmax, in
    [0, 1]); with `probabilities` one column for each class, `p:NAME`; if the file has labels also label (class name,
    null where there is none) and correct. snapshot: path or URL as for `structnet.storage.snapshot.load_snapshot`.
    inputs, key: as for `structnet.data.new_inputs.read_inputs`. Raises UserError if a file cannot be read or does not
    fit the network.
    """
    loaded = load_snapshot(snapshot)
    network = loaded.state.network
    names = _class_names(loaded, snapshot)
    found = read_inputs(inputs, loaded.preprocessing, key)
    features, expected = found.inputs[:1].numel(), network.topology.architecture.inputs
    if len(found.inputs) and features != expected:
        raise UserError(
            f"'{inputs}' has {features} values per row, but the network takes {expected}: "
            "give inputs like those that it was trained on"
        )
    shares = _probabilities(network, found.inputs)
    best, classes = shares.max(dim=1)
    columns = {"row": pa.array(np.arange(len(shares)))}
    columns |= {_free(name): pa.array(values) for name, values in found.keys.items()}
    columns |= {
        "prediction": pa.array(names[classes.numpy()], pa.string()),
        "probability": pa.array(best.numpy()),
    }
    if probabilities:
        columns |= {f"p:{name}": pa.array(shares[:, at].numpy()) for at, name in enumerate(names)}
    if found.labels is not None:
        known = found.labels.numpy() >= 0
        columns["label"] = pa.array(names[found.labels.numpy()], pa.string(), mask=~known)
        columns["correct"] = pa.array((found.labels == classes).numpy(), pa.bool_(), mask=~known)
    return Prediction(pa.table(columns), found.notes)


def _class_names(loaded: Snapshot, snapshot: str) -> np.ndarray:
    if "kind" not in loaded.preprocessing:
        raise UserError(
            f"snapshot '{snapshot}' has no preprocessing of a dataset, but raw inputs need one: "
            "save it with preprocessing=dataset.preprocessing"
        )
    known, outputs = (
        loaded.class_names or loaded.preprocessing["class_names"],
        loaded.state.network.architecture[-1],
    )
    if len(known) != outputs:
        raise UserError(
            f"snapshot '{snapshot}' has {len(known)} class names, but {outputs} outputs: "
            "save it with class_names, one for each output"
        )
    return np.array(known, dtype=object)


def _free(name: str) -> str:
    """A name of a column of the user's, changed where it is one of ours."""
    return f"{name} (given)" if name in OWN_COLUMNS or name.startswith("p:") else name


def _probabilities(network: StructNet, images: torch.Tensor) -> torch.Tensor:
    """(images, classes) float64."""
    found = torch.empty(len(images), network.architecture[-1], dtype=torch.float64)
    with torch.no_grad():
        for start in range(0, len(images), BLOCK):
            block = slice(start, start + BLOCK)
            found[block] = network(images[block]).double().softmax(dim=1)
    return found
