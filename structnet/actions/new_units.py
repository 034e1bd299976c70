"""New units: a fan-in that says something, a bias that makes them fire, and a fan-out of value 0.

Shared by the actions that add units. The fan-out of 0 leaves the output as it is, and the fan-in that is not
0 gives it a gradient from the first step on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from structnet.actions.base import Context
from structnet.measure.diagnosis import Diagnosis
from structnet.network.activations import Activation, activation_named, gain_of
from structnet.network.edit import Edit, connect
from structnet.network.topology import Topology

FAIR_SHARE = 0.1
RULES = ("random", "gradient", "gradmax")

ASCENT_IMAGES = 256  # enough to tell which way is up
ASCENT_STEPS = 3
FREE_STEPS = 2  # of these, in which a unit may still change its sources
FEWEST_STARTS = 4
ALIKE = 0.95  # units of a larger cosine would learn the same


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
        """Those of the new units and of their connections."""
        return len(self.biases) + len(self.source) + len(self.target)

    def plan(self) -> dict[str, Any]:
        """What a proposal needs of it to be applied."""
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
    from a normal distribution of variance gain ÷ fan-in. `gradient` takes the leading directions of
    mean(error · activationᵀ), which would make the gradient of the fan-out largest if units were linear, of the
    same norm and cut to `fan_in` entries. `gradmax` starts there, in both senses, and climbs to where it is
    largest through the activation and with so many entries (Evci et al. 2022, GradMax). Neither gives more
    units than there are directions.
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
        column, value = _directed_fan_in(context, sources, targets, useful, count, fan_in, rule)
        if not len(column):
            return None
    state = weighted(diagnosis, sources, useful[column], value)
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


def weighted(diagnosis: Diagnosis, groups: list[int], column: np.ndarray, value: np.ndarray) -> torch.Tensor:
    """(rows, n) weighted sums of activations; column: (rows, k) positions in the units of these groups together."""
    active = _activations(diagnosis, groups)
    weight = torch.from_numpy(value).to(active.device, active.dtype)
    return _sums(active, torch.from_numpy(column).to(active.device), weight)


def _activations(diagnosis: Diagnosis, groups: list[int]) -> torch.Tensor:
    """(units of the groups, n), in their order."""
    parts = [diagnosis.activations[group] for group in groups]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _sums(active: torch.Tensor, column: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """(rows, n) Σ value · active[column]: ten times as fast as a dense product where k is small."""
    return torch.nn.functional.embedding_bag(column, active, per_sample_weights=value, mode="sum")


def threshold(state: torch.Tensor) -> torch.Tensor:
    """(units,) what to subtract from pre-activations without bias, (units, n), so that units fire fairly often.

    The median; where too few images lie above it - sparse inputs tie at 0 - the mean, which always has some.
    """
    middle = torch.kthvalue(state, (state.shape[1] + 1) // 2, dim=1).values
    share = torch.count_nonzero(state > middle[:, None], dim=1) / state.shape[1]
    return torch.where(share >= FAIR_SHARE, middle, state.mean(dim=1))


def _directions(context: Context, sources: list[int], targets: list[int]) -> np.ndarray:
    """(rank, source units) of norm 1: the directions that mean(error · activationᵀ) stretches most, strongest first.

    They are found once for all sizes and rules, by the eigenvectors of the smaller of its two Gram matrices.
    """
    key = tuple(sources), tuple(targets)
    if key not in context.directions:
        matrix = _covariance(context.diagnosis, sources, targets)
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


def _covariance(diagnosis: Diagnosis, sources: list[int], targets: list[int]) -> torch.Tensor:
    """(target units, source units) float64: Σ error · (activation − its mean); 0 where a source does not vary.

    The bias of a unit takes the mean of its sources out, so only what varies about it counts.
    """
    product = torch.cat(
        [torch.cat([diagnosis.outer(a, b) for a in sources], dim=1) for b in targets]
    ).double()
    errors = [diagnosis.errors[group] for group in targets]
    total = torch.cat([error.sum(dim=1) for error in errors if error is not None]).double()
    units = units_of(diagnosis.topology, sources)
    mean = torch.from_numpy(diagnosis.mean_activation[units]).to(total.device)
    varies = torch.from_numpy(diagnosis.spread[units] > 0).to(total.device)
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
    useful: np.ndarray,
    count: int,
    fan_in: int,
    rule: str,
) -> tuple[np.ndarray, np.ndarray]:
    """(count or fewer, fan_in) columns and values by the rules `gradient` and `gradmax`."""
    directions = _directions(context, sources, targets)[:, useful]
    if not len(directions):
        return np.empty((0, fan_in), dtype=np.int64), np.empty((0, fan_in))
    if rule == "gradient":
        return _cut(context, directions[:count], fan_in)
    starts = directions[: max(count, FEWEST_STARTS)]
    column, value = _ascended(context, sources, targets, useful, starts, fan_in)
    return column[:count], value[:count]


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


def _ascended(
    context: Context,
    sources: list[int],
    targets: list[int],
    useful: np.ndarray,
    starts: np.ndarray,
    fan_in: int,
) -> tuple[np.ndarray, np.ndarray]:
    """(starts or fewer, fan_in) columns and values where the gradient of the fan-out is larger, best first.

    Every direction starts in both senses, which a ReLU tells apart, and the one that is better after a step stays.
    What ends up like a better one is left out.
    """
    ascent = _Ascent.of(context, sources, targets, useful)
    both = torch.from_numpy(np.concatenate([starts, -starts])).to(ascent.active.device, ascent.active.dtype)
    now = ascent.at(both, _largest_columns(both, fan_in))
    before, now = now, ascent.step(now, free=True)
    best = before.or_better(now)
    ahead, behind = torch.split(best.strength[:, 0], len(starts))
    chosen = torch.arange(len(starts), device=ahead.device) + len(starts) * (behind > ahead)
    best, now = best.rows(chosen), now.rows(chosen)
    for step in range(2, ASCENT_STEPS + 1):
        now = ascent.step(now, free=step <= FREE_STEPS)
        best = best.or_better(now)
    best = best.rows(torch.sort(-best.strength[:, 0], stable=True).indices)
    columns, order = torch.sort(best.column, dim=1)
    values = best.value.gather(1, order).double().cpu().numpy()
    found = columns.cpu().numpy()
    full = np.zeros((len(found), len(useful)))
    np.put_along_axis(full, found, values / ascent.scale, axis=1)
    kept = _distinct(full @ full.T)
    return found[kept], _scaled(context, values[kept])


class _FanIns(NamedTuple):
    """Fan-ins of new units, and what they give.

    column, value: (rows, fan_in). fires: (rows, n) activations. gradient: (rows, targets) of the fan-out.
    strength: (rows, 1) its norm.
    """

    column: torch.Tensor
    value: torch.Tensor
    fires: torch.Tensor
    gradient: torch.Tensor
    strength: torch.Tensor

    def rows(self, where: torch.Tensor) -> _FanIns:
        return _FanIns(*(part[where] for part in self))

    def or_better(self, other: _FanIns) -> _FanIns:
        """Row by row the one of greater strength."""
        better = other.strength > self.strength
        return _FanIns(*(torch.where(better, theirs, ours) for ours, theirs in zip(self, other)))


@dataclass(frozen=True)
class _Ascent:
    """Fan-ins climb to where the gradient of their fan-out is larger.

    A step goes to the gradient of its squared norm and keeps the largest entries: the truncated power method (Yuan &
    Zhang 2013), through the activation. active: (sources, n). error: (targets, n). scale: the norm of a fan-in.
    """

    active: torch.Tensor
    error: torch.Tensor
    activation: Activation
    scale: float

    @classmethod
    def of(cls, context: Context, sources: list[int], targets: list[int], useful: np.ndarray) -> _Ascent:
        """useful: which units of the source groups may be in a fan-in."""
        diagnosis, name = context.diagnosis, context.state.network.activation
        thin = slice(None, None, max(1, diagnosis.activations[0].shape[1] // ASCENT_IMAGES))
        active = _activations(diagnosis, sources)[:, thin]
        active = active[torch.from_numpy(useful).to(active.device)]
        errors = [diagnosis.errors[group] for group in targets]
        error = torch.cat([part[:, thin] for part in errors if part is not None])
        return cls(active, error, activation_named(name), gain_of(name) ** 0.5)

    def at(self, direction: torch.Tensor, column: torch.Tensor) -> _FanIns:
        """The fan-ins of these columns with values in proportion to a direction, (rows, sources)."""
        value = direction.gather(1, column)
        value = value * (self.scale / value.norm(dim=1, keepdim=True).clamp_min(1e-30))
        state = _sums(self.active, column, value)
        fires = self.activation.apply(state - threshold(state)[:, None])
        gradient = fires @ self.error.t()
        return _FanIns(column, value, fires, gradient, gradient.norm(dim=1, keepdim=True))

    def step(self, now: _FanIns, *, free: bool) -> _FanIns:
        """A step further; free: to other columns if that is uphill."""
        passed = self.activation.slope(now.fires) * (now.gradient @ self.error)
        # The bias follows the fan-in, so only what varies about the mean counts.
        uphill = (passed - passed.mean(dim=1, keepdim=True)) @ self.active.t()
        return self.at(uphill, _largest_columns(uphill, now.column.shape[1]) if free else now.column)


def _largest_columns(direction: torch.Tensor, count: int) -> torch.Tensor:
    return torch.topk(direction.abs(), count, dim=1).indices


def _distinct(cosine: np.ndarray) -> list[int]:
    """The rows that are not like one before them; cosine: (rows, rows)."""
    kept: list[int] = []
    for row in range(len(cosine)):
        if not np.any(np.abs(cosine[row, kept]) > ALIKE):
            kept.append(row)
    return kept
