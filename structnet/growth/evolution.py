"""Sparse evolution as it was published: one step of SET with what its authors and those who studied it left open.

Mocanu et al. 2018, algorithm 1: weak connections of either sign go, as many random ones come. What differs between
programs is data here: the values of what comes, and whether a cell that was just emptied may be filled. The control
moves as many connections without looking at their values, so that whatever it finds was not learned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch

from structnet.errors import UserError
from structnet.growth.rewiring import closest_to_zero
from structnet.network.activations import activation_named
from structnet.network.edit import connect, disconnect
from structnet.network.initial_values import initial_shapes
from structnet.network.network import StructNet
from structnet.network.normalisation import first_statistics
from structnet.network.random_topology import erdos_renyi, random_absent
from structnet.network.state import TrainState
from structnet.network.topology import Topology
from structnet.seeds import stream

# Spread of new values by the fan-in that a dense link has; of all alike; none, as in the program with masks.
NEW_VALUES = ("fan_in", "tenth", "zero")
TENTH = 0.1

Pair = tuple[int, int]


@dataclass(frozen=True)
class Evolution:
    """zeta: share of the connections of each sign that goes. new_values: of those that come.

    may_return: into a cell that was just emptied. blind: what goes is drawn at random, as many of each link. chance:
    that a link evolves after a step, continuously; None for all links after each epoch. Raises UserError for numbers
    out of range.
    """

    zeta: float = 0.3
    new_values: str = "fan_in"
    may_return: bool = False
    blind: bool = False
    chance: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.zeta < 1:
            raise UserError(f"zeta is {self.zeta:g}, but must be in (0, 1): it is the share that is moved")
        if self.chance is not None and not 0 < self.chance <= 1:
            raise UserError(
                f"chance is {self.chance:g}, but must be in (0, 1]: that a link evolves after a step"
            )
        if self.new_values not in NEW_VALUES:
            raise UserError(f"new_values is '{self.new_values}', but must be one of {', '.join(NEW_VALUES)}")


def seed_of_evolution(
    architecture: Sequence[int],
    epsilon: float,
    evolution: Evolution,
    rng_seed: int,
    *,
    dense_output: bool = True,
    activation: str = "relu",
) -> StructNet:
    """A random network of int(epsilon · (n_in + n_out)) connections a link, with values as new ones will have them.

    Where these are 0, as the others begin. Biases are 0. Raises UserError as `erdos_renyi` does.
    """
    rng = stream(rng_seed, "seed")
    topology = erdos_renyi(architecture, epsilon, rng, dense_output=dense_output)
    kind = "fan_in" if evolution.new_values == "zero" else evolution.new_values
    values = rng.standard_normal(topology.connections) * _spread(topology, topology.target, kind)
    topology = replace(topology, shape_numbers=len(activation_named(activation).shape))
    flat = np.concatenate([values, np.zeros(topology.bias_count), initial_shapes(topology, activation)])
    return StructNet.from_parts(
        topology,
        torch.from_numpy(flat.astype(np.float32)),
        activation=activation,
        statistics=first_statistics(topology),
    )


@dataclass(frozen=True)
class Evolved:
    """state: afterwards. core: what is left in between, where nothing has come yet. moved: connections, by link."""

    state: TrainState
    core: Topology
    moved: dict[Pair, int]


def evolving_links(topology: Topology) -> list[Pair]:
    """The links that are not full: nothing can move in the others."""
    return [pair for pair in topology.links if topology.absent_of(pair)]


def evolve(
    state: TrainState, evolution: Evolution, rng: np.random.Generator, pairs: list[Pair] | None = None
) -> Evolved:
    """One evolution of these links, or of all that are not full, each of which keeps as many connections.

    What survives keeps its value and its moments to the bit; what comes has none. Where a link has not as many free
    cells as would move, fewer do.
    """
    network = state.network
    topology = network.topology
    pairs = evolving_links(topology) if pairs is None else pairs
    if not pairs:
        return Evolved(state, topology, {})
    leaving = {pair: _leaving(network, pair, evolution, rng) for pair in pairs}
    gone = np.concatenate([topology.links[pair].start + here for pair, here in leaving.items()])
    without = state.edited(disconnect(network, gone))
    core = without.network.topology
    free = core if evolution.may_return else topology
    found = [
        topology.ends(pair, *random_absent(free, pair, len(here), rng)) for pair, here in leaving.items()
    ]
    source, target = (np.concatenate(part) for part in zip(*found))
    values = rng.standard_normal(len(source)) * _spread(topology, target, evolution.new_values)
    moved = {pair: len(here) for pair, here in leaving.items()}
    return Evolved(without.edited(connect(without.network, source, target, values)), core, moved)


def links_after_step(
    topology: Topology, evolution: Evolution, rng_seed: int, step: int, per_epoch: int
) -> list[Pair]:
    """Which links evolve after so many steps; step: from 1. Drawn by rng_seed and step alone."""
    pairs = evolving_links(topology)
    if evolution.chance is None:
        return pairs if step % per_epoch == 0 else []
    drawn = stream(rng_seed, "evolves", step).random(topology.groups)
    return [pair for pair in pairs if drawn[pair[0]] < evolution.chance]


def _leaving(network: StructNet, pair: Pair, evolution: Evolution, rng: np.random.Generator) -> np.ndarray:
    """Positions in a link of what goes."""
    topology = network.topology
    values = network.folded().values.detach()[topology.links[pair]].cpu().numpy()
    room = len(values) if evolution.may_return else topology.absent_of(pair)
    weakest = closest_to_zero(values, min(evolution.zeta, room / len(values)))
    return rng.permutation(len(values))[: len(weakest)] if evolution.blind else weakest


def _spread(topology: Topology, target: np.ndarray, new_values: str) -> np.ndarray | float:
    if new_values == "fan_in":
        shape = topology.architecture
        dense = [shape.possible(pair) / shape[pair[1]] for pair in pairwise(range(len(shape)))]
        spread: np.ndarray = np.sqrt(2 / np.array(dense)[topology.group_of(target) - 1])
        return spread
    return TENTH if new_values == "tenth" else 0.0
