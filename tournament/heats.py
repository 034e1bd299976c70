"""Running the heats of a round: forks and controls train, are measured, ranked, and the weak drop out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from structnet.actions.base import Proposal
from structnet.training import Recipe
from tournament.bracket import Heat
from tournament.fork import Measured
from tournament.policy import Policy, Standing
from tournament.pool import Job, Pool
from tournament.score import Bar, Gain, gain_over, is_informative, score, surplus

TRAIN, REWIRE = "train", "rewire"


@dataclass
class Entrant:
    """One fork of a round. candidate: its number in the tables. proposal: None for the train control.

    stays: a control or the twin, which runs in every heat. state: a handle to where it stands.
    """

    candidate: int
    action: str
    site: str
    proposal: Proposal | None
    state: Any
    control: bool = False
    stays: bool = False
    draw: float = 0.0
    steps: int = 0
    measured: Measured | None = None
    error: str = ""
    worker: str = ""
    seconds: float = 0.0
    gain: Gain | None = None
    probe_gain: Gain | None = None
    standing: Standing | None = None
    survived: bool = False
    won: bool = False

    @property
    def parameters_added(self) -> int:
        return self.proposal.parameters_added if self.proposal else 0

    def bits(self, estimator: str) -> np.ndarray:
        """(validation images,) log2-likelihoods by the estimator that decides."""
        assert self.measured is not None
        if estimator == "probe" and self.measured.probe_bits is not None:
            return self.measured.probe_bits
        return self.measured.bits


@dataclass(frozen=True)
class Terms:
    """What a heat is judged by."""

    recipe: Recipe
    rate: float
    bar: Bar
    policy: Policy
    estimator: str
    price: float
    score_floor: int


def run_heats(
    pool: Pool,
    field: list[Entrant],
    heats: list[Heat],
    terms: Terms,
    on_heat: Callable[[int, int], None],
    on_fork: Callable[[], None],
    on_end: Callable[[int, list[Entrant], bool], None],
) -> list[Entrant]:
    """Runs the heats one after the other; returns the entrants of the last one.

    on_heat(number, forks) before a heat, on_fork() after every fork, on_end(number, entrants, is_last) when
    its ranking is known - the rows of the table are written from there.
    """
    for number, heat in enumerate(heats, start=1):
        is_last = number == len(heats)
        on_heat(number, len(field))
        _train(pool, field, heat, terms, with_probe=is_last or terms.estimator == "probe", on_fork=on_fork)
        _rank(field, terms)
        alive = [entrant for entrant in field if entrant.measured is not None]
        if not is_last:
            alive = _survivors(alive, heat.survivors, terms.policy)
        for entrant in field:
            entrant.survived = any(entrant is other for other in alive)
        on_end(number, field, is_last)
        field = alive
    return field


def _train(
    pool: Pool,
    field: list[Entrant],
    heat: Heat,
    terms: Terms,
    *,
    with_probe: bool,
    on_fork: Callable[[], None],
) -> None:
    jobs = [
        Job(
            "run_fork",
            (
                entrant.state,
                entrant.proposal if entrant.steps == 0 else None,
                terms.recipe,
                heat.steps,
                terms.rate,
                with_probe,
            ),
            f"{entrant.action}:{entrant.candidate}",
        )
        for entrant in field
    ]
    for entrant, outcome in zip(field, pool.run(jobs, lambda _: on_fork())):
        report = outcome.report
        entrant.steps += heat.steps
        entrant.measured = report.measured if report else None
        entrant.error = report.error if report else outcome.error
        entrant.worker = report.worker if report else ""
        entrant.seconds = report.seconds if report else 0.0
        entrant.state = outcome.state
        entrant.gain = entrant.probe_gain = entrant.standing = None


def _rank(field: list[Entrant], terms: Terms) -> None:
    """Gains over the better control, on the images that choose; nothing is ranked if both controls failed."""
    controls = [entrant for entrant in field if entrant.control and entrant.measured is not None]
    if not controls:
        return
    for entrant in field:
        if entrant.control or entrant.measured is None:
            continue
        bits = [control.bits(terms.estimator) for control in controls]
        gain = gain_over(entrant.bits(terms.estimator), bits, terms.bar.choosing)
        added = entrant.parameters_added
        entrant.gain = gain
        entrant.standing = Standing(
            gain.bits,
            score(gain.bits, added, terms.score_floor),
            surplus(gain, added, terms.price, terms.bar.z),
            entrant.draw,
        )
        probes = [control.measured.probe_bits for control in controls if control.measured is not None]
        mine = entrant.measured.probe_bits
        if mine is not None and all(other is not None for other in probes):
            entrant.probe_gain = gain_over(
                mine, [bits for bits in probes if bits is not None], terms.bar.choosing
            )


def _survivors(alive: list[Entrant], count: int, policy: Policy) -> list[Entrant]:
    ranked = sorted(
        (entrant for entrant in alive if not entrant.stays and entrant.standing is not None),
        key=lambda entrant: (-_rank_of(entrant, policy), entrant.candidate),
    )
    going_on = {entrant.candidate for entrant in ranked[:count]}
    return [entrant for entrant in alive if entrant.stays or entrant.candidate in going_on]


def _rank_of(entrant: Entrant, policy: Policy) -> float:
    assert entrant.standing is not None
    return policy.rank(entrant.standing)


@dataclass(frozen=True)
class Verdict:
    """winner: the entrant to adopt, or None; gain: on the judging images. control: the better control."""

    winner: Entrant | None
    gain: Gain | None
    control: Entrant | None


def judge(finalists: list[Entrant], terms: Terms, entropy: float, affords: Callable[[int], bool]) -> Verdict:
    """Who is adopted: the best by policy on the images that choose, if it proves itself on those that judge."""
    controls = [entrant for entrant in finalists if entrant.control and entrant.measured is not None]
    if not controls:
        return Verdict(None, None, None)
    judging = terms.bar.judging
    better = max(controls, key=lambda entrant: float(entrant.bits(terms.estimator)[judging].mean()))
    bits = [control.bits(terms.estimator) for control in controls]
    eligible = [entrant for entrant in finalists if is_eligible(entrant, terms, affords)]
    growth = [entrant for entrant in eligible if entrant.parameters_added > 0]
    sales = [entrant for entrant in eligible if entrant.parameters_added < 0]
    for pool in [eligible] if terms.policy.one_market else [growth, sales]:
        if not pool:
            continue
        best = max(pool, key=lambda entrant: (_rank_of(entrant, terms.policy), -entrant.candidate))
        gain = gain_over(best.bits(terms.estimator), bits, judging)
        proven = terms.policy.proves(gain, best.parameters_added, terms.price, terms.bar.z)
        if proven and is_informative(best.bits(terms.estimator), entropy, judging, terms.bar.z):
            return Verdict(best, gain, better)
    return Verdict(None, None, better)


def is_eligible(entrant: Entrant, terms: Terms, affords: Callable[[int], bool]) -> bool:
    """Whether a fork of the last heat may win: finished, affordable, no control, and proven where it has to be.

    Proven on the images that choose: otherwise the highest score is often the luck of a small fork, which the
    images that judge then turn down, round after round.
    """
    if entrant.control or entrant.measured is None or entrant.gain is None or entrant.parameters_added == 0:
        return False
    if not affords(entrant.parameters_added):
        return False
    return terms.policy.proves(entrant.gain, entrant.parameters_added, terms.price, terms.bar.z)
