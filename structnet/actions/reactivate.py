"""Re-opening a unit that never fires, so that it can learn again.

Such a ReLU unit passes no gradient on, whatever enters it with value 0. It gets a fan-in that is not 0 beside
the old one, a bias that makes it fire on a fair share of the images, and a fan-out set to 0. Because it did
not fire before and its fan-out is 0 now, the output is the same on all images on which it was silent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from structnet.actions.base import Context, feeding, flat_values
from structnet.actions.new_units import threshold, units_of, weighted
from structnet.measure.diagnosis import Diagnosis
from structnet.network.activations import activation_named, gain_of


@dataclass(frozen=True)
class Reopening:
    """source, value: the new fan-in. bias: the unit's new one. gradient: what its old fan-out gets, once at 0."""

    unit: int
    source: np.ndarray
    value: np.ndarray
    bias: float
    gradient: np.ndarray


def is_silent(context: Context, units: np.ndarray) -> np.ndarray:
    """Which units pass no gradient on: ReLU units that fire on none of the images."""
    unbounded = activation_named(context.state.network.activation).ceiling is None
    silent: np.ndarray = (context.diagnosis.firing_rate[units] == 0) & unbounded
    return silent


def plan_reopening(context: Context, unit: int, count: int) -> Reopening | None:
    """A fan-in of up to `count` connections for a silent unit; None if it would still get no gradient.

    Sources are those that vary most with the error which the unit's fan-out would pass back if it fired.
    """
    topology, diagnosis = context.topology, context.diagnosis
    values = flat_values(context.state.network)
    leaving, arriving = np.flatnonzero(topology.source == unit), np.flatnonzero(topology.target == unit)
    groups = feeding(topology, int(topology.group_of(unit)))
    units = units_of(topology, groups)
    errors = _errors(diagnosis, topology.target[leaving])
    upstream = torch.from_numpy(values[leaving]).to(errors) @ errors
    with_error = (
        torch.cat([diagnosis.activations[group] @ upstream for group in groups]).double().cpu().numpy()
    )
    score = with_error - diagnosis.mean_activation[units] * float(upstream.sum())
    score[(diagnosis.spread[units] == 0) | topology.has(units, np.full(len(units), unit))] = 0.0
    best = np.argsort(-np.abs(score), kind="stable")[:count]
    best = np.sort(best[np.abs(score[best]) > 1e-6 * np.abs(score).max(initial=0)])
    if not len(best):
        return None
    gain = gain_of(context.state.network.activation)
    value = -score[best] / np.linalg.norm(score[best]) * np.sqrt(gain)
    column = np.concatenate([best, np.searchsorted(units, topology.source[arriving])])
    state = weighted(diagnosis, groups, column[None], np.concatenate([value, values[arriving]])[None])
    bias = -threshold(state)
    fires = activation_named(context.state.network.activation).apply(state + bias[:, None])
    gradient = (errors @ fires[0]).double().cpu().numpy()
    if not gradient.any():
        return None
    return Reopening(unit, units[best], value, float(bias), gradient)


def _errors(diagnosis: Diagnosis, units: np.ndarray) -> torch.Tensor:
    """(units, n) the error at each of these units; 0 where it reaches no output."""
    topology, last = diagnosis.topology, diagnosis.activations[-1]
    errors = last.new_zeros(len(units), last.shape[1])
    group_of = topology.group_of(units)
    for group in np.unique(group_of).tolist():
        here, error = np.flatnonzero(group_of == group), diagnosis.errors[group]
        if error is not None:
            position = torch.from_numpy(topology.position_in(group, units[here]))
            errors[torch.from_numpy(here).to(errors.device)] = error[position.to(errors.device)]
    return errors
