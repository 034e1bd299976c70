"""A network as one safetensors file: its arrays, and as metadata what they mean. The layout is in docs/EXPORT.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save

from structnet.data.tables import table_inputs
from structnet.export import numpy_network
from structnet.export.arrays import arrays_of, groups_of, raw_described
from structnet.export.model import Model, Written
from structnet.network.architecture import architecture_of
from structnet.network.topology import Topology

FORMAT, FORMAT_VERSION = "structnet export", "1"


def write(model: Model, folder: Path) -> Written:
    """Writes NAME.safetensors."""
    file = folder / f"{model.name}.safetensors"
    network = model.network
    arrays = {"architecture": np.array(network.architecture, np.int64)} | arrays_of(network)
    metadata = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "activation": network.activation,
        "preprocessing": json.dumps(model.preprocessing, ensure_ascii=False, allow_nan=False),
        "class_names": json.dumps(list(model.class_names), ensure_ascii=False),
    }
    file.write_bytes(save(arrays, metadata))
    names = ", ".join(sorted(arrays))
    lines = [
        f"Arrays {names}; metadata {', '.join(metadata)}.",
        f"The network takes {raw_described(model)}, as `preprocessing` makes inputs of them.",
    ]
    return Written([file], lines, run=lambda raw: logits(file, raw))


def logits(file: Path, raw: np.ndarray) -> np.ndarray:
    """What the file says of raw values, by nothing but what is in it: float32 (n, classes)."""
    arrays = load_file(file)
    with safe_open(file, "np") as opened:
        metadata: dict[str, str] = opened.metadata()
    preprocessing: dict[str, Any] = json.loads(metadata["preprocessing"])
    architecture = arrays["architecture"].tolist()
    groups = [
        tuple(group)
        for group in groups_of(Topology(architecture_of(architecture), arrays["source"], arrays["target"]))
    ]
    weights = numpy_network.matrices(groups, arrays["values"], arrays["source"], arrays["target"])
    shapes = arrays.get("shapes", np.empty((sum(architecture[1:-1]), 0), np.float32))
    activation = getattr(numpy_network, metadata["activation"])
    inputs = _inputs(raw, preprocessing)
    return numpy_network.propagate(inputs, groups, weights, arrays["biases"], shapes, activation)


def _inputs(raw: np.ndarray, preprocessing: dict[str, Any]) -> np.ndarray:
    if preprocessing["kind"] == "table":
        return table_inputs(raw, preprocessing["columns"])
    if preprocessing["kind"] == "columns":
        return numpy_network.number_inputs(raw, preprocessing)
    return numpy_network.image_inputs(raw, preprocessing)
