"""Units that nothing enters any more: what they then are, and whether a bias behind them can say the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from structnet.network.activations import activation_named
from structnet.network.topology import Topology

if TYPE_CHECKING:
    from structnet.network.network import StructNet


def constants(network: StructNet, units: np.ndarray) -> np.ndarray:
    """(units,) float64, what hidden units without a connection in are in use: activation(bias)."""
    topology = network.topology
    flat = network.folded().values.detach().cpu().double()
    place = torch.from_numpy(units - topology.hidden.start)
    bias = topology.split(flat)[1][place]
    shapes = topology.shapes(flat)
    if topology.shape_numbers:
        shapes = shapes.view(-1, topology.shape_numbers)[place]
    found: np.ndarray = activation_named(network.activation).of(bias[:, None].clone(), shapes)[:, 0].numpy()
    return found


def constant_units(network: StructNet) -> np.ndarray | None:
    """(units,) booleans: hidden units that are not 0 when nothing enters them; None where no group has maps."""
    topology = network.topology
    if not topology.architecture.has_maps:
        return None
    constant = np.zeros(topology.units, dtype=bool)
    hidden = np.arange(topology.hidden.start, topology.hidden.stop)
    constant[hidden] = constants(network, hidden) != 0
    return constant


def feeding_maps(topology: Topology, stays: np.ndarray | slice = slice(None)) -> np.ndarray:
    """(units,) booleans: units from which connections, all or those that stay, lead to maps.

    Maps show where a unit that feeds them ends: no bias can say the same.
    """
    shape = topology.architecture
    into_maps = ~np.array([shape.is_plain(group) for group in range(topology.groups)])
    feeds = np.zeros(topology.units, dtype=bool)
    leads = into_maps[topology.group_of(topology.target[stays])]
    feeds[topology.source_unit[stays][leads]] = True
    return feeds
