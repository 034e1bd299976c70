"""A tile: neighbouring members of a cohort, side by side in one network whose links are block-diagonal.

A tile has as many members as have activations that fit the cache of a core. Measured on [784,64,10] at density 0.02,
a step of 256 networks in tiles of 32 takes half the time of one in a single tile.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

import numpy as np
import torch

from structnet.measure.diagnosis import DEAD_BELOW, SATURATED_ABOVE, firing_rate, saturated_units
from structnet.measure.information import log2_of_labels
from structnet.network.activations import activation_named
from structnet.network.network import flatten, propagate
from structnet.network.optimizer import Adam
from structnet.network.state import TrainState
from structnet.network.topology import Topology
from structnet.training.cohort_kernels import use_tile_kernels
from structnet.training.loop import Recipe, losses_and_gradient, update

# Hidden units of a tile on a CPU. At batch 128 their activations take two megabytes.
TILE_UNITS = 4096
Kept = tuple[torch.Tensor, Adam]


class Tile:
    """Neighbouring members as one block-diagonal network with one optimizer.

    places: per member, (parameters,) where its parameters lie in the flat vector of the tile. owner:
    (parameters of the tile,) whose each parameter is.
    """

    def __init__(self, states: Sequence[TrainState], rates: np.ndarray) -> None:
        self.topologies = [state.network.topology for state in states]
        joint, self.places = join(self.topologies)
        where = np.concatenate(self.places)
        self.device = states[0].network.values.device

        def gathered(pieces: list[torch.Tensor]) -> torch.Tensor:
            flat = torch.empty_like(torch.cat(pieces))
            flat[torch.from_numpy(where).to(self.device)] = torch.cat(pieces)
            return flat

        self.network = states[0].network.like(
            joint, gathered([state.network.values.detach() for state in states])
        )
        shapes = np.array([topology.architecture for topology in self.topologies])
        use_tile_kernels(self.network, shapes, self.network.kernel)
        self.optimizer = states[0].optimizer.with_moments(
            gathered([state.optimizer.first for state in states]),
            gathered([state.optimizer.second for state in states]),
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
        """One step of all members on one batch; their losses, (members,), in nats. factor: on their rates."""
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

    def kept(self) -> Kept:
        """A copy of all that training changes."""
        return self.network.values.detach().clone(), self.optimizer.copy()

    def put_back(self, kept: Kept) -> None:
        """As it was when that copy was made, which is used up."""
        self.network.values.detach().copy_(kept[0])
        self.optimizer = kept[1]

    def diverged(self) -> np.ndarray:
        """(members,) booleans: some parameter is not finite."""
        bad = (~torch.isfinite(self.network.values.detach())).cpu().numpy()
        return np.bincount(self.owner[bad], minlength=len(self.places)) > 0

    def judge(self, inputs: torch.Tensor, labels: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """log2 p(label | image), (members, images), and right answers, (members,)."""
        logits = propagate(self.network, self.network.values.detach(), inputs)[-1]
        of_member = logits.view(len(self.places), -1, len(labels))
        right = (of_member.argmax(dim=1) == labels).sum(dim=1)
        return log2_of_labels(of_member, labels).cpu().numpy(), right.cpu().numpy()

    def unhealthy_units(self, images: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Saturated and dead hidden units, each (members,)."""
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
        """A member as an ordinary state of its own, at this step."""
        where = torch.from_numpy(self.places[member]).to(self.device)
        network = self.network.like(self.topologies[member], self.network.values.detach()[where])
        optimizer = self.optimizer.with_moments(self.optimizer.first[where], self.optimizer.second[where])
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
        biases.append(number[sizes[0] :])
    joint, order = Topology.sorted(sizes, np.concatenate(source), np.concatenate(target))
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    ends = list(accumulate(topology.connections for topology in topologies))
    connections = np.split(place, ends[:-1])
    return joint, [np.concatenate([links, joint.bias_of(bias)]) for links, bias in zip(connections, biases)]


def tile_bounds(states: Sequence[TrainState]) -> list[int]:
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
