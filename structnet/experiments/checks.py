"""Checks of data and of a network before an experiment: what was measured, what it must be, what to do.

First the data (labels, duplicates, the range of the inputs, preprocessing), then the network (gradient flow,
units, remapping). Of the test split only the inputs are read, never the labels: they are
for the end of an experiment.
"""

from __future__ import annotations

import hashlib
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from structnet.data.columns import raw_values as columns_as_stored
from structnet.data.dataset import Dataset, Split
from structnet.data.new_inputs import read_inputs
from structnet.data.preprocessing import preprocess
from structnet.data.tables import input_count
from structnet.measure.diagnosis import Diagnosis
from structnet.network.architecture import hidden_units
from structnet.network.network import StructNet
from structnet.network.remap import from_sequential, to_sequential
from structnet.network.topology import Topology
from structnet.storage.snapshot import load_snapshot

MOST_DUPLICATES = 0.01  # share of a split that may also be in the training split
LEAST_SPREAD, LARGEST_SPREAD = 0.01, 10.0
LARGEST_SHIFT = 0.25  # of the mean of a split, in training spreads
TELLS = 0.99  # share of validation labels that a single column says
COLUMN_PARTS = 32
SPREAD_FACTOR = 2.0  # between the spreads of two splits
MOST_CONSTANT = 0.5  # share of the inputs
# Share of a hidden group. A unit with a single negative weight on inputs that are never negative is dead, so in a
# healthy seed with one or two connections per unit half of them can be.
MOST_IDLE = 0.75
COMPARED_IMAGES = 200  # of validation, through a file and through other keys


@dataclass(frozen=True)
class Check:
    """One thing to know before an experiment: what was measured, what it must be, and what to do otherwise."""

    name: str
    passed: bool
    value: str
    rule: str
    advice: str


# The data


def classes_present(data: Dataset) -> Check:
    """Whether training and validation have images of every class."""
    shown, least = [], []
    for name, split in (("training", data.train), ("validation", data.validation)):
        counts = torch.bincount(split.labels, minlength=data.classes)
        rarest = int(counts.argmin())
        shown.append(f"{int(counts[rarest]):,} of class {data.class_names[rarest]} in {name}")
        least.append(int(counts[rarest]))
    return Check(
        "every class has images",
        min(least) > 0,
        f"fewest: {', '.join(shown)}",
        "at least one of every class to train and to validate",
        "mix the rows before they are split, or leave out classes without images",
    )


def no_duplicates(data: Dataset) -> Check:
    """Whether validation and test images are new: how many are in the training split, number for number."""
    known = set(_hashes(data.train.stored))
    shown, shares = [], []
    for name, images in (("validation", data.validation.stored), ("test", data.test.stored)):
        doubled = sum(image in known for image in _hashes(images))
        shown.append(f"{doubled:,} of {len(images):,} {name} images")
        shares.append(doubled / max(1, len(images)))
    return Check(
        "no duplicates between the splits",
        max(shares) <= MOST_DUPLICATES,
        ", ".join(shown),
        f"at most {MOST_DUPLICATES:.0%} of each are also training images",
        "remove the duplicates: accuracy on images that were trained on says nothing",
    )


def _hashes(images: torch.Tensor) -> list[bytes]:
    """One for each image, equal where all numbers are (Blake2b, 128 bits)."""
    # Adding 0 turns -0.0 into 0.0, which is the same number in other bytes.
    flat = images.reshape(len(images), -1).cpu()
    rows = np.ascontiguousarray((flat + 0.0 if flat.is_floating_point() else flat).numpy())
    return [hashlib.blake2b(row, digest_size=16).digest() for row in rows]


class Moments(NamedTuple):
    """Of all values of a split; none is finite where a value is not."""

    least: float
    largest: float
    mean: float
    spread: float


def moments(split: Split) -> Moments:
    """Range, mean and standard deviation over all inputs of all images of a split."""
    images = split.images
    # In 64 bits, but a block at a time: all images at once could be more than fits.
    mean = sum(float(block.double().sum()) for block in torch.split(images, 5_000)) / images.numel()
    squares = sum(float((block.double() - mean).square().sum()) for block in torch.split(images, 5_000))
    return Moments(float(images.min()), float(images.max()), mean, math.sqrt(squares / images.numel()))


def inputs_in_range(data: Dataset) -> Check:
    """Whether the training inputs are finite and of a size that a learning rate is made for."""
    found = moments(data.train)
    return Check(
        "inputs are in range",
        LEAST_SPREAD <= found.spread <= LARGEST_SPREAD,
        f"training {found.least:.3g} to {found.largest:.3g}, spread {found.spread:.3g}",
        f"finite, with a spread of {LEAST_SPREAD:g} to {LARGEST_SPREAD:g}",
        "use --standardise, or remove outliers from the training rows",
    )


def splits_alike(data: Dataset) -> Check:
    """Whether the inputs of validation and test are distributed as those of training, by mean and spread."""
    training, shown, alike = moments(data.train), [], True
    for name, split in (("validation", data.validation), ("test", data.test)):
        found = moments(split)
        shift = abs(found.mean - training.mean) / max(training.spread, 1e-30)
        ratio = found.spread / max(training.spread, 1e-30)
        alike = alike and shift <= LARGEST_SHIFT and 1 / SPREAD_FACTOR <= ratio <= SPREAD_FACTOR
        shown.append(
            f"{name} {found.least:.3g} to {found.largest:.3g}, {found.mean:.3g} ± {found.spread:.3g}"
        )
    return Check(
        "splits are alike",
        alike,
        f"training {training.mean:.3g} ± {training.spread:.3g}; {'; '.join(shown)}",
        f"means within {LARGEST_SHIFT:g} training spreads, spreads within a factor of {SPREAD_FACTOR:g}",
        "shuffle the rows before they are split, and prepare all splits in one way",
    )


def inputs_vary(data: Dataset) -> Check:
    """Whether enough inputs say anything: a constant one cannot be learnt from."""
    flat = data.train.stored.flatten(1)
    constant = int((flat == flat[0]).all(dim=0).sum())
    return Check(
        "inputs vary",
        constant <= MOST_CONSTANT * flat.shape[1],
        f"{constant:,} of {flat.shape[1]:,} inputs are constant in training",
        f"at most {MOST_CONSTANT:.0%}",
        "leave constant columns out or crop the images; check that the files were read as they should be",
    )


def preprocessing_replicates(network: StructNet, data: Dataset) -> Check:
    """Whether what a snapshot stores turns raw values into the same inputs, and those into the same logits.

    The inputs are turned back into raw values, written to a file and read as `predict` would read it. Pixels
    are whole numbers, so they come back to the bit; columns to the rounding of a 32-bit number. Of a table, whose
    inputs do not say what they were made of, rows are made up.
    """
    network = network.fork().cpu()
    if data.preprocessing["kind"] == "table":
        columns, images = made_up_rows(data.preprocessing)
    else:
        images = data.validation.images[:COMPARED_IMAGES].cpu()
        raw = raw_values(images, data.preprocessing).reshape(len(images), -1)
        names = data.preprocessing.get("columns") or [f"value_{index}" for index in range(raw.shape[1])]
        columns = dict(zip(names, raw.T))
    with tempfile.TemporaryDirectory() as folder:
        rows, snapshot = str(Path(folder) / "rows.parquet"), str(Path(folder) / "network")
        pq.write_table(pa.table(columns), rows)
        network.save(snapshot, preprocessing=data.preprocessing, class_names=data.class_names)
        loaded = load_snapshot(snapshot)
        again = read_inputs(rows, loaded.preprocessing).inputs
    apart = float(((again - images).abs() / images.abs().clamp_min(1)).max())
    allowed = 0.0 if data.preprocessing["kind"] == "image" else 1e-6
    with torch.no_grad():
        same_logits = torch.equal(loaded.state.network(images), network(images))
    return Check(
        "preprocessing replicates",
        loaded.fingerprint == data.fingerprint and apart <= allowed and same_logits,
        f"fingerprint {loaded.fingerprint[:12]}…, largest difference {apart:.2g} over {len(images)} images",
        f"same fingerprint and logits, inputs apart by at most {allowed:g}",
        "the preprocessing is no longer that of the data: load the dataset again, and save with its preprocessing",
    )


def made_up_rows(preprocessing: dict[str, Any]) -> tuple[dict[str, list[Any]], torch.Tensor]:
    """Rows of a table, column after column, with every category and missing value, and the inputs they make."""
    columns = preprocessing["columns"]
    rows = 1 + max(
        [3, *(len(column["categories"]) + 1 for column in columns if column["kind"] == "category")]
    )
    values: dict[str, list[Any]] = {}
    for column in columns:
        if column["kind"] == "number":
            steps = column["fill"] + np.linspace(-1, 1, rows) * (
                column["scale"] if column["power"] is None else 1
            )
            known = [float(value) for value in steps]
        else:
            known = [column["categories"][row % len(column["categories"])] for row in range(rows)]
        values[column["name"]] = [*known[:-1], None] if column["missing"] else known
    table = pa.table({name: pa.array(cells) for name, cells in values.items()})
    return values, preprocess(columns_as_stored(table, columns, Path("rows")), preprocessing)


def no_column_tells(data: Dataset) -> Check:
    """Whether no column of a table says the label by itself, as one does that was made from it.

    Each is cut into 32 parts with as many training rows; what it says on validation is the commonest label of a part.
    """
    names, told = told_by_columns(data)
    best = int(told.argmax())
    tells = [repr(name) for name, share in zip(names, told) if share >= TELLS]
    return Check(
        "no column tells the label",
        not tells,
        f"{names[best]!r} alone is right on {told[best]:.1%}",
        f"below {TELLS:.0%} on validation",
        f"remove what is known only with the label ({', '.join(tells)}), unless it is known when the network is used",
    )


def told_by_columns(data: Dataset) -> tuple[list[str], np.ndarray]:
    """The columns of a table, and the share of validation labels that each says alone."""
    columns = data.preprocessing["columns"]
    train, judged = (split.images.flatten(1).cpu().numpy() for split in (data.train, data.validation))
    known, expected = data.train.labels.cpu().numpy(), data.validation.labels.cpu().numpy()
    found, at = [], 0
    for column in columns:
        inputs = 1 if isinstance(column, str) else input_count([column])
        here = slice(at, at + inputs)
        at += inputs
        parts = _parts(train[:, here], judged[:, here])
        votes = np.zeros((int(max(part.max() for part in parts)) + 1, data.classes))
        np.add.at(votes, (parts[0], known), 1)
        found.append(float((votes.argmax(axis=1)[parts[1]] == expected).mean()))
    names = [column if isinstance(column, str) else str(column["name"]) for column in columns]
    return names, np.array(found)


def _parts(train: np.ndarray, judged: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which part of a column each row is in: by its value, or by which of several inputs is largest."""
    if train.shape[1] > 2:
        return train.argmax(axis=1), judged.argmax(axis=1)
    edges = np.unique(np.quantile(train[:, 0], np.linspace(0, 1, COLUMN_PARTS + 1)[1:-1]))
    return np.searchsorted(edges, train[:, 0]), np.searchsorted(edges, judged[:, 0])


def raw_values(images: torch.Tensor, preprocessing: dict[str, Any]) -> np.ndarray:
    """What `preprocess` was given for these inputs, float64 of the same shape; pixels as whole numbers."""
    values = images.double().numpy()
    offset, scale = np.array(preprocessing["offset"]), np.array(preprocessing["scale"])
    if preprocessing["kind"] == "columns":
        raw: np.ndarray = values * scale + offset
        return raw
    pixels: np.ndarray = np.round(values * scale[:, None, None] + offset[:, None, None])
    return pixels


# The network


def gradient_flows(diagnosis: Diagnosis, moment: str) -> Check:
    """Whether every two neighbouring groups are linked and no link's gradient vanishes or explodes."""
    groups = range(diagnosis.topology.groups - 1)
    missing = [group for group in groups if (group, group + 1) not in diagnosis.topology.links]
    norms = ", ".join(f"{a}→{b} {norm:.2g}" for (a, b), norm in diagnosis.gradient_norms.items())
    problems = [f"no link {group}→{group + 1}" for group in missing] + diagnosis.warnings
    problems += [] if math.isfinite(diagnosis.loss) else ["the loss is not finite"]
    return Check(
        f"gradient flows {moment}",
        not problems,
        "; ".join(problems) or f"norms {norms}",
        "every layer is linked; gradient norm above 1e-6 and at most 10 × the median",
        "use fewer layers, a higher --density, or another --learning-rate",
    )


def units_are_reached(diagnosis: Diagnosis, moment: str) -> Check:
    """Whether the units lie on paths from input to output, and a gradient reaches them."""
    topology = diagnosis.topology
    idle = ~on_a_path(topology)
    for group in range(1, topology.groups):
        error = diagnosis.errors[group]
        here = topology.units_of(group)
        idle[here] |= True if error is None else (error == 0).all(dim=1).cpu().numpy()
    counts = [int(idle[topology.units_of(group)].sum()) for group in range(1, topology.groups)]
    return Check(
        f"units are reached {moment}",
        counts[-1] == 0 and _within(counts[:-1], topology),
        f"{sum(counts)} of {topology.bias_count} units have no path or no gradient",
        f"all outputs and at least {1 - MOST_IDLE:.0%} of each hidden group have both",
        "raise --density, choose --allocation proportional, or lower --learning-rate",
    )


def units_respond(diagnosis: Diagnosis, moment: str) -> Check:
    """Whether the hidden units tell images apart: most are not dead, and most are not saturated."""
    topology = diagnosis.topology
    dead = _by_hidden_group(diagnosis.dead, topology)
    saturated = _by_hidden_group(diagnosis.saturated, topology)
    return Check(
        f"units respond {moment}",
        _within(dead, topology) and _within(saturated, topology),
        f"{sum(dead)} dead, {sum(saturated)} saturated of {hidden_units(topology.architecture)} hidden units",
        f"at most {MOST_IDLE:.0%} of each hidden group are dead, and at most as many saturated",
        "raise --density, lower --learning-rate, or bring the inputs to a common scale with --standardise",
    )


def _by_hidden_group(units: np.ndarray, topology: Topology) -> list[int]:
    counts: list[int] = np.bincount(topology.group_of(units), minlength=topology.groups).tolist()
    return counts[1:-1]


def on_a_path(topology: Topology) -> np.ndarray:
    """(units,) booleans: whether a way leads from some input through the unit to some output."""
    from_input = np.zeros(topology.units, dtype=bool)
    to_output = from_input.copy()
    from_input[topology.units_of(0)] = True
    to_output[topology.units_of(topology.groups - 1)] = True
    # Links come in the order of their target groups, so what ends at a group is known before it starts there.
    links = list(topology.links.values())
    for span in links:
        source, target = topology.source_unit[span], topology.target[span]
        from_input[target[from_input[source]]] = True
    for span in reversed(links):
        source, target = topology.source_unit[span], topology.target[span]
        to_output[source[to_output[target]]] = True
    return from_input & to_output


def keys_remap(network: StructNet, images: torch.Tensor) -> Check:
    """Whether a plain nn.Sequential computes the same logits, and the network made from its keys as well.

    With feature maps the network is made from the module, as keys do not say how its layers lie on the images.
    """
    # In 64 bits, where the order of a sum does not matter, a wrong key does.
    network, images = network.fork().double(), images[:COMPARED_IMAGES].double()
    plain, shape = to_sequential(network).eval(), network.topology.architecture
    if shape.has_maps:
        images = images.reshape(len(images), shape[0], *shape.sides[0])
        back = from_sequential(plain, activation=network.activation, example_shape=images.shape[1:])
    else:
        keys = {f"model.{key}": value for key, value in plain.state_dict().items()}
        back = from_sequential(keys, activation=network.activation)
    with torch.no_grad():
        logits, there, again = network(images), plain(images), back(images)
    apart = float(torch.stack([there - logits, again - logits]).abs().max())
    allowed = 1e-9 * max(1.0, float(logits.abs().max()))
    return Check(
        "keys remap to nn.Sequential and back",
        apart <= allowed,
        f"logits apart by {apart:.2g} over {len(images)} images",
        f"at most {allowed:.2g}",
        "keep to snapshots instead of plain state dicts, and report this with the architecture",
    )


def _within(idle: Sequence[int], topology: Topology) -> bool:
    """idle: how many units of each hidden group do nothing."""
    hidden = topology.architecture[1:-1]
    return all(count <= MOST_IDLE * units for count, units in zip(idle, hidden))
