"""A classification task with a known answer: labels come from a small sparse network, the teacher.

A method that looks for the smallest network can be held against it: 108 connections and 16 biases compute
every label without error, and half of the inputs carry no information at all.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from structnet.data.dataset import Dataset, dataset_of
from structnet.data.preprocessing import column_preprocessing
from structnet.errors import UserError
from structnet.seeds import stream

INPUTS, RELEVANT_INPUTS, HIDDEN, CLASSES = 32, 16, 12, 4
FAN_IN = INPUTS // 4  # a quarter of the possible connections, in both layers; fan-out is CLASSES // 4 = 1
SPLIT_SIZES = {"train": 40_000, "validation": 5_000, "test": 5_000}

# What a draw must satisfy on the probe inputs. The shares are above what is promised (10 % per class, a unit
# that matters), so that the promise holds on every split and not only on the probe.
_PROBE_INPUTS = 20_000
_LEAST_CLASS_SHARE = 0.15
_LEAST_LABELS_CHANGED = 0.02


class Teacher(NamedTuple):
    """Weights, float32: `W1` (12, 32), `b1` (12,), `W2` (4, 12), `b2` (4,); absent connections are 0."""

    W1: np.ndarray
    b1: np.ndarray
    W2: np.ndarray
    b2: np.ndarray

    @property
    def architecture(self) -> list[int]:
        """Units per group, input first."""
        return [INPUTS, HIDDEN, CLASSES]

    @property
    def connections(self) -> int:
        """Connections that exist."""
        return int(np.count_nonzero(self.W1) + np.count_nonzero(self.W2))

    @property
    def parameters(self) -> int:
        """Connections and the biases of all hidden and output units."""
        return self.connections + HIDDEN + CLASSES

    @property
    def relevant_inputs(self) -> list[int]:
        """The inputs that are connected; the others have no influence on the label."""
        return [int(i) for i in np.flatnonzero(self.W1.any(axis=0))]

    def label(self, inputs: np.ndarray) -> np.ndarray:
        """The class of each row: (n, 32) -> (n,) int64."""
        classes: np.ndarray = self._logits(self._hidden(inputs)).argmax(axis=1)
        return classes

    def _hidden(self, inputs: np.ndarray) -> np.ndarray:
        # In float64, so that the label hardly depends on the order of a summation.
        hidden: np.ndarray = np.maximum(
            inputs.astype(np.float64) @ self.W1.T.astype(np.float64) + self.b1, 0.0
        )
        return hidden

    def _logits(self, hidden: np.ndarray) -> np.ndarray:
        logits: np.ndarray = hidden @ self.W2.T.astype(np.float64) + self.b2
        return logits


def teacher_network(teacher_seed: int = 0) -> Teacher:
    """The teacher of this seed: the same seed gives the same arrays.

    Every hidden unit reads 8 of the 16 relevant inputs and feeds one class; every class is fed by three
    units. A draw is repeated until each class has at least 15 % of the probe inputs, every relevant input is
    connected, and holding any one hidden unit at its mean changes at least 2 % of the labels, so no unit is
    redundant.

    Raises UserError when `teacher_seed` is negative.
    """
    if teacher_seed < 0:
        raise UserError(
            f"teacher_seed is {teacher_seed}, but must be 0 or more: it starts a random generator"
        )
    probe = stream(teacher_seed, "teacher-probe").standard_normal((_PROBE_INPUTS, INPUTS), dtype=np.float32)
    for attempt in itertools.count():
        teacher = _draw(stream(teacher_seed, "teacher-network", attempt), probe)
        if _is_sound(teacher, probe):
            return teacher
    raise AssertionError("unreachable")


def teacher_splits(teacher_seed: int = 0) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Split name -> inputs (n, 32) float32, standard normal, and labels (n,) int64, without label noise."""
    teacher = teacher_network(teacher_seed)
    splits = {}
    for name, size in SPLIT_SIZES.items():
        inputs = stream(teacher_seed, f"teacher-{name}").standard_normal((size, INPUTS), dtype=np.float32)
        splits[name] = (inputs, teacher.label(inputs))
    return splits


def _draw(rng: np.random.Generator, probe: np.ndarray) -> Teacher:
    relevant = rng.permutation(INPUTS)[:RELEVANT_INPUTS]
    first = np.zeros((HIDDEN, INPUTS))
    for unit in range(HIDDEN):
        first[unit, rng.choice(relevant, FAN_IN, replace=False)] = _weights(rng, FAN_IN) / np.sqrt(FAN_IN)
    second = np.zeros((CLASSES, HIDDEN))
    second[rng.permutation(HIDDEN) % CLASSES, np.arange(HIDDEN)] = _weights(rng, HIDDEN)
    first_bias = 0.3 * rng.standard_normal(HIDDEN)
    teacher = Teacher(
        first.astype(np.float32),
        first_bias.astype(np.float32),
        second.astype(np.float32),
        np.zeros(CLASSES, np.float32),
    )
    # Centred logits: otherwise the class with the most positive outgoing weights takes nearly every label.
    centre = teacher._logits(teacher._hidden(probe)).mean(axis=0)
    return teacher._replace(b2=(-centre).astype(np.float32))


def _weights(rng: np.random.Generator, count: int) -> np.ndarray:
    """Random signs and magnitudes in [0.5, 1.5]: none is so small that it could as well be absent."""
    return rng.choice([-1.0, 1.0], count) * rng.uniform(0.5, 1.5, count)


def _is_sound(teacher: Teacher, probe: np.ndarray) -> bool:
    if len(teacher.relevant_inputs) != RELEVANT_INPUTS:
        return False
    labels = teacher.label(probe)
    if np.bincount(labels, minlength=CLASSES).min() < _LEAST_CLASS_SHARE * len(probe):
        return False
    hidden = teacher._hidden(probe)
    for unit in range(HIDDEN):
        without = hidden.copy()
        without[:, unit] = hidden[:, unit].mean()
        if (teacher._logits(without).argmax(axis=1) != labels).mean() < _LEAST_LABELS_CHANGED:
            return False
    return True


def load(name: str, *, data_dir: str | None, standardise: bool | None, teacher_seed: int) -> Dataset:
    """The task of this teacher: standard normal inputs, left as they are unless standardised; data_dir is ignored."""
    raw = teacher_splits(teacher_seed)
    inputs = raw["train"][0]
    columns = [f"input_{i}" for i in range(inputs.shape[1])]
    names = ("0", "1", "2", "3")
    if standardise:
        mean, deviation = inputs.mean(axis=0, dtype=np.float64), inputs.std(axis=0, dtype=np.float64)
        return dataset_of(name, raw, column_preprocessing(columns, mean, deviation, names, "standardised"))
    zero, one = np.zeros(len(columns)), np.ones(len(columns))
    return dataset_of(name, raw, column_preprocessing(columns, zero, one, names, "none"))
