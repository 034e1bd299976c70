"""Screening: which of the proposed changes enter a round, as there are hundreds and room for a few.

Two rules. `promise` goes by predicted gain per parameter. `thompson` goes by what came of the same action at the same
size in earlier rounds: every kind of proposal is an arm of a bandit, and a place in the round goes to the arm whose
score is the highest in a draw from what is known of it (Thompson 1933).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from structnet.actions.base import Proposal

SCREENINGS = ("promise", "thompson")
Arm = tuple[str, int]  # an action, and the class of a size
Score = tuple[str, int, float]  # an arm and the score of one of its forks


def screen(
    found: Sequence[Proposal],
    sizes: tuple[int, ...],
    balance: float,
    candidates: int,
    bandit: Bandit | None = None,
) -> tuple[list[Proposal], list[Proposal]]:
    """The proposals that enter, and the best site of every action that is too dear.

    In order of predicted gain per parameter, but in turns: first the best affordable site of every action whatever
    its promise - first-order gain compares connections, not actions. Then, without a bandit, the best of every action
    in every size class, and then the rest; with one, place by place, the best of the arm that it draws.
    """
    ranked = by_promise(found)
    affordable = [proposal for proposal in ranked if proposal.parameters_added <= balance]
    dear = [proposal for proposal in ranked if proposal.parameters_added > balance]
    too_dear, _ = _first_of_each(dear, lambda proposal: proposal.action)
    sized, rest = _first_of_each(affordable, lambda proposal: arm_of(proposal, sizes))
    best, others = _first_of_each(sized, lambda proposal: proposal.action)
    if bandit:
        entered = {id(proposal) for proposal in best}
        left = [proposal for proposal in affordable if id(proposal) not in entered]
        return best[:candidates] + _drawn(left, sizes, candidates - len(best), bandit), too_dear
    return (best + others + rest)[:candidates], too_dear


def by_promise(found: Sequence[Proposal]) -> list[Proposal]:
    """Those of most predicted gain per parameter first; equal ones in their order."""
    promise = [proposal.predicted_gain / max(1, abs(proposal.parameters_added)) for proposal in found]
    return [found[index] for index in sorted(range(len(found)), key=lambda index: (-promise[index], index))]


def by_turns(found: Sequence[Proposal], sizes: tuple[int, ...]) -> list[Proposal]:
    """All of them: the best by promise of every action and size class, then the second best of each, and so on."""
    turns, left = [], by_promise(found)
    while left:
        first, left = _first_of_each(left, lambda proposal: arm_of(proposal, sizes))
        turns += first
    return turns


def arm_of(proposal: Proposal, sizes: tuple[int, ...]) -> Arm:
    """Its action, and the place of the size whose ratio to the proposal's is nearest to 1."""
    added = max(1, abs(proposal.parameters_added))
    nearest = min(range(len(sizes)), key=lambda index: abs(math.log(sizes[index] / added)))
    return proposal.action, nearest


@dataclass(frozen=True)
class Bandit:
    """What is known of the score of every arm: a normal-inverse-gamma posterior (Murphy 2007).

    scores: of all forks so far. rng: for the draws. The prior is worth one score with the mean and the variance of
    all scores, so an arm without any is drawn as widely as scores differ at all. Without scores all arms are alike.
    """

    scores: tuple[Score, ...]
    rng: np.random.Generator

    def draws(self, arms: Iterable[Arm], count: int) -> dict[Arm, np.ndarray]:
        """(count,) draws of the mean score of every arm."""
        values = np.array([score for _, _, score in self.scores])
        mean = float(values.mean()) if len(values) else 0.0
        variance = float(values.var()) or 1.0 if len(values) else 1.0
        return {arm: self._draw(self._of(arm), mean, variance, count) for arm in sorted(set(arms))}

    def _of(self, arm: Arm) -> np.ndarray:
        return np.array([score for action, size, score in self.scores if (action, size) == arm])

    def _draw(self, own: np.ndarray, mean: float, variance: float, count: int) -> np.ndarray:
        number = len(own)
        average = float(own.mean()) if number else mean
        weight = 1.0 + number
        centre = (mean + number * average) / weight
        spread = variance + 0.5 * (
            float(((own - average) ** 2).sum()) + number * (average - mean) ** 2 / weight
        )
        # Inverse gamma with shape 2 and scale `variance` has mean `variance` before any score is seen.
        of_arm = spread / self.rng.gamma(2.0 + number / 2, size=count)
        return self.rng.normal(centre, np.sqrt(of_arm / weight))


def _drawn(left: Sequence[Proposal], sizes: tuple[int, ...], places: int, bandit: Bandit) -> list[Proposal]:
    """Place by place the best that is left of the arm with the highest draw for that place."""
    waiting: dict[Arm, list[Proposal]] = {}
    for proposal in left:
        waiting.setdefault(arm_of(proposal, sizes), []).append(proposal)
    places = max(0, min(places, len(left)))
    draws = bandit.draws(waiting, places)
    entering = []
    for place in range(places):
        arm = max((arm for arm in draws if waiting[arm]), key=lambda arm: draws[arm][place])
        entering.append(waiting[arm].pop(0))
    return entering


def _first_of_each(
    ranked: Sequence[Proposal], kind: Callable[[Proposal], Hashable]
) -> tuple[list[Proposal], list[Proposal]]:
    seen: set[Hashable] = set()
    first: list[Proposal] = []
    rest: list[Proposal] = []
    for proposal in ranked:
        (rest if kind(proposal) in seen else first).append(proposal)
        seen.add(kind(proposal))
    return first, rest
