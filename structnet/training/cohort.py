"""Cohort: many networks trained at once, as one network whose links are block-diagonal.

Networks of the same depth are joined group by group: the hidden units of all of them lie side by side in one
group, and each connection stays within its network, so one pass of the ordinary kernels trains all of them
on the same batches. A row of a sparse product is summed in the same order wherever it lies, and everything
else is done unit by unit or parameter by parameter; so on a CPU a network comes out of a cohort with the same
bits as if it had been trained alone, whoever its neighbours were, and a neighbour that diverges does no harm.

A cohort is cut into tiles of neighbouring members (structnet.training.tile): the batch is made once and passed
through one tile after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import torch

from structnet.data.dataset import Split
from structnet.network.state import TrainState
from structnet.network.topology import Topology, bias_count
from structnet.training.loop import Recipe, columns, training_batch
from structnet.training.out_of_memory import halved, retry_smaller
from structnet.training.tile import Tile, tile_bounds

# Images of one pass of evaluation; a multiple of every vector width, so that an image is computed in the same
# way in blocks of any such length.
EVALUATED_AT_ONCE = 512


@dataclass(frozen=True)
class CohortEvaluation:
    """Every member on one split: loss in nats and accuracy, (members,), log2_likelihood, (members, images)."""

    loss: np.ndarray
    accuracy: np.ndarray
    log2_likelihood: np.ndarray


class Cohort:
    """Networks of one depth in training on the same batches, each with a learning rate of its own.

    states: the members; they must agree in depth, inputs, classes, activation, kernel, steps and the options
    of the optimizer. On a CPU the kernel `auto` takes sparse rows here even for a link for which a network alone
    would take a dense matrix. rates: (members,) learning rates, multiplied by the schedule of `train`. The
    states are copied; `take` gives a member back.

    Raises ValueError for members that do not fit each other, or for none.
    """

    def __init__(self, states: Sequence[TrainState], rates: Sequence[float] | np.ndarray) -> None:
        _check_members(states, rates)
        self.step = states[0].step
        self.rates = np.array(rates, dtype=np.float64)
        self._bounds = tile_bounds(states)
        self.tiles = self._tiled(states)

    def __len__(self) -> int:
        return len(self.rates)

    @property
    def parameters(self) -> np.ndarray:
        """(members,) connections that exist + biases."""
        return np.array([topology.parameters for topology in self.topologies])

    @property
    def topologies(self) -> list[Topology]:
        """Of the members, in their order."""
        return [topology for tile in self.tiles for topology in tile.topologies]

    def train(
        self, split: Split, recipe: Recipe, steps: int, schedule: Callable[[int], float]
    ) -> torch.Tensor:
        """Trains all members for so many steps; their losses, (members, steps), in nats, before L1.

        schedule: step -> factor on the learning rates of the members. A member that diverges has losses or
        values that are not finite (`diverged`), and goes on in vain until it is dropped. Where memory runs out,
        tiles are halved, for good, and all is done again from the start; on a CPU with the same bits.
        """
        step, kept = self.step, [tile.kept() for tile in self.tiles]

        def smaller() -> bool:
            nonlocal kept
            self.step = step
            for tile, values in zip(self.tiles, kept):
                tile.put_back(values)
            is_smaller = self._halve()
            kept = [tile.kept() for tile in self.tiles]
            return is_smaller

        return retry_smaller(lambda: self._train(split, recipe, steps, schedule), smaller)

    def _train(
        self, split: Split, recipe: Recipe, steps: int, schedule: Callable[[int], float]
    ) -> torch.Tensor:
        losses = torch.empty(steps, len(self), device=self.tiles[0].device)
        for index in range(steps):
            inputs, labels = training_batch(split, recipe, self.step)
            factor = schedule(self.step)
            for tile, (start, stop) in zip(self.tiles, pairwise(self._bounds)):
                losses[index, start:stop] = tile.train(inputs, labels, recipe, factor, self.step)
            self.step += 1
        return losses.t()

    def diverged(self) -> np.ndarray:
        """(members,) booleans: some parameter is not finite."""
        return np.concatenate([tile.diverged() for tile in self.tiles])

    def evaluate(self, split: Split) -> CohortEvaluation:
        """All members on every image of a split. Where the loss is not finite, the accuracy is NaN."""
        return retry_smaller(lambda: self._evaluate(split), self._halve)

    def _evaluate(self, split: Split) -> CohortEvaluation:
        bits, right = [], []
        for tile in self.tiles:
            blocks = [tile.judge(*block) for block in _blocks(split)]
            bits.append(np.concatenate([found for found, _ in blocks], axis=1))
            right.append(np.sum([hits for _, hits in blocks], axis=0))
        joined = np.concatenate(bits)
        with np.errstate(over="ignore", invalid="ignore"):
            loss = -joined.mean(axis=1) * np.log(2)
        accuracy = np.concatenate(right) / len(split)
        return CohortEvaluation(loss, np.where(np.isfinite(loss), accuracy, np.nan), joined)

    def unhealthy_units(self, images: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Saturated and dead hidden units, each (members,), as `diagnose` finds them on these training images."""
        with np.errstate(over="ignore", invalid="ignore"):
            counts = retry_smaller(lambda: [tile.unhealthy_units(images) for tile in self.tiles], self._halve)
        return np.concatenate([one for one, _ in counts]), np.concatenate([two for _, two in counts])

    def _tiled(self, states: Sequence[TrainState]) -> list[Tile]:
        return [Tile(states[a:b], self.rates[a:b]) for a, b in pairwise(self._bounds)]

    def _halve(self) -> bool:
        """Cuts each tile in two; False if all have a single member."""
        bounds = halved(self._bounds)
        if bounds == self._bounds:
            return False
        states = [self.take(member) for member in range(len(self))]
        self.tiles, self._bounds = [], bounds
        self.tiles = self._tiled(states)
        return True

    def take(self, member: int) -> TrainState:
        """A member as an ordinary state of its own: it can be trained on, grown and saved."""
        for tile, (start, stop) in zip(self.tiles, pairwise(self._bounds)):
            if start <= member < stop:
                return tile.take(member - start, self.step)
        raise IndexError(f"member {member} of a cohort of {len(self)}")

    def keep(self, members: Iterable[int]) -> Cohort:
        """A cohort of these members alone; what they compute and how they train on does not change."""
        chosen = list(members)
        return Cohort([self.take(member) for member in chosen], self.rates[chosen])

    def to_arrays(self) -> dict[str, Any]:
        """Plain arrays and numbers that `from_arrays` goes on from, to the bit."""
        states = [self.take(member).to_arrays() for member in range(len(self))]
        joined = ("source", "target", "values", "first", "second", "born")
        return {
            "architectures": np.array([state["architecture"] for state in states], dtype=np.int64),
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
        architectures = [tuple(sizes) for sizes in np.asarray(arrays["architectures"]).tolist()]
        connections = np.asarray(arrays["connections"]).tolist()
        parameters = [count + bias_count(sizes) for count, sizes in zip(connections, architectures)]
        lengths = {"source": connections, "target": connections} | dict.fromkeys(
            ("values", "first", "second", "born"), parameters
        )
        pieces = {
            name: np.split(np.asarray(arrays[name]), list(accumulate(counts))[:-1])
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


def cohort_bytes(architecture: Sequence[int], connections: int) -> int:
    """About what a cohort on a CPU holds for a member, in float32.

    A parameter: its value, two moments, age, owner and place, and int32 indices in three forms (the member's own,
    joint, as rows; behind the first hidden group as transposed rows too). Joining members takes about as much
    again for a moment. What a pass takes is taken by one tile at a time: TILE_UNITS numbers an image, a few times.
    """
    return 60 * (connections + bias_count(architecture))


def _blocks(split: Split) -> Iterable[tuple[torch.Tensor, torch.Tensor]]:
    for start in range(0, len(split), EVALUATED_AT_ONCE):
        stop = start + EVALUATED_AT_ONCE
        yield columns(split, start, stop), split.labels[start:stop]


def shared_by_members(state: TrainState) -> tuple[tuple[str, Any], ...]:
    """(name, value) of all that the members of a cohort must agree in."""
    sizes, adam = state.network.topology.architecture, state.optimizer
    return (
        ("groups", len(sizes)),
        ("inputs", sizes[0]),
        ("classes", sizes[-1]),
        ("activation", state.network.activation),
        ("kernel", state.network.kernel),
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
