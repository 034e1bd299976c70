"""New units: a fan-in that says something, a bias that makes them fire, and a fan-out of value 0.

Shared by the actions that add units. The fan-out of 0 leaves the output as it is, and the fan-in that is not
0 gives it a gradient from the first step on. A new unit of a group of maps is a map of that group's sides, which sees
others as its group does; where maps are normalised, so is it, by what it is on the images diagnosed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from structnet.actions.ascent import ascended
from structnet.actions.base import Context
from structnet.actions.firing import normal, threshold
from structnet.actions.reading import Saying
from structnet.network.activations import activation_named, gain_of
from structnet.network.edit import Edit, connect
from structnet.network.topology import Topology

RULES = ("random", "gradient", "gradmax")
FEWEST_STARTS = 4
OUTPUT = -1  # the group whose positions a unit has that is plain


@dataclass(frozen=True)
class UnitPlan:
    """New units before they have numbers: they count from 0 in `source_unit` and `target_unit`.

    biases: (units,). source → source_unit are the connections in, with `value`; target_unit → target those
    out, with value 0 and this `gradient`. Sources are ports, and `code` is of each connection out the port of its
    unit that it starts at. statistics: (2, units) means and variances, where units are normalised.
    """

    biases: np.ndarray
    source: np.ndarray
    source_unit: np.ndarray
    value: np.ndarray
    target: np.ndarray
    target_unit: np.ndarray
    gradient: np.ndarray
    code: np.ndarray | int = 0
    statistics: np.ndarray | None = None

    @property
    def parameters(self) -> int:
        """Those of the new units and of their connections."""
        return len(self.biases) + len(self.source) + len(self.target)

    def plan(self) -> dict[str, Any]:
        """What a proposal needs of it to be applied."""
        names = ("biases", "source", "source_unit", "value", "target", "target_unit", "code", "statistics")
        return {name: part for name in names if (part := getattr(self, name)) is not None}


def plan_units(
    context: Context,
    sources: list[int],
    targets: list[int],
    *,
    count: int,
    fan_in: int,
    fan_out: int,
    rule: str,
    group: int = OUTPUT,
) -> UnitPlan | None:
    """Plans so many units between these groups, or fewer; None if no unit would get a gradient.

    fan_in, fan_out: connections of each unit. group: whose sides they have, and among which they can lie. rule:
    `random` draws sources by how much they vary and values from a normal distribution of variance gain ÷ fan-in.
    `gradient` takes the leading directions of mean(error · activationᵀ), which would make the gradient of the fan-out
    largest if units were linear, of the same norm and cut to `fan_in` entries. `gradmax` starts there, in both senses,
    and climbs to where it is largest through the activation and with so many entries (structnet.actions.ascent).
    Neither gives more units than there are directions.
    """
    targets = [target for target in targets if context.diagnosis.errors[target] is not None]
    reading, saying = context.reading(sources, group), Saying(context.sample, targets, group)
    useful = np.flatnonzero(reading.spread)
    if not len(saying.ends[0]) or not len(useful):
        return None
    fan_in = min(fan_in, len(useful))
    if rule == "random":
        column, value = _random_fan_in(context, reading.spread[useful], count, fan_in)
    else:
        column, value = _directed_fan_in(context, sources, targets, group, useful, count, fan_in, rule)
        if not len(column):
            return None
    state, statistics = reading.sums(useful[column], value), None
    if context.normalises(group):
        state, statistics = normal(state)
    biases = -threshold(state)
    fires = activation_named(context.state.network.activation).apply(state + biases[:, None])
    gradient = saying.gradient(fires).double().cpu().numpy()
    leaving = np.argsort(-np.abs(gradient), axis=1, kind="stable")[:, :fan_out]
    gradient = np.take_along_axis(gradient, leaving, axis=1)
    alive = np.flatnonzero((gradient != 0).any(axis=1))
    if not len(alive):
        return None
    fed, slot = np.nonzero(value[alive])
    unit, place = np.nonzero(gradient[alive])
    target, code = (ends[leaving[alive][unit, place]] for ends in saying.ends)
    return UnitPlan(
        biases=biases.double().cpu().numpy()[alive],
        source=reading.port[useful[column[alive][fed, slot]]],
        source_unit=fed,
        value=value[alive][fed, slot],
        target=target,
        target_unit=unit,
        gradient=gradient[alive][unit, place],
        code=code,
        statistics=None if statistics is None else statistics[:, alive],
    )


def connect_units(grown: Edit, before: Topology, plan: dict[str, Any]) -> Edit:
    """Connects the new units of an edit as planned; the plan's other numbers are those before the edit."""
    units = grown.new_units[0] + np.arange(len(plan["biases"]))
    leaving = grown.network.topology.port_of(units[plan["target_unit"]], plan["code"])
    source = np.concatenate([grown.port_now(before, plan["source"]), leaving])
    target = np.concatenate([units[plan["source_unit"]], grown.number_now(plan["target"])])
    value = np.concatenate([plan["value"], np.zeros(len(plan["target"]))])
    return grown.then(connect(grown.network, source, target, value))


def units_of(topology: Topology, groups: list[int]) -> np.ndarray:
    """The unit numbers of several groups, in their order."""
    spans = [topology.units_of(group) for group in groups]
    return np.concatenate(
        [np.empty(0, dtype=np.int64), *(np.arange(span.start, span.stop) for span in spans)]
    )


def _directions(context: Context, sources: list[int], targets: list[int], group: int = OUTPUT) -> np.ndarray:
    """(rank, source ports) of norm 1: the directions that mean(error · activationᵀ) stretches most, strongest first.

    They are found once for all sizes and rules, by the eigenvectors of the smaller of its two Gram matrices.
    """
    key = tuple(sources), tuple(targets), group
    if key not in context.directions:
        matrix = _covariance(context, sources, targets, group)
        if len(matrix) <= matrix.shape[1]:
            vectors = torch.linalg.eigh(matrix @ matrix.t()).eigenvectors.t() @ matrix
            # Of the eigenvectors without a stretch only rounding is left, which points anywhere.
            strength = vectors.norm(dim=1)
            vectors = vectors / strength.clamp_min(1e-300)[:, None]
        else:
            vectors = torch.linalg.eigh(matrix.t() @ matrix).eigenvectors.t()
            strength = (vectors @ matrix.t()).norm(dim=1)
        strongest = torch.sort(strength, descending=True, stable=True)
        rank = int((strongest.values > 1e-6 * strongest.values[0]).sum())
        context.directions[key] = vectors[strongest.indices[:rank]].cpu().numpy()
    return context.directions[key]


def _covariance(context: Context, sources: list[int], targets: list[int], group: int) -> torch.Tensor:
    """(connections out, source ports) float64: Σ error · (activation − its mean); 0 where a source does not vary.

    The bias of a unit takes the mean of its sources out, so only what varies about it counts.
    """
    diagnosis, reading = context.sample, context.reading(sources, group)
    if diagnosis.topology.architecture.has_maps:
        product, total = Saying(diagnosis, targets, group).with_errors(reading)
    else:
        product = torch.cat(
            [torch.cat([diagnosis.outer(a, b) for a in sources], dim=1) for b in targets]
        ).double()
        errors = [diagnosis.errors[target] for target in targets]
        total = torch.cat([error.sum(dim=1) for error in errors if error is not None]).double()
    mean = torch.from_numpy(reading.mean).to(total.device)
    varies = torch.from_numpy(reading.spread > 0).to(total.device)
    return (product - torch.outer(total, mean)) * varies


def _random_fan_in(
    context: Context, varying: np.ndarray, count: int, fan_in: int
) -> tuple[np.ndarray, np.ndarray]:
    """(count, fan_in) different columns, drawn with weights `varying`, and values."""
    # The largest of log weight + Gumbel noise are a weighted draw without replacement (Vieira 2014).
    key = np.log(varying) + context.rng.gumbel(size=(count, len(varying)))
    column = np.sort(np.argpartition(-key, fan_in - 1, axis=1)[:, :fan_in], axis=1)
    spread = np.sqrt(gain_of(context.state.network.activation) / fan_in)
    return column, context.rng.standard_normal((count, fan_in)) * spread


def _directed_fan_in(
    context: Context,
    sources: list[int],
    targets: list[int],
    group: int,
    useful: np.ndarray,
    count: int,
    fan_in: int,
    rule: str,
) -> tuple[np.ndarray, np.ndarray]:
    """(count or fewer, fan_in) columns and values by the rules `gradient` and `gradmax`."""
    directions = _directions(context, sources, targets, group)[:, useful]
    if not len(directions):
        return np.empty((0, fan_in), dtype=np.int64), np.empty((0, fan_in))
    if rule == "gradient":
        return _cut(context, directions[:count], fan_in)
    starts = directions[: max(count, FEWEST_STARTS)]
    column, value = ascended(context, sources, targets, group, useful, starts, fan_in)
    return column[:count], _scaled(context, value)[:count]


def _cut(context: Context, vectors: np.ndarray, fan_in: int) -> tuple[np.ndarray, np.ndarray]:
    """(units, fan_in) columns and values of the largest entries."""
    column = np.sort(np.argsort(-np.abs(vectors), axis=1, kind="stable")[:, :fan_in], axis=1)
    return column, _scaled(context, np.take_along_axis(vectors, column, axis=1))


def _scaled(context: Context, value: np.ndarray) -> np.ndarray:
    """Rows of the norm that a random fan-in has on average; 0 where a source plays no part, as rounding is none."""
    value = np.where(np.abs(value) > 1e-6 * np.abs(value).max(axis=1, keepdims=True, initial=0), value, 0.0)
    norm = np.sqrt(gain_of(context.state.network.activation))
    scaled: np.ndarray = value * norm / np.linalg.norm(value, axis=1, keepdims=True)
    return scaled
