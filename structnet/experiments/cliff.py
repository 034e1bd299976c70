"""Where a network becomes too sparse to learn: the cliff of a ladder of densities.

A ladder trains the same architecture at falling densities, each with several rng_seeds. Its plateau is the
mean accuracy of the three densest rungs, its cliff the density at which accuracy above chance falls to half of
the plateau's. Every rng_seed has a plateau and a cliff of its own, interpolated in the logarithm of the
density; the cliff of the ladder is their geometric mean, with a percentile bootstrap over the rng_seeds (Efron
1979). Where a ladder ends before the fall, the answer is censored: below its sparsest rung.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from structnet.errors import UserError
from structnet.measure.statistics import bootstrap_interval, mean_and_spread
from structnet.seeds import stream

PLATEAU_RUNGS = 3
LEARNS = 0.1  # accuracy above chance that a plateau must have, or there is nothing to fall from


class Rung(NamedTuple):
    """One trained network of a ladder. accuracy: its share of right answers on validation data, in [0, 1]."""

    density_real: float
    rng_seed: int
    accuracy: float


@dataclass(frozen=True)
class Cliff:
    """Where the accuracy of a ladder falls to half of its plateau, above chance.

    plateau: accuracy, mean over the rng_seeds. rng_seeds: how many there are; `learned` of them have a plateau,
    and `reached` of these fall to half of it. density: geometric mean over the learned ones; None unless all
    of them fall. interval: 95 % bootstrap interval of it, too narrow with fewer than about five rng_seeds;
    None with fewer than two. below: what the density is below where not all of them fall, else None.
    recovered: rng_seeds that are above half again at a rung below their cliff.
    """

    plateau: float
    density: float | None
    interval: tuple[float, float] | None
    below: float | None
    rng_seeds: int
    learned: int
    reached: int
    recovered: int

    def describe(self) -> str:
        """One line."""
        if not self.learned:
            return f"no cliff: none of {self.rng_seeds} rng_seeds has a plateau {LEARNS:g} above chance"
        if self.density is None:
            text = f"cliff not reached: below density {self.below:.3g}"
        elif self.interval is None:
            text = f"cliff at density {self.density:.3g}, without an interval"
        else:
            low, high = self.interval
            text = f"cliff at density {self.density:.3g} (95 % interval {low:.3g} to {high:.3g})"
        text += f"; {self.reached} of {self.rng_seeds} rng_seeds fall to half of the plateau"
        if self.learned < self.rng_seeds:
            text += f", {self.rng_seeds - self.learned} have no plateau"
        if self.recovered:
            text += f", {self.recovered} recover at a sparser rung"
        return text


def halfway(plateau: float, chance: float) -> float:
    """The accuracy that is half as far above chance as the plateau: the edge of the cliff."""
    return chance + (plateau - chance) / 2


def locate_cliff(rungs: Iterable[Rung], chance: float) -> Cliff:
    """The cliff of a ladder; chance: accuracy of the commonest class, in [0, 1).

    A curve is read from its dense end, and its cliff is where it first falls below half: a lone bad rung thus
    counts as the fall, which errs towards too dense, and is told by `recovered`. Where only some rng_seeds
    fall, the others enter `below` with their sparsest rung, so it is an upper bound. Rows may come in any
    order. Raises UserError if a rng_seed has fewer than four rungs, ValueError if one is given twice or a
    number is out of its range.
    """
    curves = _curves(rungs)
    plateaus = [_plateau(curve) for curve in curves]
    learning = [
        (curve, plateau) for curve, plateau in zip(curves, plateaus) if plateau - chance >= LEARNS - 1e-12
    ]
    bounds, reached, recovered = [], 0, 0
    for curve, plateau in learning:
        fall, recovers = _first_fall(curve, halfway(plateau, chance))
        bounds.append(math.log(curve[-1].density_real) if fall is None else fall)
        reached += fall is not None
        recovered += recovers
    mean = float(np.exp(np.mean(bounds))) if bounds else None
    all_fall = reached == len(learning)
    return Cliff(
        plateau=float(np.mean(plateaus)),
        density=mean if all_fall else None,
        interval=_interval(np.array(bounds)) if all_fall and reached > 1 else None,
        below=None if all_fall else mean,
        rng_seeds=len(curves),
        learned=len(learning),
        reached=reached,
        recovered=recovered,
    )


def ladder_rows(rungs: Iterable[Rung]) -> list[dict[str, Any]]:
    """A row per density, the densest first: density_real, mean and spread of the accuracy, n (rng_seeds).

    The spread is the sample standard deviation, 0 for one rng_seed. Raises ValueError as `locate_cliff`.
    """
    accuracies: dict[float, list[float]] = {}
    for rung in _checked(rungs):
        accuracies.setdefault(rung.density_real, []).append(rung.accuracy)
    rows = []
    for density, found in accuracies.items():
        mean, spread = mean_and_spread(found)
        rows.append({"density_real": density, "mean": mean, "spread": spread, "n": len(found)})
    return rows


def _checked(rungs: Iterable[Rung]) -> list[Rung]:
    """The rungs from dense to sparse, by rng_seed within a density: the order in which sums are taken."""
    ordered = sorted(rungs, key=lambda rung: (-rung.density_real, rung.rng_seed))
    for rung in ordered:
        if not (0 < rung.density_real <= 1 and 0 <= rung.accuracy <= 1):
            raise ValueError(f"{rung}: density_real must be in (0, 1] and accuracy in [0, 1]")
    for one, other in pairwise(ordered):
        if one[:2] == other[:2]:
            raise ValueError(f"rng_seed {one.rng_seed} has density {one.density_real} twice")
    return ordered


def _curves(rungs: Iterable[Rung]) -> list[list[Rung]]:
    """The rungs of every rng_seed, from dense to sparse."""
    curves: dict[int, list[Rung]] = {}
    for rung in _checked(rungs):
        curves.setdefault(rung.rng_seed, []).append(rung)
    if not curves:
        raise UserError("the ladder has no rungs: give at least four densities")
    for rng_seed, curve in curves.items():
        if len(curve) <= PLATEAU_RUNGS:
            raise UserError(
                f"rng_seed {rng_seed} has {len(curve)} rungs, but at least {PLATEAU_RUNGS + 1} are needed: "
                f"{PLATEAU_RUNGS} for the plateau and one below it"
            )
    return [curves[rng_seed] for rng_seed in sorted(curves)]


def _plateau(curve: Sequence[Rung]) -> float:
    return float(np.mean([rung.accuracy for rung in curve[:PLATEAU_RUNGS]]))


def _first_fall(curve: Sequence[Rung], half: float) -> tuple[float | None, bool]:
    """The log density at which a curve first falls below an accuracy, and whether it rises above it again."""
    for index, (above, under) in enumerate(pairwise(curve)):
        if above.accuracy >= half > under.accuracy:
            share = (above.accuracy - half) / (above.accuracy - under.accuracy)
            dense, sparse = math.log(above.density_real), math.log(under.density_real)
            recovers = any(rung.accuracy >= half for rung in curve[index + 1 :])
            return dense + share * (sparse - dense), recovers
    return None, False


def _interval(logs: np.ndarray) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of these logarithms, as densities."""
    found = bootstrap_interval(logs, stream(0, "cliff"))
    return float(np.exp(found.low)), float(np.exp(found.high))
