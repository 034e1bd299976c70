"""What topology the networks learned: a verdict for every setting, and a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from search.session.console import Console
from search.session.tables import table_of
from structnet.growth.evolution import Evolution, seed_of_evolution
from structnet.measure.connectivity import centre_error
from structnet.measure.statistics import ConfidenceInterval, mean_interval, paired_lead, shown_with_spread
from structnet.trials.topology import BLIND, SET

if TYPE_CHECKING:
    from structnet.data.dataset import Dataset

Row = Mapping[str, Any]


class Setting(NamedTuple):
    """What is compared over rng_seeds. rows: of the networks that finished."""

    method: str
    epsilon: float
    zeta: float
    weight_decay: float
    decay: str
    rows: list[Row]

    @property
    def name(self) -> str:
        """What it is called."""
        if self.method == BLIND:
            return "control"
        return f"{self.decay} {self.weight_decay:g}" if self.weight_decay else "no decay"

    def by_seed(self, quantity: str) -> dict[int, float]:
        """rng_seed -> value."""
        return {row["rng_seed"]: row[quantity] for row in self.rows}


def settings_of(rows: Sequence[Row]) -> list[Setting]:
    """The settings, in order; without networks that diverged."""
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        if row["status"] == "finished":
            key = row["epsilon"], row["zeta"], row["method"] == BLIND, row["decay"], row["weight_decay"]
            found.setdefault(key, []).append(row)
    return [
        Setting(BLIND if is_blind else SET, epsilon, zeta, amount, decay, mine)
        for (epsilon, zeta, is_blind, decay, amount), mine in sorted(found.items())
    ]


def learned(setting: Setting, settings: Sequence[Setting]) -> tuple[str, ConfidenceInterval]:
    """`positive`, `negative` or `none`: whether the core lies surely more, or less, in the centre than the control's.

    And its lead over the control with a 95 % interval, paired over rng_seeds; without a control over 1, where nothing
    is learned.
    """
    values = setting.by_seed("core_centre_ratio")
    alike = (one for one in settings if one.method == BLIND and one[1:3] == setting[1:3])
    control = next(alike, None)
    lead = paired_lead(values, control.by_seed("core_centre_ratio")) if control else None
    if lead is None:
        lead = mean_interval([value - 1 for value in values.values()])
    return "positive" if lead.is_above_zero else "negative" if lead.is_below_zero else "none", lead


def print_results(settings: Sequence[Setting], rows: Sequence[Row], data: Dataset, console: Console) -> None:
    """A line for every setting, and how far ratios vary where nothing is learned."""
    numbers = ("test, %", "test loss", "centre", "core", "core's ring", "core against control", "shrinks")
    table = table_of(("epsilon", "zeta", "decay", "learned"), numbers)
    for setting in settings:
        mine, is_control = setting.rows, setting.method == BLIND
        verdict, lead = learned(setting, settings)
        ratios = ("centre_ratio", "core_centre_ratio", "core_ring_ratio")
        table.add_row(
            f"{setting.epsilon:g}",
            f"{setting.zeta:g}",
            setting.name,
            "" if is_control else verdict,
            shown_with_spread([row["test_accuracy"] for row in mine], scale=100, digits=2),
            f"{np.mean([row['test_loss'] for row in mine]):.3f}",
            *(shown_with_spread([row[name] for row in mine], digits=3) for name in ratios),
            "" if is_control else _shown(lead),
            f"{mine[0]['shrink_per_evolution']:.2%}",
        )
    console.show(table)
    console.say(
        "Centre: connections of a pixel in the central half of each side, to those of all. Core: the same of what the "
        "last evolution left; its ring: of the outer three pixels. Shrinks: what has no gradient, in an epoch."
    )
    if settings:
        error = error_of(settings[0], data.input_shape)
        console.say(
            f"Where nothing is learned, the centre of a network varies by {error:.3f} (one standard deviation)."
        )
    if failed := [row for row in rows if row["status"] != "finished"]:
        console.say(
            f"training diverged for {len(failed)} of {len(rows)} networks, which are left out: lower --learning-rate"
        )


def _shown(lead: ConfidenceInterval) -> str:
    """A single rng_seed has no interval."""
    return lead.shown(digits=3) if np.isfinite(lead.low) else f"{lead.mean:+.3f}"


def error_of(setting: Setting, shape: tuple[int, ...]) -> float:
    """The standard deviation of the centre's ratio in a network of this setting that learns nothing.

    shape: of an image, (channels, height, width).
    """
    network = seed_of_evolution(setting.rows[0]["architecture"], setting.epsilon, Evolution(), 0)
    return centre_error(network.topology, shape)
