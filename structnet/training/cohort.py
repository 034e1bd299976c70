"""Cohort: many networks trained at once, as one network whose links are block-diagonal.

Networks of the same depth are joined group by group: the hidden units of all of them lie side by side in one
group, and each connection stays within its network, so one pass of the ordinary kernels trains all of them
on the same batches. A row of a sparse product is summed in the same order wherever it lies, and everything
else is done unit by unit or parameter by parameter; so on a CPU a network comes out of a cohort with the same
bits as if it had been trained alone, whoever its neighbours were, and a neighbour that diverges does no harm.

A cohort is cut into tiles of neighbouring members whose activations fit the cache of a core: the batch is made
once and passed through one tile after the other. Measured on [784,64,10] at density 0.02, a step of 256 networks
in tiles of 32 takes half the time of one in a single tile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import torch

from structnet.data.dataset import Split
from structnet.measure.diagnosis import firing_rate, saturated_units
from structnet.measure.information import log2_of_labels
from structnet.network.activations import activation_named
from structnet.network.network import StructNet, flatten, propagate
from structnet.network.optimizer import Adam
from structnet.network.state import TrainState
from structnet.network.topology import Topology, bias_count
from structnet.training.cohort_kernels import use_tile_kernels
from structnet.training.loop import Recipe, columns, losses_and_gradient, training_batch, update
from structnet.training.out_of_memory import backing_off, halved

# Hidden units of a tile on a CPU. At batch 128 their activations take two megabytes.
TILE_UNITS = 4096
# Images of one pass of evaluation; a multiple of every vector width, so that an image is computed in the same
# way in blocks of any such length.
EVALUATED_AT_ONCE = 512
DEAD_BELOW, SATURATED_ABOVE = 0.01, 3.0
_Kept = tuple[torch.Tensor, Adam]


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
        self._bounds = _tile_bounds(states)
        self.tiles = self._tiled(states)

    def __len__(self) -> int:
        return len(self.rates)

    @property
    def parameters(self) -> np.ndarray:
        """(members,) connections that exist + biases."""
        return np.array([topology.parameters for topology in self.topologies])

    @property
    def topologies(self) -> list[Topology]:
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

        return backing_off(lambda: self._train(split, recipe, steps, schedule), smaller)

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
        return backing_off(lambda: self._evaluate(split), self._halve)

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
            counts = backing_off(lambda: [tile.unhealthy_units(images) for tile in self.tiles], self._halve)
        return np.concatenate([one for one, _ in counts]), np.concatenate([two for _, two in counts])

    def _tiled(self, states: Sequence[TrainState]) -> list[_Tile]:
        return [_Tile(states[a:b], self.rates[a:b]) for a, b in pairwise(self._bounds)]

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


class _Tile:
    """Neighbouring members as one block-diagonal network with one optimizer.

    places: per member, (parameters,) where its parameters lie in the flat vector of the tile. owner:
    (parameters of the tile,) whose each parameter is.
    """

    def __init__(self, states: Sequence[TrainState], rates: np.ndarray) -> None:
        self.topologies = [state.network.topology for state in states]
        joint, self.places = join(self.topologies)
        where = np.concatenate(self.places)
        self.device = states[0].network.values.device
        first_network = states[0].network

        def gathered(pieces: list[torch.Tensor]) -> torch.Tensor:
            flat = torch.empty_like(torch.cat(pieces))
            flat[torch.from_numpy(where).to(self.device)] = torch.cat(pieces)
            return flat

        self.network = StructNet.from_parts(
            joint,
            gathered([state.network.values.detach() for state in states]),
            activation=first_network.activation,
            kernel=first_network.kernel,
        )
        shapes = np.array([topology.architecture for topology in self.topologies])
        use_tile_kernels(self.network, shapes, self.network.kernel)
        adam = states[0].optimizer
        self.optimizer = Adam(
            gathered([state.optimizer.first for state in states]),
            gathered([state.optimizer.second for state in states]),
            adam.step,
            adam.beta1,
            adam.beta2,
            adam.epsilon,
        )
        self.born = np.empty(len(where), dtype=np.int64)
        self.born[where] = np.concatenate([state.born for state in states])
        self.owner = np.empty(len(where), dtype=np.int32)
        self.owner[where] = np.repeat(np.arange(len(states)), [len(place) for place in self.places])
        self._rates: float | torch.Tensor = float(rates[0])
        if np.any(rates != rates[0]):
            self._rates = torch.from_numpy(np.asarray(rates)).to(self.device)
        self._owner_on_device = torch.from_numpy(self.owner).to(self.device)
        self._born_on_device = torch.from_numpy(self.born).to(self.device)

    def train(
        self, inputs: torch.Tensor, labels: torch.Tensor, recipe: Recipe, factor: float, step: int
    ) -> torch.Tensor:
        values = self.network.values.detach()
        losses, gradient = losses_and_gradient(self.network, values, inputs, labels, len(self.places))
        update(
            self.optimizer,
            values,
            gradient,
            recipe,
            self._rates * factor,
            connections=self.network.connection_count,
            age=step - self._born_on_device if recipe.rates else None,
            owner=self._owner_on_device,
        )
        return losses

    def kept(self) -> _Kept:
        """A copy of all that training changes."""
        return self.network.values.detach().clone(), self.optimizer.copy()

    def put_back(self, kept: _Kept) -> None:
        """As it was when that copy was made, which is used up."""
        self.network.values.detach().copy_(kept[0])
        self.optimizer = kept[1]

    def diverged(self) -> np.ndarray:
        bad = (~torch.isfinite(self.network.values.detach())).cpu().numpy()
        return np.bincount(self.owner[bad], minlength=len(self.places)) > 0

    def judge(self, inputs: torch.Tensor, labels: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """log2 p(label | image), (members, images), and right answers, (members,)."""
        logits = propagate(self.network, self.network.values.detach(), inputs)[-1]
        of_member = logits.view(len(self.places), -1, len(labels))
        right = (of_member.argmax(dim=1) == labels).sum(dim=1)
        return log2_of_labels(of_member, labels).cpu().numpy(), right.cpu().numpy()

    def unhealthy_units(self, images: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        inputs = flatten(images, self.network.values.dtype)
        activations = propagate(self.network, self.network.values.detach(), inputs)
        activation = activation_named(self.network.activation)
        saturated, dead = np.zeros((2, len(self.places)), dtype=np.int64)
        for group in range(1, self.network.topology.groups - 1):
            firing = firing_rate(activations[group], activation)
            sizes = [topology.architecture[group] for topology in self.topologies]
            for member, (start, stop) in enumerate(pairwise([0, *accumulate(sizes)])):
                units = activations[group][start:stop]
                saturated[member] += saturated_units(units, activation, SATURATED_ABOVE).sum()
                dead[member] += (firing[start:stop] < DEAD_BELOW).sum()
        return saturated, dead

    def take(self, member: int, step: int) -> TrainState:
        where = torch.from_numpy(self.places[member]).to(self.device)
        network = StructNet.from_parts(
            self.topologies[member],
            self.network.values.detach()[where],
            activation=self.network.activation,
            kernel=self.network.kernel,
        )
        adam = self.optimizer
        optimizer = Adam(
            adam.first[where], adam.second[where], adam.step, adam.beta1, adam.beta2, adam.epsilon
        )
        return TrainState(network, optimizer, step, self.born[self.places[member]])


def join(topologies: Sequence[Topology]) -> tuple[Topology, list[np.ndarray]]:
    """Networks side by side as one topology, and where the parameters of each lie in its flat vector.

    The input group is shared; all other groups are joined, member after member. The second result is, per
    member, (parameters,) int64 positions. Raises ValueError if the depths or the inputs differ.
    """
    if len({(topology.groups, topology.architecture[0]) for topology in topologies}) > 1:
        raise ValueError("networks that are joined must have the same depth and inputs")
    shapes = np.array([topology.architecture for topology in topologies], dtype=np.int64)
    sizes = [int(shapes[0, 0]), *shapes[:, 1:].sum(axis=0).tolist()]
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    # (members, groups): the first unit of a member's group in the joint numbering.
    first = offsets[:-1] + np.cumsum(shapes, axis=0) - shapes
    first[:, 0] = 0
    source, target, biases = [], [], []
    for topology, start in zip(topologies, first):
        number = np.concatenate(
            [begin + np.arange(size) for begin, size in zip(start, topology.architecture)]
        )
        source.append(number[topology.source])
        target.append(number[topology.target])
        biases.append(number[sizes[0] :] - sizes[0])
    joint, order = Topology.sorted(sizes, np.concatenate(source), np.concatenate(target))
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    ends = list(accumulate(topology.connections for topology in topologies))
    connections = np.split(place, ends[:-1])
    return joint, [
        np.concatenate([links, joint.connections + bias]) for links, bias in zip(connections, biases)
    ]


def _blocks(split: Split) -> Iterable[tuple[torch.Tensor, torch.Tensor]]:
    for start in range(0, len(split), EVALUATED_AT_ONCE):
        stop = start + EVALUATED_AT_ONCE
        yield columns(split, start, stop), split.labels[start:stop]


def _tile_bounds(states: Sequence[TrainState]) -> list[int]:
    """Where tiles begin and the last ends: as many members as have TILE_UNITS hidden units, at least one."""
    if states[0].network.values.device.type != "cpu":
        return [0, len(states)]
    bounds, units = [0], 0
    for member, state in enumerate(states):
        own = state.network.topology.bias_count
        if units and units + own > TILE_UNITS:
            bounds.append(member)
            units = 0
        units += own
    return [*bounds, len(states)]


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
