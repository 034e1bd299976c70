"""Whether what growth has added still earns its keep.

A growth is known by the step at which its connections were born, and what is left of it is judged in two ways:
what the network would lose without it, exactly, by evaluating it without; and how alike the units that it feeds are
to others of their group, as a unit that is the copy of another can do without a way in of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from structnet.data.dataset import Split
from structnet.measure.statistics import mean_and_error
from structnet.network.edit import disconnect
from structnet.network.propagation import propagate
from structnet.network.state import TrainState
from structnet.training.evaluation import columns, evaluate

MAP_IMAGES = 500


@dataclass(frozen=True)
class Utilisation:
    """One growth. step: at which it was born. connections: how many are left.

    bits: usable information that the network would lose without them, per image; negative where it is better off
    without. standard_error: of that, over the images. largest_correlation: the largest absolute correlation of a
    hidden unit that they feed with another unit of its group, the mean over these units; None where they feed none.
    """

    step: int
    connections: int
    bits: float
    standard_error: float
    largest_correlation: float | None

    def is_redundant(self, price: float) -> bool:
        """Whether some connections are left, and worth less than this price in bits per thousand of them."""
        return self.connections > 0 and 1000 * self.bits < price * self.connections


def utilisation(state: TrainState, split: Split, steps: Sequence[int]) -> list[Utilisation]:
    """What is left of the growths that were born at these steps, in their order, and its worth on these images.

    Each is taken away alone: of two that can stand in for each other both look redundant.
    """
    network, topology = state.network, state.network.topology
    born, _ = topology.split(state.born)
    left = {step: np.flatnonzero(born == step) for step in steps}
    fed = {step: np.unique(topology.target[found]) for step, found in left.items()}
    hidden = {step: units[units < topology.hidden.stop] for step, units in fed.items()}
    most_alike = _largest_correlations(state, split, hidden.values())
    whole = evaluate(network, split).log2_likelihood
    found = []
    for step in steps:
        loss = np.zeros(len(split))
        if len(left[step]):
            loss = whole - evaluate(disconnect(network, left[step]).network, split).log2_likelihood
        found.append(
            Utilisation(
                step,
                len(left[step]),
                *mean_and_error(loss),
                float(most_alike[hidden[step]].mean()) if len(hidden[step]) else None,
            )
        )
    return found


def _largest_correlations(state: TrainState, split: Split, units: Iterable[np.ndarray]) -> np.ndarray:
    """(units of the network,) largest absolute correlation with another unit of the group, for the groups of these.

    0 for a unit that is constant on these images or alone in its group. Of maps over their positions as well, so that
    fewer images are enough.
    """
    topology = state.network.topology
    largest = np.zeros(topology.units)
    wanted = np.unique(np.concatenate([np.empty(0, dtype=np.int64), *units]))
    groups = np.unique(topology.group_of(wanted))
    if not len(groups):
        return largest
    images = min(len(split), MAP_IMAGES) if topology.architecture.has_maps else len(split)
    activations = propagate(state.network, state.network.values.detach(), columns(split, 0, images))
    for group in groups:
        centred = activations[group].double()
        centred = centred - centred.mean(dim=1, keepdim=True)
        length = centred.norm(dim=1, keepdim=True)
        # Below this a spread is rounding: the unit is constant.
        unit = torch.where(length > 1e-9, centred / length.clamp_min(1e-9), 0.0)
        correlation = (unit @ unit.T).abs().fill_diagonal_(0.0)
        largest[topology.units_of(group)] = correlation.max(dim=1).values.clamp_max(1.0).cpu().numpy()
    return largest
