"""Small networks and raw values for tests of exports: every activation, skips, groups that nothing leads to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from structnet.data.tables import input_count
from structnet.export.model import Model
from structnet.network.activations import ACTIVATIONS
from structnet.network.network import StructNet
from structnet.network.state import TrainState
from structnet.network.topology import Topology
from structnet.storage.snapshot import save_snapshot
from structnet.storage.tables import TableWriter

NAMES = ['no "way"', "può"]  # such as files of Python and JSON have to quote
IMAGE = {
    "kind": "image",
    "shape": [2, 2, 3],
    "scaling": "standardised",
    "full_scale": 255.0,
    "offset": [100.0, 40.0],
    "scale": [50.0, 20.0],
    "class_names": NAMES,
}
COLUMNS = {
    "kind": "columns",
    "shape": [4],
    "scaling": "unit",
    "columns": ["a", "b", "c", "d"],
    "offset": [0.0, 2e4, -0.5, 0.1],
    "scale": [1.0, 1e3, 0.1, 3.0],
    "class_names": NAMES,
}


def number(
    name: str, *, missing: bool = False, power: float | None = None, unit: float = 1.0
) -> dict[str, Any]:
    """A column of numbers around the unit, as its preprocessing says it."""
    return {
        "name": name,
        "kind": "number",
        "fill": 0.5 * unit,
        "missing": missing,
        "power": power,
        "offset": 0.25 * unit,
        "scale": unit,
    }


def texts(name: str, categories: list[str], *, other: bool, missing: bool) -> dict[str, Any]:
    """A column of texts."""
    binary = len(categories) == 2 and not other and not missing
    return {
        "name": name,
        "kind": "category",
        "categories": categories,
        "other": other,
        "missing": missing,
        "binary": binary,
    }


TABLE_COLUMNS = [
    number("plain"),
    texts("colour", ["red", "green", "blue"], other=True, missing=True),
    number("holes", missing=True, power=-1.3),
    number("logarithm", power=0.0),
    number("square", power=2.0, unit=3.0),
    texts("known", ["false", "true"], other=False, missing=False),
    number("tiny", power=0.4, unit=1e-12),
    texts("half", ["x", "y"], other=False, missing=True),
]
TABLE = {
    "kind": "table",
    "shape": [input_count(TABLE_COLUMNS)],
    "scaling": "standardised",
    "columns": TABLE_COLUMNS,
    "label": "label",
    "keys": [],
    "class_names": NAMES,
}
# Nothing but texts, and nothing but a number: parts of a table that are not there.
ONLY_TEXTS = TABLE | {"shape": [3], "columns": [texts("only", ["p", "q", "r"], other=False, missing=False)]}
ONE_NUMBER = TABLE | {"shape": [1], "columns": [number("only")]}


def network(
    sizes: list[int], pairs: list[tuple[int, int]], activation: str, rng_seed: int = 0, density: float = 0.6
) -> StructNet:
    """Random connections in these links, and random values that are not small."""
    rng = np.random.default_rng(rng_seed)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    source, target = [np.empty(0, int)], [np.empty(0, int)]
    for first, second in pairs:
        cells = np.flatnonzero(rng.random(sizes[first] * sizes[second]) < density)
        source.append(offsets[first] + cells % sizes[first])
        target.append(offsets[second] + cells // sizes[first])
    numbers = len(ACTIVATIONS[activation].shape)
    topology, _ = Topology.sorted(sizes, np.concatenate(source), np.concatenate(target), numbers)
    values = rng.normal(size=topology.parameters).astype(np.float32)
    return StructNet.from_parts(topology, torch.from_numpy(values), activation=activation)


def cases(kind: dict[str, Any]) -> list[Model]:
    """Networks on raw values of this preprocessing.

    Each activation with skips; then a hidden group, units and an output that nothing leads to; and no hidden group.
    """
    inputs = int(np.prod(kind["shape"]))
    skips = [(0, 1), (1, 2), (2, 3), (0, 3), (1, 3)]
    networks = [
        *(network([inputs, 4, 3, 2], skips, activation) for activation in ACTIVATIONS),
        network([inputs, 4, 3, 2], [(1, 3)], "relu"),
        network([inputs, 5, 2], [(0, 1), (1, 2)], "sigmoid", density=0.2),
        network([inputs, 3, 2], [(0, 1)], "tanh"),
        network([inputs, 2], [(0, 1)], "srelu", density=1.0),
    ]
    return [Model("case", one, kind, tuple(NAMES)) for one in networks]


def raw_values(kind: dict[str, Any], count: int, rng_seed: int = 0) -> np.ndarray:
    """Raw values of this preprocessing, with whatever can be in them: texts that are not known, and none."""
    rng = np.random.default_rng(rng_seed)
    if kind["kind"] == "image":
        return rng.integers(0, 256, (count, *kind["shape"]), dtype=np.uint8)
    if kind["kind"] == "columns":
        return rng.normal(size=(count, len(kind["columns"]))) * kind["scale"] + kind["offset"]
    made = []
    for column in kind["columns"]:
        if column["kind"] == "number":
            values = 2 * column["scale"] * rng.normal(size=count)
        else:
            values = rng.integers(0, len(column["categories"]) + 1, count).astype(float)
        made.append(np.where(rng.random(count) < 0.3, np.nan, values))
    return np.stack(made, axis=1)


def stored(
    results: Path, name: str, grown: StructNet, preprocessing: dict[str, Any], trial: str = "", **config: Any
) -> str:
    """A snapshot as an experiment of this name leaves it, and the row that says its options; where the snapshot is."""
    from json import dumps

    row = {"trial": trial, "command": "grow", "status": "finished", "config": dumps(config)}
    TableWriter(str(results), name).write("experiments", trial or "run", [row])
    place = str(results / "snapshots" / name / trial / "round-0001")
    save_snapshot(
        place, TrainState.fresh(grown), preprocessing=preprocessing, class_names=preprocessing["class_names"]
    )
    return place
