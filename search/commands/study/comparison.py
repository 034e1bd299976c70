"""Comparing the arms of a study: paired by rng_seed, with mean, spread and a 95 % t interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from search.commands.study.study import Row
from search.session.plots import finish
from structnet.experiments.verdict import Lead, paired_lead

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Arm:
    """One arm by one quantity. lead: over the base, paired by the rng_seeds of both; None for the base itself."""

    name: str
    values: dict[int, float]
    lead: Lead | None

    @property
    def mean(self) -> float:
        return float(np.mean(list(self.values.values())))

    @property
    def spread(self) -> float:
        """Sample standard deviation; 0 for one rng_seed."""
        return float(np.std(list(self.values.values()), ddof=1)) if len(self.values) > 1 else 0.0


def values_of(rows: Sequence[Row], quantity: str) -> dict[str, dict[int, float]]:
    """arm -> rng_seed -> value, arms in the order of their first row; the last item of each counts."""
    found: dict[str, dict[int, float]] = {}
    for row in rows:
        if row.quantity == quantity:
            found.setdefault(row.arm, {})[row.rng_seed] = row.value
    return found


def compare(rows: Sequence[Row], quantity: str, base: str) -> dict[str, Arm]:
    """Every arm by this quantity, with its lead over the base. Raises ValueError if the base has no such rows."""
    found = values_of(rows, quantity)
    if base not in found:
        raise ValueError(f"no {quantity} of {base} was measured")
    return {
        name: Arm(name, values, _lead(values, found[base], name == base)) for name, values in found.items()
    }


def _lead(values: dict[int, float], base: dict[int, float], is_base: bool) -> Lead | None:
    both = sorted(values.keys() & base.keys())
    if is_base or not both:
        return None
    return paired_lead(np.array([values[seed] - base[seed] for seed in both]))


def is_above(lead: Lead | None) -> bool:
    """Whether the interval of a lead lies above 0."""
    return lead is not None and lead.low > 0


def shown(lead: Lead, *, scale: float = 1.0, digits: int = 2) -> str:
    """A lead as text; scale: 100 turns shares into points."""
    low, mean, high = (f"{scale * value:+.{digits}f}" for value in (lead.low, lead.mean, lead.high))
    return f"{mean} ({low} to {high})"


def arm_table(
    rows: Sequence[Row], columns: Sequence[tuple[str, str, float, int]], base: str
) -> tuple[tuple[str, ...], ...]:
    """A table of all arms. columns: (quantity, heading, scale, digits); the first also as a lead over the base."""
    first, heading, scale, digits = columns[0]
    compared = compare(rows, first, base)
    table = [("arm", *(name for _, name, _, _ in columns), f"{heading}: lead over {base} (95 % interval)")]
    found = {quantity: compare(rows, quantity, base) for quantity, _, _, _ in columns}
    for name, arm in compared.items():
        cells = [name]
        for quantity, _, factor, places in columns:
            other = found[quantity][name]
            cells.append(f"{factor * other.mean:,.{places}f} ± {factor * other.spread:,.{places}f}")
        table.append((*cells, shown(arm.lead, scale=scale, digits=digits) if arm.lead else ""))
    return tuple(table)


def draw_arms(axes: Axes, rows: Sequence[Row], quantity: str, label: str, *, scale: float = 1.0) -> None:
    """A point for every arm and rng_seed, and a line at the mean of each arm."""
    found = values_of(rows, quantity)
    for place, values in enumerate(found.values()):
        heights = [scale * value for value in values.values()]
        offsets = np.linspace(-0.12, 0.12, len(heights)) if len(heights) > 1 else [0.0]
        axes.plot([place + offset for offset in offsets], heights, "o", color=f"C{place}", markersize=4)
        axes.hlines(float(np.mean(heights)), place - 0.25, place + 0.25, color=f"C{place}")
    axes.set_xticks(range(len(found)), list(found), rotation=30, ha="right", fontsize="small")
    finish(axes, "", label)


def draw_errors(axes: Axes, points: Sequence[tuple[float, Sequence[float]]], label: str) -> None:
    """A line through the mean error in % at each x, with its spread. points: x and the accuracies of its rng_seeds."""
    x, accuracies = zip(*sorted(points, key=lambda point: point[0]))
    errors = [100 * (1 - np.array(values)) for values in accuracies]
    spread = [values.std(ddof=1) if len(values) > 1 else 0.0 for values in errors]
    means = [values.mean() for values in errors]
    axes.errorbar(x, means, yerr=spread, marker="o", markersize=4, capsize=3, linewidth=1, label=label)
