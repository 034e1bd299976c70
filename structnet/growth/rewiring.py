"""Moving and removing connections of a network in training: one step of SET, of RigL, of magnitude pruning.

Each is a function of a training state that gives a new one: what survives keeps its value and the optimizer's
moments to the bit, what is new begins as structnet.network.optimizer.Adam says. When and how much is up to the methods
in structnet.experiments.baselines.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from structnet.actions.prune import freed_by
from structnet.measure.diagnosis import Diagnosis, largest
from structnet.network.activations import gain_of
from structnet.network.constant_units import constant_units
from structnet.network.edit import connect, disconnect, fold
from structnet.network.network import StructNet
from structnet.network.random_topology import random_absent, random_absent_everywhere
from structnet.network.state import TrainState


def set_step(
    state: TrainState,
    zeta: float,
    rng: np.random.Generator,
    *,
    scale: float = 1.0,
    may_return: bool = False,
) -> TrainState:
    """One evolution of SET (Mocanu et al. 2018, algorithm 1), which leaves every link as many connections.

    Of each link the share zeta of the positive values closest to zero goes, and of the negative ones, each
    rounded down; 0 counts as positive. As many absent connections of the link come, uniformly at random. scale:
    their spread, as a multiple of that of the initial values for the fan-in that exists. may_return: a cell that
    has just been emptied is absent as well, as in the authors' program. Without it, a nearly full link moves no
    more than it has room for.
    """
    network = state.network
    topology, values = network.topology, _connection_values(network)
    leaving = []
    for pair, span in topology.links.items():
        share = zeta if may_return else min(zeta, topology.absent_of(pair) / (span.stop - span.start))
        leaving.append(span.start + closest_to_zero(values[span], share))
    without = state.edited(disconnect(network, np.concatenate(leaving)))
    free = without.network.topology if may_return else topology
    found = [
        topology.ends(pair, *random_absent(free, pair, len(gone), rng))
        for pair, gone in zip(topology.links, leaving)
    ]
    source, target = (np.concatenate(part) for part in zip(*found))
    return _drawn(without, source, target, rng, scale)


def rigl_step(state: TrainState, share: float, diagnosis: Diagnosis) -> TrainState:
    """One update of RigL (Evci et al. 2020, algorithm 1), which leaves every link as many connections.

    Of each link the share of least magnitude, rounded down, goes, and as many connections of the largest gradient
    come, with value 0, from all that are absent then: one of those that go comes back as it was if its gradient
    is among the largest. diagnosis: of this network. Where fewer connections have a gradient, fewer move.
    """
    network = state.network
    topology, values = network.topology, _connection_values(network)
    leaving, arriving = [], []
    for pair, span in topology.links.items():
        cells = topology.cells(pair)
        order = np.argsort(np.abs(values[span]), kind="stable")
        count = rounded_down(share * len(order))
        weakest, stay = order[:count], order[count:]
        gradient = diagnosis.outer(*pair).clone()
        gradient.view(-1)[torch.from_numpy(cells[stay]).to(gradient.device)] = 0.0
        row, column, _ = largest(gradient, count)
        wanted = row * gradient.shape[1] + column
        fresh = ~np.isin(wanted, cells[weakest])
        gone = weakest[~np.isin(cells[weakest], wanted)][: np.count_nonzero(fresh)]
        leaving.append(span.start + gone)
        arriving.append(topology.ends(pair, row[fresh], column[fresh]))
    edit = disconnect(network, np.concatenate(leaving))
    source, target = (np.concatenate(part) for part in zip(*arriving))
    return state.edited(edit.then(connect(edit.network, source, target)))


def prune_step(state: TrainState, parameters: int) -> TrainState:
    """The connections of least magnitude, of all links together, go until at most so many parameters are left.

    Units without a way in or out go with them, so what is left may be a few parameters less.
    """
    network = state.network
    excess = network.parameter_count - parameters
    if excess <= 0:
        return state
    weakest = np.argsort(np.abs(_connection_values(network)), kind="stable")
    count = _least_that_frees(network, weakest, excess)
    edit = disconnect(network, weakest[:count])
    return state.edited(edit.then(fold(edit.network)))


def with_random(state: TrainState, count: int, rng: np.random.Generator, *, scale: float = 1.0) -> TrainState:
    """So many connections more, at random in links that share them by n_in + n_out; scale: as in `set_step`."""
    ends = random_absent_everywhere(state.network.topology, count, rng)
    return _drawn(state, *ends, rng, scale)


def with_strongest(state: TrainState, count: int, diagnosis: Diagnosis) -> TrainState:
    """So many connections more, of value 0, where the gradient is largest in all links together.

    diagnosis: of this network. Fewer come where fewer absent connections have a gradient.
    """
    topology = state.network.topology
    pairs: Sequence[tuple[int, int]] = list(topology.links) or [(0, topology.groups - 1)]
    found = [diagnosis.absent(*pair, count) for pair in pairs]
    source, target, gradient = (np.concatenate(part) for part in zip(*found))
    best = np.argsort(-np.abs(gradient), kind="stable")[:count]
    return state.edited(connect(state.network, source[best], target[best]))


def _drawn(
    state: TrainState, source: np.ndarray, target: np.ndarray, rng: np.random.Generator, scale: float
) -> TrainState:
    """These connections more, normal with variance scale² · gain ÷ fan-in that exists then (He et al. 2015)."""
    topology = state.network.topology
    fan_in = topology.fan_in() + np.bincount(target, minlength=topology.units)
    gain = np.where(target < topology.hidden.stop, gain_of(state.network.activation), 1.0)
    values = scale * rng.standard_normal(len(source)) * np.sqrt(gain / fan_in[target])
    return state.edited(connect(state.network, source, target, values))


def closest_to_zero(values: np.ndarray, share: float) -> np.ndarray:
    """Positions of this share of the values that are not negative and of those that are, the smallest first."""
    found = []
    for side in (np.flatnonzero(values >= 0), np.flatnonzero(values < 0)):
        order = np.argsort(np.abs(values[side]), kind="stable")
        found.append(side[order[: rounded_down(share * len(side))]])
    return np.concatenate(found)


def _least_that_frees(network: StructNet, order: np.ndarray, excess: int) -> int:
    """How many of the first in this order have to go to free so many parameters, units that go with them included."""
    topology, constant = network.topology, constant_units(network)
    most = min(excess, len(order))
    if freed_by(topology, order[:most], constant) == most:
        return most
    too_few = -1
    while most - too_few > 1:
        middle = (too_few + most) // 2
        if freed_by(topology, order[:middle], constant) >= excess:
            most = middle
        else:
            too_few = middle
    return most


def rounded_down(number: float) -> int:
    """Down, but not from 28.999999999999996 to 28."""
    return math.floor(number + 1e-9)


def _connection_values(network: StructNet) -> np.ndarray:
    """As they are in use: what maps are scaled by in training says nothing."""
    values = network.folded().values.detach()
    return network.topology.split(values)[0].cpu().numpy()
