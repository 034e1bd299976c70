"""A network as one safetensors file: its arrays, and as metadata what they mean. The layout is in docs/EXPORT.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save

from structnet.data.tables import table_inputs
from structnet.export import numpy_maps, numpy_network
from structnet.export.arrays import arrays_of, groups_of, links_of, maps_of, raw_described
from structnet.export.model import Model, Written
from structnet.network.structure_arrays import architecture_in, structure_arrays, topology_in

FORMAT, FORMAT_VERSION = "structnet export", "1"


def write(model: Model, folder: Path) -> Written:
    """Writes NAME.safetensors."""
    file = folder / f"{model.name}.safetensors"
    network = model.network
    arrays = structure_arrays(network.topology) | arrays_of(network)
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
    architecture = architecture_in(arrays)
    topology, activation = topology_in(arrays, architecture), getattr(numpy_network, metadata["activation"])
    inputs, values, biases = _inputs(raw, preprocessing), arrays["values"], arrays["biases"]
    source, target = arrays["source"], arrays["target"]
    if architecture.has_maps:
        groups, links = (list(map(tuple, of(topology))) for of in (maps_of, links_of))
        weights = numpy_maps.kernels(groups, links, values, source, arrays["offset"], target)
        return numpy_maps.propagate_maps(inputs, groups, links, weights, biases, activation)
    groups = [tuple(group) for group in groups_of(topology)]
    weights = numpy_network.matrices(groups, values, source, target)
    shapes = arrays.get("shapes", np.empty((sum(architecture[1:-1]), 0), np.float32))
    return numpy_network.propagate(inputs, groups, weights, biases, shapes, activation)


def _inputs(raw: np.ndarray, preprocessing: dict[str, Any]) -> np.ndarray:
    if preprocessing["kind"] == "table":
        return table_inputs(raw, preprocessing["columns"])
    if preprocessing["kind"] == "columns":
        return numpy_network.number_inputs(raw, preprocessing)
    return numpy_network.image_inputs(raw, preprocessing)
