"""Re-opening a unit that never fires, so that it can learn again.

Such a ReLU unit passes no gradient on, whatever enters it with value 0. It gets a fan-in that is not 0 beside
the old one, a bias that makes it fire on a fair share of the images, and a fan-out set to 0. Because it did
not fire before and its fan-out is 0 now, the output is the same on all images on which it was silent. A map that is
normalised gets the mean and variance that it then has on these images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from structnet.actions.base import Context, feeding, flat_values
from structnet.actions.firing import normal, threshold
from structnet.measure.diagnosis import Diagnosis
from structnet.measure.ports import sent_back
from structnet.network.activations import activation_named, gain_of


@dataclass(frozen=True)
class Reopening:
    """source, value: the new fan-in, from ports. bias: the unit's new one. gradient: what its old fan-out gets, at 0.

    statistics: (2, 1) its new mean and variance, where it is normalised.
    """

    unit: int
    source: np.ndarray
    value: np.ndarray
    bias: float
    gradient: np.ndarray
    statistics: np.ndarray | None = None


def plan_reopening(context: Context, unit: int, count: int) -> Reopening | None:
    """A fan-in of up to `count` connections for a silent unit; None if it would still get no gradient.

    Sources are those that vary most with the error which the unit's fan-out would pass back if it fired.
    """
    topology, group = context.topology, int(context.topology.group_of(unit))
    values = flat_values(context.state.network)
    leaving, arriving = np.flatnonzero(topology.source_unit == unit), np.flatnonzero(topology.target == unit)
    reading = context.reading(feeding(topology, group), group)
    errors = _errors(
        context.sample, group, topology.target[leaving], topology.code_of_port(topology.source[leaving])
    )
    upstream = torch.from_numpy(values[leaving]).to(errors) @ errors
    score = reading.with_error(upstream) - reading.mean * float(upstream.sum())
    score[(reading.spread == 0) | topology.has(reading.port, np.full(len(reading.port), unit))] = 0.0
    best = np.argsort(-np.abs(score), kind="stable")[:count]
    best = np.sort(best[np.abs(score[best]) > 1e-6 * np.abs(score).max(initial=0)])
    if not len(best):
        return None
    gain = gain_of(context.state.network.activation)
    value = -score[best] / np.linalg.norm(score[best]) * np.sqrt(gain)
    column = np.concatenate([best, np.searchsorted(reading.port, topology.source[arriving])])
    state, statistics = reading.sums(column[None], np.concatenate([value, values[arriving]])[None]), None
    if context.normalises(group):
        state, statistics = normal(state)
    bias = -threshold(state)
    fires = activation_named(context.state.network.activation).apply(state + bias[:, None])
    gradient = (errors @ fires[0]).double().cpu().numpy()
    if not gradient.any():
        return None
    return Reopening(unit, reading.port[best], value, float(bias), gradient, statistics)


def _errors(diagnosis: Diagnosis, group: int, target: np.ndarray, code: np.ndarray) -> torch.Tensor:
    """(connections, n) the errors at these targets as they come back to a unit of the group, by ports of these codes.

    n: positions of the group · images. 0 where nothing reaches the output.
    """
    topology, last = diagnosis.topology, diagnosis.activations[-1]
    shape = topology.architecture
    errors = last.new_zeros(len(target), last.shape[1] * shape.area(group))
    group_of = topology.group_of(target)
    for to, shown in sorted(set(zip(group_of.tolist(), code.tolist()))):
        here, error = np.flatnonzero((group_of == to) & (code == shown)), diagnosis.errors[to]
        if error is not None:
            position = torch.from_numpy(topology.position_in(to, target[here])).to(errors.device)
            back = sent_back(shape, (group, to), shown, error[position])
            errors[torch.from_numpy(here).to(errors.device)] = back
    return errors
