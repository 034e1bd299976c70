"""What plastic paths are worth: a table of settings, and sentences on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from search.session.console import Console
from search.session.tables import table_of
from structnet.measure.statistics import ConfidenceInterval, mean_and_spread, paired_lead, shown_with_spread
from structnet.trials.paths import PLASTIC, RESNET, STATIC

Row = Mapping[str, Any]
TEXTS = ("variant", "arm", "removal", "growth", "changes after")
NUMBERS = ("test accuracy", "validation", "parameters", "without backbone", "paths moved", "seconds")


class Setting(NamedTuple):
    """What is compared over rng_seeds. rows: of the networks that finished."""

    variant: str
    arm: str
    removal: str | None
    growth: str | None
    frequency: int | None
    rows: list[Row]

    @property
    def name(self) -> str:
        """In sentences and figures."""
        how = f" ({self.removal}, {self.growth}, every {self.frequency} steps)" if self.arm == PLASTIC else ""
        return f"{self.variant}, {self.arm}{how}"

    def by_seed(self) -> dict[int, float]:
        """rng_seed -> test accuracy."""
        return {row["rng_seed"]: row["test_accuracy"] for row in self.rows}


def settings_of(rows: Sequence[Row]) -> list[Setting]:
    """The settings, in the order of their trials; without networks that diverged."""
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        if row["status"] == "finished":
            key = row["variant"], row["method"], row["removal"], row["growth"], row["frequency"]
            found.setdefault(key, []).append(row)
    return [
        Setting(variant, arm, removal, growth, frequency, mine)
        for (variant, arm, removal, growth, frequency), mine in found.items()
    ]


def cells(setting: Setting, moved: Mapping[str, int]) -> list[str]:
    """Of a setting, in the order of TEXTS and NUMBERS. moved: network -> paths that went and came elsewhere."""
    rows, is_plastic = setting.rows, setting.arm == PLASTIC
    often = f"{setting.frequency} steps" if is_plastic else ""
    beside = [
        row["parameters"] - row["parameters_backbone"]
        for row in rows
        if row["parameters_backbone"] is not None
    ]
    return [
        setting.variant,
        setting.arm,
        setting.removal or "",
        setting.growth or "",
        often,
        *(shown_with_spread([row[name] for row in rows]) for name in ("test_accuracy", "accuracy")),
        f"{np.mean([row['parameters'] for row in rows]):,.0f}",
        f"{np.mean(beside):,.0f}" if beside else "",
        f"{np.mean([moved.get(row['network'], 0) for row in rows]):.1f}" if is_plastic else "",
        f"{np.mean([row['seconds'] for row in rows]):,.1f}",
    ]


def moved_of(decisions: Sequence[Row]) -> dict[str, int]:
    """network -> paths that went."""
    found: dict[str, int] = {}
    for row in decisions:
        if row["removed"]:
            found[row["network"]] = found.get(row["network"], 0) + 1
    return found


def sentences_of(settings: Sequence[Setting], rows: Sequence[Row], decisions: Sequence[Row]) -> list[str]:
    """What follows from the table, a line each."""
    plastic = [setting for setting in settings if setting.arm == PLASTIC]
    found = [line for setting in plastic for line in _on(setting, settings, decisions)]
    if failed := [row for row in rows if row["status"] != "finished"]:
        found.append(
            f"Training diverged for {len(failed)} of {len(rows)} networks, which are left out: lower --learning-rate"
        )
    return found


def lead_over(setting: Setting, arm: str, settings: Sequence[Setting]) -> ConfidenceInterval | None:
    """How far a plastic setting is above the other arm of its variant on test, paired over rng_seeds.

    The intervals of all plastic settings of a variant hold together at 95 %. None where there is nothing to compare.
    """
    other = next((one for one in settings if (one.variant, one.arm) == (setting.variant, arm)), None)
    if other is None:
        return None
    rivals = sum((one.variant, one.arm) == (setting.variant, PLASTIC) for one in settings)
    return paired_lead(setting.by_seed(), other.by_seed(), comparisons=rivals)


def verdict(lead: ConfidenceInterval) -> str:
    """Whether plastic paths help: yes, no where they surely harm, else not shown."""
    return "yes" if lead.is_above_zero else "no" if lead.is_below_zero else "not shown"


def _on(setting: Setting, settings: Sequence[Setting], decisions: Sequence[Row]) -> list[str]:
    """The sentences on a plastic setting."""
    found = []
    for arm, named in ((STATIC, "the same paths left where they are"), (RESNET, "the residual network")):
        lead = lead_over(setting, arm, settings)
        if lead is not None:
            found.append(f"{setting.name} against {named}: {shown(lead)} points of test accuracy")
    against = lead_over(setting, STATIC, settings)
    if against is not None:
        found.append(
            f"Do plastic paths help at all once new paths are trained? {setting.name}: {verdict(against)}"
        )
    names = {row["network"] for row in setting.rows}
    lost = usefulness([row for row in decisions if row["network"] in names])
    if lost:
        mean, spread = mean_and_spread(lost)
        found.append(
            f"{setting.name}: a path that went was worth {100 * mean:+.2f} ± {100 * spread:.2f} points of validation "
            f"accuracy ({len(lost)} paths)"
        )
    return found


def usefulness(decisions: Sequence[Row]) -> list[float]:
    """Of each path that went, the validation accuracy that is lost when it alone is cut."""
    return [
        row["accuracy"] - row["accuracy_without"]
        for row in decisions
        if row["removed"] and None not in (row["accuracy"], row["accuracy_without"])
    ]


def shown(lead: ConfidenceInterval) -> str:
    """In points; a single rng_seed has no interval."""
    if np.isfinite(lead.low):
        return lead.shown(scale=100, named=True)
    return f"{100 * lead.mean:+.2f} (one rng_seed, so without an interval)"


def print_results(
    settings: Sequence[Setting], rows: Sequence[Row], decisions: Sequence[Row], console: Console
) -> None:
    """The table and the sentences."""
    table, moved = table_of(TEXTS, NUMBERS), moved_of(decisions)
    for setting in settings:
        table.add_row(*cells(setting, moved))
    console.show(table)
    for line in sentences_of(settings, rows, decisions):
        console.say(line)
