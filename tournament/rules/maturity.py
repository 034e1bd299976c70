"""Maturity: what growth still gains after a short heat has ended.

Connections gain at once, while new units and layers have to find their place first and often lose before they gain, so
a short heat undervalues structure. Audit forks - losers left running beside the controls - tell by how much: each is a
gain after a heat and the gain of the same fork much later. From these comes, for every action and length of heat, a
rise in bits per thousand parameters, which is added to the gain that a fork is ranked by.

It is a sum and no factor, since no factor turns a loss into a gain: over five networks the rank correlation of a heat
of 50 steps with the end is 0.87 by the gain, 0.88 with factors, and 0.95 with rises (`structnet study estimators`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

PRIOR_AUDITS = 5.0


class Audit(NamedTuple):
    """A fork that was left running: its gain after so many steps of heats, and in the end, in bits.

    parameters: that it added, above 0.
    """

    action: str
    parameters: int
    steps: int
    short: float
    long: float


@dataclass(frozen=True)
class Maturity:
    """rises: (action, steps) -> bits per thousand parameters gained after a heat; others: steps -> by all actions."""

    rises: dict[tuple[str, int], float] = field(default_factory=dict)
    others: dict[int, float] = field(default_factory=dict)

    def rise(self, action: str, steps: int) -> float:
        """Bits per thousand parameters; 0 for a length of heat that was never audited."""
        return self.rises.get((action, steps), self.others.get(steps, 0.0))


def learn(audits: Iterable[Audit], *, prior: float = PRIOR_AUDITS) -> Maturity:
    """Rises as ratios of sums over the audits, shrunk in two steps: an action to all actions, and these to 0.

    prior: the weight of what is shrunk to, in audits of the average size at their length of heat. With r the sum of
    what was gained after the heat, p that of the parameters and w the weight in parameters, the rise of all actions is
    R = r ÷ (p + w), and that of an action, by its own sums, (r + w·R) ÷ (p + w): one that was never audited is neither
    favoured nor held back.
    """
    by_steps: dict[int, list[Audit]] = {}
    for audit in audits:
        by_steps.setdefault(audit.steps, []).append(audit)
    rises: dict[tuple[str, int], float] = {}
    others: dict[int, float] = {}
    for steps, found in by_steps.items():
        weight = prior * sum(audit.parameters for audit in found) / len(found)
        others[steps] = _rise(found, weight, 0.0)
        for action in dict.fromkeys(audit.action for audit in found):
            own = [audit for audit in found if audit.action == action]
            rises[action, steps] = _rise(own, weight, others[steps])
    return Maturity(rises, others)


def _rise(audits: list[Audit], weight: float, expected: float) -> float:
    gained = 1000 * sum(audit.long - audit.short for audit in audits)
    return (gained + weight * expected) / (sum(audit.parameters for audit in audits) + weight)
