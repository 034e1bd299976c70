"""The verdict on a growth mechanism: did it bring networks back over the cliff, and more than its controls did?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from structnet.experiments.cliff import halfway
from structnet.measure.statistics import ConfidenceInterval, mean_interval

BEATEN = ("static", "random")  # what growth has to lead to rescue; `rewire` is a question of its own


@dataclass(frozen=True)
class RescueVerdict:
    """Two answers and what they rest on.

    success: growth rescues. beats_moving: it leads `rewire` as well; None without that arm. leads: accuracy of the
    growth arm less that of each other, paired by rng_seed. reached: mean accuracy of the growth arm; edge: what it has
    to reach. sentences: the answers.
    """

    success: bool
    beats_moving: bool | None
    leads: dict[str, ConfidenceInterval]
    reached: float
    edge: float
    sentences: tuple[str, ...]


def judge(
    accuracies: Mapping[str, Sequence[float]], plateau_accuracy: float, chance: float, margin: float = 0.0
) -> RescueVerdict:
    """Whether growth rescues: stated beforehand, so that no result can move the bar.

    accuracies: arm -> accuracy per rng_seed, all in the same order of rng_seeds. Growth has to lead static
    and random by more than `margin`, with the lower end of a 95 % paired t interval (Student 1908) over the
    rng_seeds, and its mean accuracy has to be at least half as far above chance as the plateau's; static's
    must not be, or there was nothing to rescue. Whether growth leads `rewire` in the same way is the second
    question: moving is free. With one rng_seed the interval is infinite, so nothing succeeds. Raises
    ValueError if an arm is missing or the numbers of rng_seeds differ.
    """
    missing = {*BEATEN, "growth"} - set(accuracies)
    counts = {len(found) for found in accuracies.values()}
    if missing or len(counts) != 1 or 0 in counts:
        raise ValueError(f"arms {sorted(accuracies)} with {sorted(counts)} rng_seeds cannot be judged")
    growth = np.asarray(accuracies["growth"], dtype=np.float64)
    leads = {
        arm: mean_interval(growth - np.asarray(found)) for arm, found in accuracies.items() if arm != "growth"
    }
    reached, edge = float(growth.mean()), halfway(plateau_accuracy, chance)
    alone = float(np.mean(accuracies["static"]))
    success = alone < edge <= reached and all(leads[arm].low > margin for arm in BEATEN)
    fallen = "" if alone < edge else f"; there was nothing to rescue, as static reaches {alone:.4f}"
    sentences = [
        f"rescued: {'yes' if success else 'no'}; over {len(growth)} rng_seeds growth reaches {reached:.4f}, where "
        f"{edge:.4f} is back over the cliff, and leads {_shown(leads, BEATEN)}, where more than {margin:g} is "
        f"needed{fallen}"
    ]
    beats_moving = leads["rewire"].low > margin if "rewire" in leads else None
    if beats_moving is not None:
        sentences.append(
            f"more than moving does: {'yes' if beats_moving else 'no'}; growth leads {_shown(leads, ['rewire'])}"
        )
    return RescueVerdict(success, beats_moving, leads, reached, edge, tuple(sentences))


def _shown(leads: Mapping[str, ConfidenceInterval], arms: Sequence[str]) -> str:
    return " and ".join(f"{arm} by {leads[arm].shown(digits=4, named=True)}" for arm in arms)
