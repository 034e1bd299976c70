"""Settings of a sweep compared over the same rng_seeds, from rows of the tables."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from structnet.measure.statistics import ConfidenceInterval, mean_and_spread, paired_lead
from structnet.training.batches import steps_per_epoch


@dataclass(frozen=True)
class SettingOutcome:
    """What a setting came to with one rng_seed; without an accuracy it failed.

    Of a hunt: the mean over the networks of that rng_seed, and the sum of their parameter-steps.
    """

    setting: str
    rng_seed: int
    accuracy: float | None = None
    parameters: float = 0.0
    parameter_steps: float = 0.0
    test_accuracy: float | None = None


@dataclass(frozen=True)
class ComparedSetting:
    """A setting over its rng_seeds: means, and with spread the sample standard deviation.

    accuracy is on validation. lead: over the base, paired by rng_seed; None for the base itself, and where they share
    no rng_seed.
    """

    setting: str
    rng_seeds: int
    failed: int
    accuracy: float
    spread: float
    parameters: float
    parameter_steps: float
    lead: ConfidenceInterval | None
    test: tuple[float, float] | None

    @property
    def has_interval(self) -> bool:
        """Whether it shares more than one rng_seed with the base."""
        return self.lead is not None and math.isfinite(self.lead.low)


def tournament_outcomes(rows: Iterable[tuple[str, Mapping[str, Any]]]) -> list[SettingOutcome]:
    """From rows of `experiments`, each with the setting it belongs to. Those still running are left out."""
    found = []
    for setting, row in rows:
        if row["status"] == "finished":
            numbers = (
                row[name] for name in ("accuracy", "parameters", "parameter_steps_all", "test_accuracy")
            )
            found.append(SettingOutcome(setting, row["rng_seed"], *numbers))
        elif row["status"] == "failed":
            found.append(SettingOutcome(setting, row["rng_seed"]))
    return found


def network_outcomes(rows: Iterable[tuple[str, Mapping[str, Any], int]], images: int) -> list[SettingOutcome]:
    """From rows of `networks`, each with its setting and batch size, trained on so many images."""
    groups: dict[tuple[str, int], list[tuple[float, float, float]]] = defaultdict(list)
    for setting, row, batch_size in rows:
        group = groups[setting, row["rng_seed"]]
        if row["accuracy"] is not None:
            steps = row["epochs"] * steps_per_epoch(images, batch_size)
            group.append((row["accuracy"], row["parameters"], row["parameters"] * steps))
    found = []
    for (setting, rng_seed), numbers in groups.items():
        if numbers:
            accuracy, parameters, spent = np.array(numbers).T
            outcome = SettingOutcome(
                setting, rng_seed, *map(float, (accuracy.mean(), parameters.mean(), spent.sum()))
            )
        else:
            outcome = SettingOutcome(setting, rng_seed)
        found.append(outcome)
    return found


def compared(outcomes: Sequence[SettingOutcome], base: str) -> list[ComparedSetting]:
    """The settings by mean accuracy on validation, best first; one where every rng_seed failed is left out."""
    of_base = {
        found.rng_seed: found.accuracy
        for found in outcomes
        if found.setting == base and found.accuracy is not None
    }
    rows = []
    for setting in dict.fromkeys(found.setting for found in outcomes):
        mine = [found for found in outcomes if found.setting == setting]
        right = {found.rng_seed: found.accuracy for found in mine if found.accuracy is not None}
        if not right:
            continue
        whole = [found for found in mine if found.accuracy is not None]
        test = [found.test_accuracy for found in whole if found.test_accuracy is not None]
        mean, spread = mean_and_spread(list(right.values()))
        rows.append(
            ComparedSetting(
                setting=setting,
                rng_seeds=len(right),
                failed=len(mine) - len(right),
                accuracy=mean,
                spread=spread,
                parameters=float(np.mean([found.parameters for found in whole])),
                parameter_steps=float(np.mean([found.parameter_steps for found in whole])),
                lead=paired_lead(right, of_base) if setting != base else None,
                test=mean_and_spread(test) if test else None,
            )
        )
    return sorted(rows, key=lambda row: (-row.accuracy, row.parameters, row.setting))
