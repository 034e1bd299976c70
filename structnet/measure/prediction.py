"""What a snapshot makes of a file of images or rows.

The snapshot says how raw inputs become the network's, so the file needs no preprocessing and no options.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import torch

from structnet.data.new_inputs import read_inputs
from structnet.errors import UserError
from structnet.network.network import StructNet
from structnet.storage.snapshot import load_snapshot

# Rows evaluated at once: enough to keep the processor busy, while the activations stay in a few megabytes.
BLOCK = 2_000


def predict(snapshot: str, inputs: str) -> pa.Table:
    """One row for each input: row (from 0), prediction (class name), probability of it (softmax, in [0, 1]).

    If the file has labels also label (class name) and correct. snapshot: path or URL as for
    `structnet.storage.snapshot.load_snapshot`. inputs: a file or folder as for
    `structnet.data.preprocessing.read_inputs`. Raises UserError if a file cannot be read or does not fit the network.
    """
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


def _classify(network: StructNet, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Class number and its probability for each image, (images,) each."""
    classes = torch.empty(len(images), dtype=torch.int64)
    probability = torch.empty(len(images), dtype=torch.float64)
    with torch.no_grad():
        for start in range(0, len(images), BLOCK):
            block = slice(start, start + BLOCK)
            probability[block], classes[block] = network(images[block]).double().softmax(dim=1).max(dim=1)
    return classes, probability
