"""What growth is compared with in a cliff rescue: random placement, and moving connections that are there.

Random placement adds as many connections as growth, but anywhere, and starts them by the same rule as the
growth actions, so that only the places differ. Moving adds nothing (Evci et al. 2020, RigL).
"""

from __future__ import annotations

import numpy as np
import torch

from structnet.actions.base import Context, linked_pairs, strongest_absent
from structnet.actions.prune import weakest
from structnet.measure.diagnosis import Diagnosis
from structnet.network.activations import gain_of
from structnet.network.edit import Edit, connect, disconnect
from structnet.network.network import StructNet
from structnet.network.random_topology import random_absent, random_absent_everywhere
from structnet.network.topology import Topology

MOST_MOVED = 0.3  # of the connections at once: the share of Evci et al. 2020


def random_places(topology: Topology, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Source and target of so many absent connections, uniform within links that share them by n_in + n_out.

    Neighbouring groups count as linked, also where the start left them without a connection.
    """
    pairs = linked_pairs(topology)
    total = sum(topology.units_joined(pair) for pair in pairs)
    found = []
    for pair in (pair for pair in pairs if pair not in topology.links):
        share = round(count * topology.units_joined(pair) / total)
        found.append(topology.ends(pair, *random_absent(topology, pair, share, rng)))
    left = count - sum(len(source) for source, _ in found)
    found.append(random_absent_everywhere(topology, left, rng))
    return np.concatenate([source for source, _ in found]), np.concatenate([target for _, target in found])


def values_like_an_action(
    network: StructNet,
    diagnosis: Diagnosis,
    source: np.ndarray,
    target: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """(connections,) initial values for new connections by the rule of the growth actions.

    0 where that gets a gradient; else, at a hidden unit, normal with variance gain ÷ fan-in (He et al. 2015),
    as a unit without a signal would not learn from zeros on both its sides. Into the output always 0.
    """
    topology = network.topology
    fan_in = topology.fan_in() + np.bincount(target, minlength=topology.units)
    drawn = rng.standard_normal(len(source)) * np.sqrt(gain_of(network.activation) / fan_in[target])
    gradient = np.zeros(len(source))
    joined, order = topology.joined_by(source, target)
    for pair, span in joined.links.items():
        row, column = (torch.from_numpy(place) for place in joined.positions(pair))
        number = order[span] - topology.connections
        is_new = number >= 0
        found = diagnosis.outer(*pair).cpu()[row[is_new].long(), column[is_new].long()]
        gradient[number[is_new]] = found.double().numpy()
    return np.where((gradient == 0) & (target < topology.hidden.stop), drawn, 0.0)


def moved(context: Context, count: int) -> Edit:
    """The weakest connections move to where the gradient is largest, at value 0: so many, at most 30 % at once.

    Unlike the action `rewire` it takes a unit's last way in or out as well: below the cliff nearly every
    connection is one, and the action would find hardly any to move. Units stay, and so does the count.
    """
    topology = context.topology
    count = min(count, int(MOST_MOVED * topology.connections))
    source, target, _ = strongest_absent(context.diagnosis, linked_pairs(topology), count)
    leaving = weakest(context)[: len(source)]
    edit = disconnect(context.state.network, np.sort(leaving))
    return edit.then(connect(edit.network, source[: len(leaving)], target[: len(leaving)]))
