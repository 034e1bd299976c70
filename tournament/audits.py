"""Audit forks: losers of a round that are left running beside the controls, to learn what heats undervalue.

Connections gain at once, while new units and layers have to find their place first and often lose before they gain, so
a short heat undervalues structure. An audit tells by how much: a gain after a heat and the gain of the same fork much
later. From these comes, for every action and length of heat, a rise in bits per thousand parameters, which is added to
the gain that a fork is ranked by: what growth still gains when it has matured.

It is a sum and no factor, since no factor turns a loss into a gain: over five networks the rank correlation of a heat
of 50 steps with the end is 0.87 by the gain, 0.88 with factors, and 0.95 with rises (`structnet study estimators`).

Which forks are audited is drawn at random among all that dropped out at the end of the first heat, not among those of
the last: what a short heat undervalues does not get that far. Their gains are taken on the images that judge, which had
no part in dropping them; otherwise their short gains would be low by selection, and every rise high. None of them is
ever adopted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from tournament.heats import Entrant, FinishedHeat, Terms, rank, train
from tournament.workers.pool import Pool

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


def draw_audited(heat: FinishedHeat, count: int, rng: np.random.Generator) -> list[Entrant]:
    """Copies of so many forks of the first heat: of those that dropped out or, where there is only one heat, of all.

    Forks that free parameters are left out: what rises is what was added. Raises ValueError for a later heat.
    """
    if heat.number > 1:
        raise ValueError(
            f"heat {heat.number} is not the first, but only those that drop out of that are audited"
        )
    survivors = {entrant.candidate for entrant in heat.survivors}
    growth = [one for one in heat.entrants if not one.stays and one.parameters_added > 0 and one.standing]
    dropped = [one for one in growth if one.candidate not in survivors]
    offered = dropped or growth
    drawn = sorted(rng.permutation(len(offered))[:count].tolist())
    return [_copy(offered[index]) for index in drawn]


@dataclass(frozen=True)
class Audited:
    """audits: one for every fork and length of heat. trained: copies of controls and forks, with their extra steps."""

    audits: list[Audit]
    trained: list[tuple[Entrant, int]]


def run_audit(
    pool: Pool,
    chosen: Sequence[Entrant],
    controls: Sequence[Entrant],
    steps: int,
    terms: Terms,
    on_fork: Callable[[], None] = lambda: None,
) -> Audited:
    """Trains copies of the controls, and the chosen with them, for so many steps more.

    Forks that dropped out first make up for the heats that they missed.
    """
    running = [_copy(control) for control in controls if control.measured is not None]
    if not running or not chosen:
        return Audited([], [])
    entrants = [*running, *chosen]
    before = [entrant.steps for entrant in entrants]
    missed = running[0].steps - chosen[0].steps
    if missed > 0:
        train(pool, chosen, missed, terms, on_fork=on_fork)
        rank(entrants, terms)
    whole = [entrant for entrant in entrants if entrant.measured is not None]
    train(pool, whole, steps, terms, on_fork=on_fork)
    rank(whole, terms)
    audits = [audit for entrant in chosen if entrant.gain is not None for audit in _audits_of(entrant)]
    trained = [(entrant, entrant.steps - already) for entrant, already in zip(entrants, before)]
    return Audited(audits, trained)


def _audits_of(entrant: Entrant) -> list[Audit]:
    *shorts, end = sorted(entrant.judged)
    long = entrant.judged[end].bits
    return [
        Audit(entrant.action, entrant.parameters_added, steps, entrant.judged[steps].bits, long)
        for steps in shorts
    ]


def _copy(entrant: Entrant) -> Entrant:
    return replace(entrant, judged=dict(entrant.judged), survived=False, won=False)
