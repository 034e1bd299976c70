"""Cohort: many networks trained at once on the same batches.

On a CPU its members are trained in lock step (structnet.training.lockstep): each comes out with the same bits
as if it had been trained alone, whatever the shapes, number and order of its neighbours, and one that
diverges does no harm. Elsewhere they are joined to networks whose links are block-diagonal
(structnet.training.tile), as many in each as fit the memory, so that one product does for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import prod
from typing import Any

import numpy as np
import torch

from structnet.data.dataset import Split
from structnet.measure.diagnosis import unhealthy_units
from structnet.measure.imbalance import balanced_accuracy
from structnet.measure.size import multiply_adds, stored_bytes
from structnet.network.activations import activation_named
from structnet.network.architecture import Architecture, architecture_of, bias_count, unit_parameters
from structnet.network.block_normalisation import BLOCK
from structnet.network.propagation import flatten
from structnet.network.state import TrainState
from structnet.network.topology import Topology
from structnet.training.cohort_memory import first_bounds
from structnet.training.lockstep import Lockstep
from structnet.training.members import together
from structnet.training.out_of_memory import halved, retry_smaller
from structnet.training.recipe import Recipe
from structnet.training.tile import Tile

Part = Lockstep | Tile


@dataclass(frozen=True)
class CohortEvaluation:
    """Every member on one split: loss in nats and accuracies, (members,), log2_likelihood, (members, images)."""

    loss: np.ndarray
    accuracy: np.ndarray
    balanced_accuracy: np.ndarray
    log2_likelihood: np.ndarray


class Cohort:
    """Networks in training on the same batches, each with a learning rate of its own.

    states: the members; they must agree in inputs, classes, activation, kernel, steps and the options of the optimizer,
    in whether they normalise, and where they are joined in depth. rates: (members,) learning rates, multiplied by the
    schedule of `train`. The states are copied; `take` gives a member back.

    Raises ValueError for members that do not fit each other, or for none.
    """

    def __init__(self, states: Sequence[TrainState], rates: Sequence[float] | np.ndarray) -> None:
        _check_members(states, rates)
        self.step = states[0].step
        self.rates = np.array(rates, dtype=np.float64)
        self._bounds = first_bounds(states)
        self._make: Callable[[Sequence[TrainState]], Part] = (
            together if states[0].network.is_compiled else Tile
        )
        self.parts = self._made(states)

    def __len__(self) -> int:
        return len(self.rates)

    @property
    def parameters(self) -> np.ndarray:
        """(members,) connections that exist + biases."""
        return np.array([topology.parameters for topology in self.topologies])

    @property
    def bytes(self) -> list[int]:
        """What each member takes in its smallest form."""
        return [stored_bytes(topology) for topology in self.topologies]

    @property
    def macs(self) -> list[int]:
        """Multiply-adds of an image through each member."""
        return [multiply_adds(topology) for topology in self.topologies]

    @property
    def topologies(self) -> list[Topology]:
        """Of the members, in their order."""
        return [topology for part in self.parts for topology in part.topologies]

    def train(
        self, split: Split, recipe: Recipe, steps: int, schedule: Callable[[int], float]
    ) -> torch.Tensor:
        """Trains all members for so many steps; their losses, (members, steps), in nats, before L1.

        schedule: step -> factor on the learning rates of the members. A member that diverges has losses or
        values that are not finite (`diverged`), and goes on in vain until it is dropped. Where memory runs out, the
        cohort is halved, for good, and all is done again from the start.
        """
        undo = [part.undoing() for part in self.parts]

        def smaller() -> bool:
            nonlocal undo
            for put_back in undo:
                put_back()
            is_smaller = self._halve()
            undo = [part.undoing() for part in self.parts]
            return is_smaller

        def train() -> list[np.ndarray]:
            return [
                part.train(split, recipe, steps, schedule, self.step, shares=self.rates[start:stop])[0]
                for part, (start, stop) in zip(self.parts, pairwise(self._bounds))
            ]

        losses = retry_smaller(train, smaller)
        self.step += steps
        return torch.from_numpy(np.concatenate(losses))

    def diverged(self) -> np.ndarray:
        """(members,) booleans: some parameter is not finite."""
        return np.concatenate([part.diverged() for part in self.parts])

    def evaluate(self, split: Split) -> CohortEvaluation:
        """All members on every image of a split. Where the loss is not finite, the accuracy is NaN."""
        with np.errstate(over="ignore", invalid="ignore"):
            judged = retry_smaller(lambda: [part.judge(split) for part in self.parts], self._halve)
            joined = np.concatenate([part.log2_likelihood for part in judged])
            loss = -joined.mean(axis=1) * np.log(2)
        right = np.concatenate([part.right for part in judged])
        every, balanced = right.sum(axis=1) / len(split), balanced_accuracy(right, split.labels.cpu().numpy())
        known = np.isfinite(loss)
        return CohortEvaluation(
            loss, np.where(known, every, np.nan), np.where(known, balanced, np.nan), joined
        )

    def unhealthy_units(self, images: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Saturated and dead hidden units, each (members,), as `diagnose` finds them on these training images."""
        states = [self.take(member) for member in range(len(self))]
        inputs = flatten(images, states[0].network.values.dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            counts = np.array([unhealthy_units(state.network, inputs) for state in states])
        return counts[:, 0], counts[:, 1]

    def _halve(self) -> bool:
        """Cuts each part in two; False if all have a single member."""
        bounds = halved(self._bounds)
        if bounds == self._bounds:
            return False
        states = [self.take(member) for member in range(len(self))]
        self.parts, self._bounds = [], bounds
        self.parts = self._made(states)
        return True

    def _made(self, states: Sequence[TrainState]) -> list[Part]:
        return [self._make(states[start:stop]) for start, stop in pairwise(self._bounds)]

    def take(self, member: int) -> TrainState:
        """A member as an ordinary state of its own: it can be trained on, grown and saved."""
        for part, (start, stop) in zip(self.parts, pairwise(self._bounds)):
            if start <= member < stop:
                return part.take(member - start, self.step)
        raise IndexError(f"member {member} of a cohort of {len(self)}")

    def keep(self, members: Iterable[int]) -> Cohort:
        """A cohort of these members alone; what they compute and how they train on does not change."""
        chosen = list(members)
        return Cohort([self.take(member) for member in chosen], self.rates[chosen])

    def to_arrays(self) -> dict[str, Any]:
        """Plain arrays and numbers that `from_arrays` goes on from, to the bit."""
        states = [self.take(member).to_arrays() for member in range(len(self))]
        joined = ("source", "target", "values", "first", "second", "born")
        return _arrays_of_maps(states) | {
            "groups": np.array([len(state["architecture"]) for state in states], dtype=np.int64),
            "architectures": np.concatenate([state["architecture"] for state in states]),
            "connections": np.array([len(state["source"]) for state in states], dtype=np.int64),
            "rates": self.rates,
            "activation": states[0]["activation"],
            "kernel": states[0]["kernel"],
            "optimizer_step": states[0]["optimizer_step"],
            "optimizer_options": states[0]["optimizer_options"],
            "step": self.step,
            **{name: np.concatenate([state[name] for state in states]) for name in joined},
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any], device: torch.device | str = "cpu") -> Cohort:
        """The cohort that `to_arrays` took apart."""
        architectures = _architectures(arrays)
        connections = np.asarray(arrays["connections"]).tolist()
        numbers = len(activation_named(arrays["activation"]).shape)
        parameters = [
            count + unit_parameters(sizes, numbers) for count, sizes in zip(connections, architectures)
        ]
        lengths = {"source": connections, "target": connections} | dict.fromkeys(
            ("values", "first", "second", "born"), parameters
        )
        if "statistics" in arrays:
            lengths["statistics"] = [bias_count(sizes) for sizes in architectures]
        pieces = {
            name: np.split(np.asarray(arrays[name]), list(accumulate(counts))[:-1], axis=-1)
            for name, counts in lengths.items()
        }
        shared = {
            name: arrays[name]
            for name in ("activation", "kernel", "optimizer_step", "optimizer_options", "step")
        }
        states = [
            TrainState.from_arrays(
                {**shared, "architecture": sizes, **{name: pieces[name][index] for name in pieces}}, device
            )
            for index, sizes in enumerate(architectures)
        ]
        return cls(states, arrays["rates"])


def _arrays_of_maps(states: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """What `to_arrays` adds where there are feature maps.

    sides: (groups of all members, 2), is_flat: (groups of all members,), windows: (members,), and statistics, (2, units
    behind the input of all members), if they normalise.
    """
    shapes: list[Architecture] = [state["architecture"] for state in states]
    if not shapes[0].has_maps:
        return {}
    found = {
        "sides": np.array([side for shape in shapes for side in shape.sides], dtype=np.int64),
        "is_flat": np.array([group in shape.flat for shape in shapes for group in range(len(shape))]),
        "windows": np.array([shape.window for shape in shapes], dtype=np.int64),
    }
    if "statistics" in states[0]:
        found["statistics"] = np.concatenate([state["statistics"] for state in states], axis=1)
    return found


def _architectures(arrays: Mapping[str, Any]) -> list[Architecture]:
    """Of every member, from the arrays of a cohort."""
    stops = np.cumsum(arrays["groups"])[:-1]
    sizes = [part.tolist() for part in np.split(np.asarray(arrays["architectures"]), stops)]
    if "sides" not in arrays:
        return [Architecture(units) for units in sizes]
    sides, flat = (np.split(np.asarray(arrays[name]), stops) for name in ("sides", "is_flat"))
    return [
        Architecture(units, (tuple(side) for side in its.tolist()), int(window), np.flatnonzero(its_flat))
        for units, its, its_flat, window in zip(sizes, sides, flat, arrays["windows"])
    ]


def cohort_bytes(architecture: Sequence[int], connections: int) -> int:
    """About what a cohort on a CPU holds for a member, in float32.

    A parameter: its value, two moments, age, and int32 indices in two forms (the member's own, and those of the plan);
    with feature maps the plan has int64 rows instead, of both ends and in both directions. Joining members takes about
    as much again for a moment. The workspace is that of one member (`workspace_bytes`).
    """
    each = 104 if architecture_of(architecture).has_maps else 48
    return each * (connections + bias_count(architecture))


def workspace_bytes(architecture: Sequence[int]) -> int:
    """About what a training step of a network of feature maps writes into, in float32; 0 without maps: it is little.

    For a block of images every map with its border, and the views that links between neighbours read: activations,
    errors, and what maps are before their biases.
    """
    shape = architecture_of(architecture)
    if not shape.has_maps:
        return 0
    pairs = list(pairwise(range(len(shape))))
    border = shape.window // 2 * (1 + any(_sees_beyond(shape, pair) for pair in pairs))

    def sheet(group: int) -> int:
        high, wide = shape.sides[group]
        return 1 if shape.is_plain(group) else (high + 2 * border) * (wide + 2 * border)

    maps = shape.inputs + sum(shape[group] * sheet(group) for group in range(1, len(shape)))
    views = 0
    for source, target in pairs:
        strides = (1, 1) if shape.is_plain(target) else shape.geometry((source, target)).stride
        if source == 0 or shape.sides[source] != shape.sides[target]:
            views += shape[source] * sheet(target) * prod(min(shape.window, step) for step in strides)
    return 4 * BLOCK * (3 * maps + 2 * views)


def _sees_beyond(shape: Architecture, pair: tuple[int, int]) -> bool:
    """Whether steps do not cover a source evenly, so that windows see more of it than of the target's sides."""
    if shape.is_plain(pair[1]):
        return False
    (strides, starts), (source, target) = shape.geometry(pair), (shape.sides[group] for group in pair)
    along = zip(strides, starts, source, target)
    return any(start > 0 or size_in - 1 >= step * size_out for step, start, size_in, size_out in along)


def shared_by_members(state: TrainState) -> tuple[tuple[str, Any], ...]:
    """(name, value) of all that the members of a cohort must agree in."""
    sizes, adam = state.network.topology.architecture, state.optimizer
    return (
        ("kernel", state.network.kernel),
        # Compiled members need not be as deep as the others.
        ("groups", None if state.network.is_compiled else len(sizes)),
        ("inputs", sizes[0]),
        ("sides of the input", sizes.sides[0]),
        ("normalisation", state.network.statistics is not None),
        ("classes", sizes[-1]),
        ("activation", state.network.activation),
        ("number type", state.network.values.dtype),
        ("device", state.network.values.device),
        ("step", state.step),
        ("optimizer", (adam.step, adam.beta1, adam.beta2, adam.epsilon)),
    )


def _check_members(states: Sequence[TrainState], rates: Sequence[float] | np.ndarray) -> None:
    if not states or len(states) != len(rates):
        raise ValueError(f"{len(states)} networks and {len(rates)} learning rates, but one each is needed")

    for state in states[1:]:
        for (name, mine), (_, other) in zip(shared_by_members(states[0]), shared_by_members(state)):
            if mine != other:
                raise ValueError(
                    f"members of a cohort must have the same {name}, but have {mine} and {other}"
                )
