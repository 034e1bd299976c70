"""Running the heats of a round: forks and controls train, are measured, ranked, and the weak drop out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from structnet.actions.base import Proposal
from structnet.training.loop import Recipe
from tournament.bracket import Heat
from tournament.rules.maturity import Maturity
from tournament.rules.policy import Policy, Standing
from tournament.rules.score import Bar, Gain, gain_over, is_informative, score, surplus
from tournament.workers.fork import Measured
from tournament.workers.pool import Job, Outcome, Pool

TRAIN = "train"  # the control that only trains on; the others are growth actions
FORKS_OFF_CPU = 16
TEMPERED_ABOVE = 0.97


@dataclass
class Entrant:
    """One fork of a round. candidate: its number in the tables. proposal: None for the train control.

    stays: a control or the twin, which runs in every heat. state: a handle to where it stands. maturity: the rise
    that its gain was ranked with. judged: steps -> its gain after them, on the images that judge. estimator: whose bits
    the gains of its last heat are.
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
    maturity: float | None = None
    judged: dict[int, Gain] = field(default_factory=dict)
    estimator: str | None = None
    survived: bool = False
    won: bool = False

    @property
    def parameters_added(self) -> int:
        return self.proposal.parameters_added if self.proposal else 0

    def bits(self, estimator: str) -> np.ndarray:
        """(validation images,) log2-likelihoods by the estimator that decides; by the decoder where it has none."""
        assert self.measured is not None
        if estimator == "tempered" and self.measured.tempered_bits is not None:
            return self.measured.tempered_bits
        if estimator == "probe" and self.measured.probe_bits is not None:
            return self.measured.probe_bits
        return self.measured.bits


@dataclass(frozen=True)
class Terms:
    """What a heat is judged by. maturity: what has been learned from audits."""

    recipe: Recipe
    rate: float
    bar: Bar
    policy: Policy
    estimator: str
    price: float
    score_floor: int
    maturity: Maturity = field(default_factory=Maturity)


def estimator_for(controls: Sequence[Entrant], terms: Terms) -> str:
    """By whose bits forks are compared with these controls: those of the decoder at its own temperature near the end.

    Above 97 % cross-entropy measures calibration as much as information.
    """
    accuracy = max(control.measured.accuracy for control in controls if control.measured is not None)
    return "tempered" if terms.estimator == "decoder" and accuracy > TEMPERED_ABOVE else terms.estimator


def run_heats(
    pool: Pool,
    field: list[Entrant],
    heats: list[Heat],
    terms: Terms,
    on_heat: Callable[[int, int], None],
    on_fork: Callable[[], None],
    on_end: Callable[[int, list[Entrant], bool], None],
    on_ranked: Callable[[int, list[Entrant], list[Entrant]], None] = lambda *_: None,
) -> list[Entrant]:
    """Runs the heats one after the other; returns the entrants of the last one.

    on_heat(number, forks) before a heat, on_fork() after every fork, on_end(number, entrants, is_last) when
    its ranking is known - the rows of the table are written from there. on_ranked(number, entrants, going on) just
    before, while those that drop out still have their states.
    """
    for number, heat in enumerate(heats, start=1):
        is_last = number == len(heats)
        on_heat(number, len(field))
        train(pool, field, heat, terms, with_probe=is_last or terms.estimator == "probe", on_fork=on_fork)
        rank(field, terms)
        alive = [entrant for entrant in field if entrant.measured is not None]
        if not is_last:
            alive = _survivors(alive, heat.survivors, terms.policy)
        on_ranked(number, field, alive)
        going_on = {id(entrant) for entrant in alive}
        for entrant in field:
            entrant.survived = id(entrant) in going_on
            if not entrant.survived:
                entrant.state = None  # nobody goes on from it, so its memory need not be held
        on_end(number, field, is_last)
        field = alive
    return field


def train(
    pool: Pool,
    field: list[Entrant],
    heat: Heat,
    terms: Terms,
    *,
    with_probe: bool,
    on_fork: Callable[[], None],
) -> None:
    """Trains all entrants for the steps of a heat and measures them; who fails has no measure afterwards."""
    batches = deal([entrant.parameters_added for entrant in field], _batches_of_a_heat(pool, len(field)))

    def job(batch: list[int]) -> Job:
        entrants = [field[index] for index in batch]
        return _job(entrants, terms, heat.steps, with_probe)

    def on_done(index: int) -> None:
        for _ in batches[index]:
            on_fork()

    outcomes = pool.run([job(batch) for batch in batches], on_done)
    # A fork that takes its worker down must not take others with it: they run again, each by itself.
    lost = [batch for batch, outcome in zip(batches, outcomes) if outcome.error and len(batch) > 1]
    alone = [[index] for batch in lost for index in batch]
    ended = [*zip(batches, outcomes), *zip(alone, pool.run([job(batch) for batch in alone]) if alone else [])]
    for batch, outcome in ended:
        for place, index in enumerate(batch):
            _take_over(field[index], outcome, place)
    for entrant in field:
        entrant.steps += heat.steps


def _batches_of_a_heat(pool: Pool, forks: int) -> int:
    """How many batches: one for each worker, as a cohort trains the faster the more are in it.

    Off the CPU the bits of a fork depend on its company, so there the number of workers must not count.
    """
    if not pool.together:
        return forks
    return min(forks, pool.workers) if pool.device == "cpu" else -(-forks // FORKS_OFF_CPU)


def deal(sizes: Sequence[int], batches: int) -> list[list[int]]:
    """Positions dealt to so many batches: as many to each as can be, give or take one, and alike in size.

    The largest first, in turns forwards and backwards. A batch has its positions in their order.
    """
    ranked = sorted(range(len(sizes)), key=lambda index: (-sizes[index], index))
    turns = [*range(batches), *reversed(range(batches))]
    dealt: list[list[int]] = [[] for _ in range(batches)]
    for turn, index in enumerate(ranked):
        dealt[turns[turn % len(turns)]].append(index)
    return [sorted(batch) for batch in dealt]


def _job(entrants: list[Entrant], terms: Terms, steps: int, with_probe: bool) -> Job:
    """One batch of forks for one worker. A state that several start from is sent once."""
    handles = list({id(entrant.state): entrant.state for entrant in entrants}.values())
    places = {id(handle): place for place, handle in enumerate(handles)}
    forks = [
        (places[id(entrant.state)], entrant.proposal if entrant.steps == 0 else None) for entrant in entrants
    ]
    names = ", ".join(f"{entrant.action}:{entrant.candidate}" for entrant in entrants)
    arguments = (forks, terms.recipe, steps, terms.rate, with_probe, *handles)
    return Job("run_forks", arguments, names, states=len(entrants))


def _take_over(entrant: Entrant, outcome: Outcome, place: int) -> None:
    """What came of an entrant in this heat: an entry of the outcome of its batch."""
    report = outcome.report[place] if outcome.report else None
    entrant.measured = report.measured if report else None
    entrant.error = report.error if report else outcome.error
    entrant.worker = report.worker if report else ""
    entrant.seconds = report.seconds if report else 0.0
    entrant.state = outcome.state[place] if report else None
    entrant.gain = entrant.probe_gain = entrant.standing = entrant.maturity = entrant.estimator = None


def rank(field: list[Entrant], terms: Terms) -> None:
    """Gains over the better control, on the images that choose; nothing is ranked if both controls failed."""
    controls = [entrant for entrant in field if entrant.control and entrant.measured is not None]
    if not controls:
        return
    estimator = estimator_for(controls, terms)
    bits = [control.bits(estimator) for control in controls]
    for entrant in field:
        if entrant.measured is None:
            continue
        entrant.estimator = estimator
        if entrant.control:
            continue
        added, mine = entrant.parameters_added, entrant.bits(estimator)
        entrant.gain = gain_over(mine, bits, terms.bar.choosing)
        entrant.judged[entrant.steps] = gain_over(mine, bits, terms.bar.judging)
        entrant.maturity = terms.maturity.rise(entrant.action, entrant.steps)
        gain = entrant.gain.matured(entrant.maturity, added)
        entrant.standing = Standing(
            gain.bits,
            score(gain.bits, added, terms.score_floor),
            surplus(gain, added, terms.price, terms.bar.z),
            entrant.draw,
        )
        probes = [control.measured.probe_bits for control in controls if control.measured is not None]
        probe = entrant.measured.probe_bits
        if probe is not None and all(other is not None for other in probes):
            entrant.probe_gain = gain_over(
                probe, [other for other in probes if other is not None], terms.bar.choosing
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
    judging, estimator = terms.bar.judging, estimator_for(controls, terms)
    better = max(controls, key=lambda entrant: float(entrant.bits(estimator)[judging].mean()))
    bits = [control.bits(estimator) for control in controls]
    eligible = [entrant for entrant in finalists if is_eligible(entrant, terms, affords)]
    growth = [entrant for entrant in eligible if entrant.parameters_added > 0]
    sales = [entrant for entrant in eligible if entrant.parameters_added < 0]
    for pool in [eligible] if terms.policy.one_market else [growth, sales]:
        if not pool:
            continue
        best = max(pool, key=lambda entrant: (_rank_of(entrant, terms.policy), -entrant.candidate))
        gain = gain_over(best.bits(estimator), bits, judging)
        proven = terms.policy.proves(gain, best.parameters_added, terms.price, terms.bar.z)
        if proven and is_informative(best.bits(estimator), entropy, judging, terms.bar.z):
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
