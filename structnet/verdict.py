"""The verdict on a growth mechanism: did it bring networks back over the cliff, and more than its controls did?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from structnet.cliff import halfway

LEVEL = 0.95


@dataclass(frozen=True)
class Lead:
    """Accuracy of the growth arm less that of another, paired by rng_seed: mean and 95 % t interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Verdict:
    """leads: over each other arm. reached: mean accuracy of the growth arm; edge: what it has to reach."""

    success: bool
    leads: dict[str, Lead]
    reached: float
    edge: float
    sentence: str


def judge(
    accuracies: Mapping[str, Sequence[float]], plateau_accuracy: float, chance: float, margin: float = 0.0
) -> Verdict:
    """Whether growth rescues: stated beforehand, so that no result can move the bar.

    accuracies: arm -> accuracy per rng_seed, all in the same order of rng_seeds. Growth has to lead static
    and random by more than `margin`, with the lower end of a 95 % paired t interval (Student 1908) over the
    rng_seeds, and its mean accuracy has to be at least half as far above chance as the plateau's. With one
    rng_seed the interval is infinite, so nothing succeeds. `rewire`, if given, is only reported. Raises
    ValueError if an arm is missing or the numbers of rng_seeds differ.
    """
    missing = {"static", "growth", "random"} - set(accuracies)
    counts = {len(found) for found in accuracies.values()}
    if missing or len(counts) != 1 or 0 in counts:
        raise ValueError(f"arms {sorted(accuracies)} with {sorted(counts)} rng_seeds cannot be judged")
    growth = np.asarray(accuracies["growth"], dtype=np.float64)
    leads = {arm: _lead(growth - np.asarray(found)) for arm, found in accuracies.items() if arm != "growth"}
    reached, edge = float(growth.mean()), halfway(plateau_accuracy, chance)
    success = reached >= edge and all(leads[arm].low > margin for arm in ("static", "random"))
    shown = ", ".join(
        f"{arm} by {lead.mean:+.4f} (95 % interval {lead.low:+.4f} to {lead.high:+.4f})"
        for arm, lead in leads.items()
    )
    sentence = (
        f"{'rescued' if success else 'not rescued'}: over {len(growth)} rng_seeds growth reaches {reached:.4f}, "
        f"where {edge:.4f} is back over the cliff, and leads {shown}; a lead has to be above {margin:g}"
    )
    return Verdict(success, leads, reached, edge, sentence)


def _lead(differences: np.ndarray) -> Lead:
    mean, count = float(differences.mean()), len(differences)
    if count < 2:
        return Lead(mean, -np.inf, np.inf)
    reach = float(stdtrit(count - 1, (1 + LEVEL) / 2) * differences.std(ddof=1) / np.sqrt(count))
    return Lead(mean, mean - reach, mean + reach)
