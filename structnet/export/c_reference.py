"""Raw values that a network can be tested on where no data is at hand."""

from __future__ import annotations

from typing import Any

import numpy as np

from structnet.data.tables import Column
from structnet.export.c_inputs import coded
from structnet.export.int8_network import IntegerNetwork
from structnet.export.model import Model

CANDIDATES = 64  # for each raw input of a table in int8


def reference_inputs(model: Model, count: int, integers: IntegerNetwork | None = None) -> np.ndarray:
    """Raw values, float64 (count, *raw_shape), that single precision holds; the same ones each time.

    Pixels are whole numbers. Of a table and its integers those are taken whose codes lie furthest from where rounding
    decides, because that is not the same for every machine.
    """
    rng = np.random.default_rng(0)
    if model.preprocessing["kind"] == "image":
        most = int(model.preprocessing["full_scale"])
        return rng.integers(0, most + 1, (count, *model.raw_shape)).astype(np.float64)
    raw = _rows(model.preprocessing, count if integers is None else CANDIDATES * count, rng)
    if integers is not None:
        raw = raw[np.argsort(-clearance(model, integers, raw), kind="stable")[:count]]
    return raw


def clearance(model: Model, integers: IntegerNetwork, raw: np.ndarray) -> np.ndarray:
    """(n,) how far the codes of raw values, (n, columns), are at least from where rounding decides, from 0 to 0.5.

    Of inputs that a connection reads.
    """
    topology, inputs = integers.topology, integers.topology.architecture.inputs
    is_map = topology.architecture.has_maps
    read = np.arange(inputs) if is_map else np.unique(topology.source[topology.source < inputs])
    exact = coded(model.preprocessing, integers.input_codes, raw)[:, read]
    found: np.ndarray = np.abs(exact - np.floor(exact) - 0.5).min(axis=1, initial=0.5)
    return found


def _rows(preprocessing: dict[str, Any], count: int, rng: np.random.Generator) -> np.ndarray:
    if preprocessing["kind"] == "columns":
        columns = len(preprocessing["columns"])
        raw = np.array(preprocessing["offset"]) + rng.random((count, columns)) * preprocessing["scale"]
    else:
        raw = np.stack([_column(column, count, rng) for column in preprocessing["columns"]], axis=1)
    single: np.ndarray = raw.astype(np.float32)
    return single.astype(np.float64)


def _column(column: Column, count: int, rng: np.random.Generator) -> np.ndarray:
    """Values that are typical of a column, one in ten of them missing."""
    if column["kind"] == "number":
        values = column["offset"] + column["scale"] * rng.standard_normal(count)
        if column["power"] is not None:
            values = _untransformed(values, column["power"], column["fill"])
    else:
        values = rng.integers(0, len(column["categories"]) + 1, count).astype(np.float64)
    return np.where(rng.random(count) < 0.1, np.nan, values)


def _untransformed(values: np.ndarray, power: float, otherwise: float) -> np.ndarray:
    """What the transform of Yeo and Johnson makes these of; another value where there is none."""
    sign = np.where(values < 0, -1.0, 1.0)
    own = np.where(values < 0, 2 - power, power)
    with np.errstate(all="ignore"):
        level = np.where(own == 0, np.abs(values), np.log1p(own * np.abs(values)) / own)
        found = sign * np.expm1(level)
    # Beyond it nothing is typical.
    return np.where(np.isfinite(found) & (np.abs(found) < 1e9), found, otherwise)
