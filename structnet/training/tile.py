"""A tile: members of a cohort side by side in one network whose links are block-diagonal, by torch.

Networks of the same depth are joined group by group: the hidden units of all of them lie side by side in one group, and
each connection stays within its network, so one pass of the ordinary kernels trains all of them. Networks of feature
maps are not joined: each is a tile of its own, and a cohort trains one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate

import numpy as np
import torch

from structnet.data.dataset import Split
from structnet.measure.information import log2_of_labels
from structnet.network.network import StructNet
from structnet.network.propagation import propagate
from structnet.network.state import TrainState
from structnet.network.topology import Topology
from structnet.training.cohort_kernels import use_tile_kernels
from structnet.training.evaluation import columns
from structnet.training.lockstep import Judged
from structnet.training.recipe import Recipe
from structnet.training.torch_step import TorchSteps

JUDGED_AT_ONCE = 512  # images


class Tile:
    """Neighbouring members as one block-diagonal network with one optimizer.

    places: per member, (parameters,) where its parameters lie in the flat vector of the tile. owner:
    (parameters of the tile,) whose each parameter is. Raises ValueError for members that cannot be joined (`join`).
    """

    def __init__(self, states: Sequence[TrainState]) -> None:
        self.topologies = [state.network.topology for state in states]
        joint, self.places = join(self.topologies)
        where = np.concatenate(self.places)
        self.device = states[0].network.values.device

        def gathered(pieces: list[torch.Tensor]) -> torch.Tensor:
            flat = torch.empty_like(torch.cat(pieces))
            flat[torch.from_numpy(where).to(self.device)] = torch.cat(pieces)
            return flat

        self.network = states[0].network.like(
            joint,
            gathered([state.network.values.detach() for state in states]),
            _statistics_of(states[0].network),
        )
        if not joint.architecture.has_maps:
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
        self._owner_on_device = torch.from_numpy(self.owner).to(self.device)
        self._born_on_device = torch.from_numpy(self.born).to(self.device)
        self._hidden_numbers = torch.from_numpy(hidden_numbers(self.topologies)).to(self.device)

    def train(
        self,
        split: Split,
        recipe: Recipe,
        steps: int,
        rate: Callable[[int], float],
        step: int,
        *,
        shares: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """As structnet.training.lockstep.Lockstep.train, without the lengths of gradients."""
        stretch = TorchSteps(
            self.network,
            self.optimizer,
            split,
            recipe,
            born=self._born_on_device,
            shares=shares,
            owner=self._owner_on_device,
            numbers=self._hidden_numbers,
        )
        losses = stretch.train(steps, rate, step)
        return losses.t().cpu().numpy(), np.empty((len(self.places), 0))

    def undoing(self) -> Callable[[], None]:
        """A function that puts back all that training changes as it is now."""
        values, optimizer = self.network.values.detach().clone(), self.optimizer.copy()
        statistics = _statistics_of(self.network)

        def put_back() -> None:
            self.network.values.detach().copy_(values)
            self.optimizer = optimizer
            if self.network.statistics is not None and statistics is not None:
                self.network.statistics.copy_(statistics)

        return put_back

    def diverged(self) -> np.ndarray:
        """(members,) booleans: some parameter is not finite."""
        bad = (~torch.isfinite(self.network.values.detach())).cpu().numpy()
        return np.bincount(self.owner[bad], minlength=len(self.places)) > 0

    def judge(self, split: Split) -> Judged:
        """All members on every image of a split, without their logits."""
        blocks = [
            self._judge(
                columns(split, start, start + JUDGED_AT_ONCE), split.labels[start : start + JUDGED_AT_ONCE]
            )
            for start in range(0, len(split), JUDGED_AT_ONCE)
        ]
        likelihoods = np.concatenate([found for found, _ in blocks], axis=1)
        return Judged(likelihoods, np.concatenate([right for _, right in blocks], axis=1))

    def _judge(self, inputs: torch.Tensor, labels: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        logits = propagate(self.network, self.network.values.detach(), inputs)[-1]
        of_member = logits.view(len(self.places), -1, len(labels))
        right = of_member.argmax(dim=1) == labels
        return log2_of_labels(of_member, labels).cpu().numpy(), right.cpu().numpy()

    def take(self, member: int, step: int) -> TrainState:
        """A member as an ordinary state of its own, at this step."""
        where = torch.from_numpy(self.places[member]).to(self.device)
        values, statistics = self.network.values.detach()[where], _statistics_of(self.network)
        network = self.network.like(self.topologies[member], values, statistics)
        optimizer = self.optimizer.with_moments(self.optimizer.first[where], self.optimizer.second[where])
        return TrainState(network, optimizer, step, self.born[self.places[member]])


def _statistics_of(network: StructNet) -> torch.Tensor | None:
    """A copy of what the maps of a network were on average; None where nothing is normalised."""
    return None if network.statistics is None else network.statistics.clone()


def hidden_numbers(topologies: Sequence[Topology]) -> np.ndarray:
    """(hidden units of all,) int64: the number of each unit of a tile among the hidden units of its network."""
    parts = [
        np.arange(topology.offsets[group], topology.offsets[group + 1]) - topology.hidden.start
        for group in range(1, topologies[0].groups - 1)
        for topology in topologies
    ]
    return np.concatenate([np.empty(0, dtype=np.int64), *parts])


def join(topologies: Sequence[Topology]) -> tuple[Topology, list[np.ndarray]]:
    """Networks side by side as one topology, and where the parameters of each lie in its flat vector.

    The input group is shared; all other groups are joined, member after member. The second result is, per
    member, (parameters,) int64 positions. Raises ValueError if the depths or the inputs differ, and for several of
    which one has feature maps; one alone is what it is.
    """
    if any(topology.architecture.has_maps for topology in topologies):
        if len(topologies) > 1:
            raise ValueError("networks of feature maps cannot be joined: make a tile of each")
        return topologies[0], [np.arange(topologies[0].parameters)]
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
    numbers = topologies[0].shape_numbers
    joint, order = Topology.sorted(sizes, np.concatenate(source), np.concatenate(target), numbers)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    ends = list(accumulate(topology.connections for topology in topologies))
    connections = np.split(place, ends[:-1])
    return joint, [
        np.concatenate(
            [links, joint.bias_of(units), joint.shapes_of(units[: len(units) - topology.architecture[-1]])]
        )
        for links, units, topology in zip(connections, biases, topologies)
    ]
