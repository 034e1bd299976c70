"""GradMax: fan-ins of new units climb to where the gradient of their fan-out is larger (Evci et al. 2022).

A step goes to the gradient of its squared norm and keeps the largest entries: the truncated power method (Yuan &
Zhang 2013), through the activation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from structnet.actions.base import Context, thinned
from structnet.actions.firing import normal, threshold
from structnet.actions.reading import Reading, Saying, room, weighted_sums
from structnet.network.activations import Activation, activation_named, gain_of

IMAGES = 256  # enough to tell which way is up
LARGEST = 50_000_000  # numbers of the matrices that are made for it: 200 MB of float32
STEPS = 3
FREE_STEPS = 2  # of these, in which a unit may still change its sources
ALIKE = 0.95  # units of a larger cosine would learn the same


def ascended(
    context: Context,
    sources: Sequence[int],
    targets: Sequence[int],
    group: int,
    useful: np.ndarray,
    starts: np.ndarray,
    fan_in: int,
) -> tuple[np.ndarray, np.ndarray]:
    """(starts or fewer, fan_in) columns and values where the gradient of the fan-out is larger, best first.

    Columns count the useful ports of the sources. Every direction starts in both senses, which a ReLU tells apart, and
    the one that is better after a step stays. What ends up like a better one is left out.
    """
    ascent = _Ascent.of(context, sources, targets, group, useful)
    both = torch.from_numpy(np.concatenate([starts, -starts])).to(ascent.active.device, ascent.active.dtype)
    now = ascent.at(both, _largest_columns(both, fan_in))
    before, now = now, ascent.step(now, free=True)
    best = before.or_better(now)
    ahead, behind = torch.split(best.strength[:, 0], len(starts))
    chosen = torch.arange(len(starts), device=ahead.device) + len(starts) * (behind > ahead)
    best, now = best.rows(chosen), now.rows(chosen)
    for step in range(2, STEPS + 1):
        now = ascent.step(now, free=step <= FREE_STEPS)
        best = best.or_better(now)
    best = best.rows(torch.sort(-best.strength[:, 0], stable=True).indices)
    columns, order = torch.sort(best.column, dim=1)
    values = best.value.gather(1, order).double().cpu().numpy()
    found = columns.cpu().numpy()
    full = np.zeros((len(found), len(useful)))
    np.put_along_axis(full, found, values / ascent.scale, axis=1)
    kept = _distinct(full @ full.T)
    return found[kept], values[kept]


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
    """Where fan-ins climb.

    active: (sources, n). error: (connections out, n), as structnet.actions.reading.Saying has them. scale: the norm of
    a fan-in. is_normal: whether the units are normalised; the way up does without that.
    """

    active: torch.Tensor
    error: torch.Tensor
    activation: Activation
    scale: float
    is_normal: bool

    @classmethod
    def of(
        cls,
        context: Context,
        sources: Sequence[int],
        targets: Sequence[int],
        group: int,
        useful: np.ndarray,
    ) -> _Ascent:
        """useful: which ports of the source groups may be in a fan-in."""
        sample, name = context.sample, context.state.network.activation
        images, area = sample.activations[-1].shape[1], context.topology.architecture.area(group)
        rows = len(useful) + room(context.topology, group, targets)
        fitting = max(1, LARGEST // (rows * area))
        every = max(1, images // IMAGES, -(-images // fitting))
        few = thinned(sample, every)
        active = Reading(few, sources, group).rows(useful)
        error = Saying(few, targets, group).errors()
        return cls(active, error, activation_named(name), gain_of(name) ** 0.5, context.normalises(group))

    def at(self, direction: torch.Tensor, column: torch.Tensor) -> _FanIns:
        """The fan-ins of these columns with values in proportion to a direction, (rows, sources)."""
        value = direction.gather(1, column)
        value = value * (self.scale / value.norm(dim=1, keepdim=True).clamp_min(1e-30))
        state = weighted_sums(self.active, column, value)
        state = normal(state)[0] if self.is_normal else state
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
