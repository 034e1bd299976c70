"""New units: a fan-in that says something, a bias that makes them fire, and a fan-out of value 0.

Shared by the actions that add units. The fan-out of 0 leaves the output as it is, and the fan-in that is not
0 gives it a gradient from the first step on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from structnet.actions.base import Context
from structnet.activations import activation_named
from structnet.diagnosis import Diagnosis
from structnet.edit import Edit, connect
from structnet.topology import Topology

FAIR_SHARE = 0.1
RULES = ("random", "gradient")


@dataclass(frozen=True)
class UnitPlan:
    """New units before they have numbers: they count from 0 in `source_unit` and `target_unit`.

    biases: (units,). source → source_unit are the connections in, with `value`; target_unit → target those
    out, with value 0 and this `gradient`.
    """

    biases: np.ndarray
    source: np.ndarray
    source_unit: np.ndarray
    value: np.ndarray
    target: np.ndarray
    target_unit: np.ndarray
    gradient: np.ndarray

    @property
    def parameters(self) -> int:
        return len(self.biases) + len(self.source) + len(self.target)

    def plan(self) -> dict[str, Any]:
        names = ("biases", "source", "source_unit", "value", "target", "target_unit")
        return {name: getattr(self, name) for name in names}


def plan_units(
    context: Context,
    sources: list[int],
    targets: list[int],
    *,
    count: int,
    fan_in: int,
    fan_out: int,
    rule: str,
) -> UnitPlan | None:
    """Plans so many units between these groups, or fewer; None if no unit would get a gradient.

    fan_in, fan_out: connections of each unit. rule: `random` draws sources by how much they vary and values
    from a normal distribution of variance gain ÷ fan-in; `gradient` takes the leading directions of
    mean(error · activationᵀ), which make the gradient of the fan-out largest (Evci et al. 2022, GradMax), of
    the same norm and cut to `fan_in` entries, and never more units than these directions.
    """
    topology, diagnosis = context.topology, context.diagnosis
    targets = [group for group in targets if diagnosis.errors[group] is not None]
    source_unit, target_unit = units_of(topology, sources), units_of(topology, targets)
    useful = np.flatnonzero(diagnosis.spread[source_unit])
    if not len(target_unit) or not len(useful):
        return None
    fan_in = min(fan_in, len(useful))
    if rule == "random":
        column, value = _random_fan_in(context, diagnosis.spread[source_unit[useful]], count, fan_in)
    else:
        matrix = _covariance(diagnosis, sources, targets)[:, torch.from_numpy(useful)]
        column, value = _leading_fan_in(context, matrix, count, fan_in)
    weights = np.zeros((len(column), len(source_unit)))
    np.put_along_axis(weights, useful[column], value, axis=1)
    state = weighted(diagnosis, sources, weights)
    biases = -threshold(state)
    fires = activation_named(context.state.network.activation).apply(state + biases[:, None])
    errors = [diagnosis.errors[group] for group in targets]
    gradient = np.concatenate(
        [(fires @ error.t()).double().cpu().numpy() for error in errors if error is not None], axis=1
    )
    target = np.argsort(-np.abs(gradient), axis=1, kind="stable")[:, :fan_out]
    gradient = np.take_along_axis(gradient, target, axis=1)
    alive = np.flatnonzero((gradient != 0).any(axis=1))
    if not len(alive):
        return None
    fed, slot = np.nonzero(value[alive])
    unit, place = np.nonzero(gradient[alive])
    return UnitPlan(
        biases=biases.double().cpu().numpy()[alive],
        source=source_unit[useful[column[alive][fed, slot]]],
        source_unit=fed,
        value=value[alive][fed, slot],
        target=target_unit[target[alive][unit, place]],
        target_unit=unit,
        gradient=gradient[alive][unit, place],
    )


def connect_units(grown: Edit, plan: dict[str, Any]) -> Edit:
    """Connects the new units of an edit as planned; the plan's other numbers are those before the edit."""
    first = int(grown.new_units[0])
    source = np.concatenate([grown.number_now(plan["source"]), first + plan["target_unit"]])
    target = np.concatenate([first + plan["source_unit"], grown.number_now(plan["target"])])
    value = np.concatenate([plan["value"], np.zeros(len(plan["target"]))])
    return grown.then(connect(grown.network, source, target, value))


def units_of(topology: Topology, groups: list[int]) -> np.ndarray:
    """The unit numbers of several groups, in their order."""
    spans = [topology.units_of(group) for group in groups]
    return np.concatenate(
        [np.empty(0, dtype=np.int64), *(np.arange(span.start, span.stop) for span in spans)]
    )


def weighted(diagnosis: Diagnosis, groups: list[int], weights: np.ndarray) -> torch.Tensor:
    """weights @ activations of these groups: (rows, units of the groups) -> (rows, n)."""
    ends = np.cumsum([diagnosis.topology.architecture[group] for group in groups])[:-1]
    parts = []
    for group, block in zip(groups, np.split(weights, ends, axis=1)):
        active = diagnosis.activations[group]
        parts.append(torch.from_numpy(block).to(active.device, active.dtype) @ active)
    return torch.stack(parts).sum(dim=0)


def threshold(state: torch.Tensor) -> torch.Tensor:
    """(units,) what to subtract from pre-activations without bias, (units, n), so that units fire fairly often.

    The median; where too few images lie above it - sparse inputs tie at 0 - the mean, which always has some.
    """
    middle = torch.sort(state, dim=1).values[:, (state.shape[1] - 1) // 2]
    share = (state > middle[:, None]).double().mean(dim=1)
    return torch.where(share >= FAIR_SHARE, middle, state.mean(dim=1))


def gain_of(activation: str) -> float:
    """Variance of a hidden unit's fan-in times its size (He et al. 2015)."""
    return 2.0 if activation == "relu" else 1.0


def _covariance(diagnosis: Diagnosis, sources: list[int], targets: list[int]) -> torch.Tensor:
    """(target units, source units) float64: Σ error · (activation − its mean).

    The bias of a unit takes the mean of its sources out, so only what varies about it counts.
    """
    product = torch.cat(
        [torch.cat([diagnosis.outer(a, b) for a in sources], dim=1) for b in targets]
    ).double()
    errors = [diagnosis.errors[group] for group in targets]
    total = torch.cat([error.sum(dim=1) for error in errors if error is not None]).double()
    mean = diagnosis.mean_activation[units_of(diagnosis.topology, sources)]
    return product - torch.outer(total, torch.from_numpy(mean).to(total.device))


def _random_fan_in(
    context: Context, varying: np.ndarray, count: int, fan_in: int
) -> tuple[np.ndarray, np.ndarray]:
    """(count, fan_in) different columns, drawn with weights `varying`, and values."""
    # The largest of log weight + Gumbel noise are a weighted draw without replacement (Vieira 2014).
    key = np.log(varying) + context.rng.gumbel(size=(count, len(varying)))
    column = np.sort(np.argpartition(-key, fan_in - 1, axis=1)[:, :fan_in], axis=1)
    spread = np.sqrt(gain_of(context.state.network.activation) / fan_in)
    return column, context.rng.standard_normal((count, fan_in)) * spread


def _leading_fan_in(
    context: Context, matrix: torch.Tensor, count: int, fan_in: int
) -> tuple[np.ndarray, np.ndarray]:
    """(count or fewer, fan_in) columns and values; 0 where a source plays no part."""
    count = min(count, *matrix.shape)
    start = context.rng.standard_normal((matrix.shape[1], count))
    directions = torch.from_numpy(start).to(matrix.device)
    for _ in range(8):
        # Subspace iteration: the leading few directions are all that is needed, and an SVD costs far more.
        directions = torch.linalg.qr(matrix.t() @ (matrix @ directions)).Q
    strength = (matrix @ directions).norm(dim=0)
    leading = torch.nonzero(strength > 1e-6 * strength.max())[:, 0]
    leading = leading[torch.sort(-strength[leading], stable=True).indices]
    vectors = directions[:, leading].t().cpu().numpy()
    column = np.sort(np.argsort(-np.abs(vectors), axis=1, kind="stable")[:, :fan_in], axis=1)
    value = np.take_along_axis(vectors, column, axis=1)
    # Rounding is no direction: a source that plays no part in one is not connected.
    value = np.where(np.abs(value) > 1e-6 * np.abs(value).max(axis=1, keepdims=True, initial=0), value, 0.0)
    norm = np.sqrt(gain_of(context.state.network.activation)) / np.linalg.norm(value, axis=1, keepdims=True)
    return column, value * norm
