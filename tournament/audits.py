"""Audit forks: losers of a round that are left running beside the controls, to learn what heats undervalue.

Which ones is drawn at random among all forks that dropped out at the end of the first heat, not among those of the
last: what a short heat undervalues does not get that far. Their gains are taken on the images that judge, which had
no part in dropping them; otherwise their short gains would be low by selection, and every rise high. None of them is
ever adopted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from tournament.bracket import Heat
from tournament.heats import Entrant, Terms, rank, train
from tournament.rules.maturity import Audit
from tournament.workers.pool import Pool


@dataclass
class Auditor:
    """The audit of one round. count: how many forks. chosen: those that are left running, as copies."""

    count: int
    rng: np.random.Generator
    chosen: list[Entrant] = field(default_factory=list)

    def choose(self, heat: int, entrants: list[Entrant], going_on: list[Entrant]) -> None:
        """Draws at the end of the first heat, of what drops out or, where there is only one heat, of all forks.

        Forks that free parameters are left out: what rises is what was added.
        """
        if heat > 1:
            return
        survivors = {entrant.candidate for entrant in going_on}
        growth = [one for one in entrants if not one.stays and one.parameters_added > 0 and one.standing]
        dropped = [one for one in growth if one.candidate not in survivors]
        offered = dropped or growth
        drawn = sorted(self.rng.permutation(len(offered))[: self.count].tolist())
        self.chosen = [_copy(offered[index]) for index in drawn]


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
        train(
            pool,
            list(chosen),
            Heat(missed, len(chosen)),
            terms,
            with_probe=_with_probe(terms),
            on_fork=on_fork,
        )
        rank(entrants, terms)
    whole = [entrant for entrant in entrants if entrant.measured is not None]
    train(pool, whole, Heat(steps, len(whole)), terms, with_probe=_with_probe(terms), on_fork=on_fork)
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


def _with_probe(terms: Terms) -> bool:
    return terms.estimator == "probe"


def _copy(entrant: Entrant) -> Entrant:
    return replace(entrant, judged=dict(entrant.judged), survived=False, won=False)
