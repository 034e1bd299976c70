"""Maturity: how much more a kind of growth is worth in the end than a short heat shows.

Connections gain at once, while new units and layers have to find their place first, so a short heat undervalues
structure. Audit forks - losers left running beside the controls - tell by how much: each is a gain after a heat and
the gain of the same fork much later. From these comes a factor for every action and length of heat.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

PRIOR_AUDITS = 10.0
FLOOR = 0.25


class Audit(NamedTuple):
    """A fork that was left running: its gain after so many steps of heats, and at the end, in bits."""

    action: str
    steps: int
    short: float
    long: float


@dataclass(frozen=True)
class Maturity:
    """factors: (action, steps) -> gain in the end ÷ gain after a heat; others: steps -> that of all actions."""

    factors: dict[tuple[str, int], float] = field(default_factory=dict)
    others: dict[int, float] = field(default_factory=dict)

    def factor(self, action: str, steps: int) -> float:
        """By what to multiply a gain; 1 for a length of heat that was never audited."""
        return self.factors.get((action, steps), self.others.get(steps, 1.0))


def learn(audits: Iterable[Audit], *, prior: float = PRIOR_AUDITS, floor: float = FLOOR) -> Maturity:
    """Factors as ratios of sums over the audits, shrunk in two steps: an action to all actions, and these to 1.

    Only audits with a short gain above 0 count, as only such gains are ever multiplied; with the others the sums of
    what starts by losing come near 0, and their ratio means nothing. prior: the weight of what is shrunk to, in audits
    of the average short gain at their length of heat. With s and l the sums of short and long gains and w that weight
    in bits, the factor of all actions is R = (l + w) ÷ (s + w), and that of an action, by its own sums,
    (l + w·R) ÷ (s + w): one that was never audited is neither favoured nor held back. No factor is below `floor`, so
    that no action is written off.
    """
    by_steps: dict[int, list[Audit]] = {}
    for audit in audits:
        if audit.short > 0:
            by_steps.setdefault(audit.steps, []).append(audit)
    factors: dict[tuple[str, int], float] = {}
    others: dict[int, float] = {}
    for steps, found in by_steps.items():
        weight = prior * sum(audit.short for audit in found) / len(found)
        others[steps] = max(floor, _ratio(found, weight, 1.0))
        for action in dict.fromkeys(audit.action for audit in found):
            own = [audit for audit in found if audit.action == action]
            factors[action, steps] = max(floor, _ratio(own, weight, others[steps]))
    return Maturity(factors, others)


def _ratio(audits: list[Audit], weight: float, expected: float) -> float:
    short, long = (sum(sums) for sums in zip(*((audit.short, audit.long) for audit in audits)))
    return (long + weight * expected) / (short + weight)
