"""Networks of feature maps on raw values, for tests of exports."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from helpers.c_cases import ROWS, Case, calibrated, model_of
from helpers.map_networks import random_map_network

from structnet.export.model import Model
from structnet.network.architecture import Architecture

ACTIVATIONS = ("relu", "tanh", "sigmoid")
SCALINGS = ("unit", "of sixteen", "standardised", "columns")
CALIBRATION = 40


def preprocessing_of(shape: Architecture, scaling: str) -> dict[str, Any]:
    """Of images whose channels are the maps of the input, or of columns, a pixel each."""
    rng = np.random.default_rng(0)
    if scaling == "columns":
        names = [f"pixel {number}" for number in range(shape.inputs)]
        numbers = {"offset": [0.1] * shape.inputs, "scale": [1.5] * shape.inputs}
        return {"kind": "columns", "shape": [shape.inputs], "columns": names} | numbers
    offset, scale, full_scale = [0.0] * shape[0], [255.0] * shape[0], 255.0
    if scaling == "of sixteen":
        scale, full_scale = [16.0] * shape[0], 16.0
    elif scaling == "standardised":
        offset, scale = (rng.random(shape[0]) * 120).tolist(), (40 + 30 * rng.random(shape[0])).tolist()
    about = {"kind": "image", "shape": [shape[0], *shape.sides[0]], "full_scale": full_scale}
    return about | {"offset": offset, "scale": scale}


def raw_for(model: Model, count: int, rng_seed: int = 0) -> np.ndarray:
    """Whole pixels, or columns around 0; float64 that single precision holds."""
    rng = np.random.default_rng(rng_seed)
    if model.preprocessing["kind"] == "columns":
        return rng.random((count, *model.raw_shape)).astype(np.float32).astype(np.float64)
    most = int(model.preprocessing["full_scale"])
    return rng.integers(0, most + 1, (count, *model.raw_shape)).astype(np.float64)


@cache
def map_case(rng_seed: int, *, in_integers: bool = False) -> Case:
    """A random network: every activation and every scaling in turn, with statistics or without."""
    rng = np.random.default_rng(rng_seed)
    activation, scaling = ACTIVATIONS[rng_seed % 3], SCALINGS[rng_seed // 3 % 4]
    network = random_map_network(rng, activation=activation)
    model = model_of(network, preprocessing_of(network.topology.architecture, scaling))
    raw = raw_for(model, ROWS + CALIBRATION, rng_seed)
    # What scales were not taken from may lie beyond them.
    return Case(model, raw[:ROWS], calibrated(model, raw[ROWS:]) if in_integers else None)
