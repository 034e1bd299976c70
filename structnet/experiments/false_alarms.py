"""How often a trigger fires while the loss still falls, told with hindsight.

A trigger sees only what has been; this looks at what came after. So it is a measurement on recorded runs, not a
trigger: it says for each step whether training on alone would have lowered the loss, and counts how many of the
trigger's alarms fell on such steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from structnet.growth.triggers import Series, Trigger

STANDARD_ERRORS = 2.0


@dataclass(frozen=True)
class AlarmCount:
    """Steps and alarms of one or more runs.

    falling_steps, false_alarms: where the loss still fell. other_steps, other_alarms: where it did not, or not
    for certain. Steps too near an end of the run to tell are in neither.
    """

    falling_steps: int = 0
    other_steps: int = 0
    false_alarms: int = 0
    other_alarms: int = 0

    @property
    def false_per_thousand(self) -> float:
        """False alarms per 1,000 steps of falling loss; NaN without such steps."""
        return 1000 * self.false_alarms / self.falling_steps if self.falling_steps else math.nan

    @property
    def other_per_thousand(self) -> float:
        """Alarms per 1,000 of the other steps, where they are wanted; NaN without such steps."""
        return 1000 * self.other_alarms / self.other_steps if self.other_steps else math.nan

    def __add__(self, other: AlarmCount) -> AlarmCount:
        return AlarmCount(
            self.falling_steps + other.falling_steps,
            self.other_steps + other.other_steps,
            self.false_alarms + other.false_alarms,
            self.other_alarms + other.other_alarms,
        )


def alarms_of(trigger: Trigger, series: Series, *, every: int, longest: int | None = None) -> list[int]:
    """The steps after which a trigger fires that is asked after every so many, as a tournament asks it.

    series: (steps,) of what the trigger watches. After an alarm its history begins anew. longest: so does it,
    without an alarm, when it has this many steps; None for never.
    """
    values = np.asarray(series, dtype=np.float64)
    alarms, start = [], 0
    for stop in range(every, len(values) + 1, every):
        fires = trigger.fires(values[start:stop])
        if fires:
            alarms.append(stop)
        if fires or (longest is not None and stop - start >= longest):
            start = stop
    return alarms


def falling_steps(losses: Series, *, horizon: int, least: float) -> np.ndarray:
    """(steps + 1,) float64, after each number of steps: 1 where the loss falls, 0 where not, NaN near the ends.

    It falls where the mean of the `horizon` losses that follow is below that of the `horizon` losses before by
    more than `least`, a share of that, and by more than two standard errors. The noise comes from successive
    differences (von Neumann 1941).
    """
    values = np.asarray(losses, dtype=np.float64)
    falls = np.full(len(values) + 1, np.nan)
    if len(values) < 2 * horizon or horizon < 2:
        return falls
    windows = np.lib.stride_tricks.sliding_window_view(values, horizon)
    means = windows.mean(axis=1)
    variances = np.square(np.diff(windows, axis=1)).mean(axis=1) / (2 * horizon)
    before, after = means[:-horizon], means[horizon:]
    margin = STANDARD_ERRORS * np.sqrt(variances[:-horizon] + variances[horizon:])
    falls[horizon : len(values) - horizon + 1] = before - after > np.maximum(least * np.abs(before), margin)
    return falls


def count_alarms(alarms: Iterable[int], falls: np.ndarray) -> AlarmCount:
    """Alarms of one run, as `alarms_of` gives them, on the steps that `falling_steps` tells apart."""
    at = np.zeros(len(falls), dtype=bool)
    at[list(alarms)] = True
    falling, other = falls == 1, falls == 0
    return AlarmCount(
        int(falling.sum()), int(other.sum()), int((at & falling).sum()), int((at & other).sum())
    )
