"""The heats of a round: a short one for many forks, a longer one for those that survive (successive halving).

Karnin et al. 2013, Jamieson & Talwalkar 2016. Forks and controls train, are measured and ranked, and the weak drop out.
Controls and the random-placement twin run in every heat, so each heat compares forks and controls that were trained for
the same steps over the same batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from structnet.actions.base import Proposal
from structnet.errors import UserError
from structnet.training.recipe import Recipe
from tournament.observer import Observer
from tournament.rules.score import Bar, Gain, Policy, Standing, gain_over, is_informative, score, surplus
from tournament.workers.fork import ForkReport, Measured
from tournament.workers.pool import Job, Outcome, Pool, StateHandle
from tournament.workers.work import RunForks

TRAIN = "train"  # the control that only trains on; the others are growth actions
FORKS_OFF_CPU = 16


@dataclass(frozen=True)
class Heat:
    """steps: how long every fork trains in this heat. survivors: how many forks go on afterwards."""

    steps: int
    survivors: int


@dataclass
class Entrant:
    """One fork of a round. candidate: its number in the tables. proposal: None for the train control.

    stays: a control or the twin, which runs in every heat. state: where it stands, None if nobody goes on from there.
    maturity: the rise that its gain was ranked with. judged: steps -> its gain after them, on the images that judge.
    estimator: whose bits the gains of its last heat are.
    """

    candidate: int
    action: str
    site: str
    proposal: Proposal | None
    state: StateHandle | None
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
        """Of its proposal; 0 for a control."""
        return self.proposal.parameters_added if self.proposal else 0

    def bits(self, estimator: str) -> np.ndarray:
        """(validation images,) log2-likelihoods by the estimator that decides; by the decoder where it has none."""
        assert self.measured is not None
        return self.measured.bits_by(estimator)


@dataclass(frozen=True)
class Terms:
    """What a heat is judged by.

    rise: (action, steps) -> bits per thousand parameters that are still gained after a heat of so many steps, as
    learned from audits.
    """

    recipe: Recipe
    rate: float
    bar: Bar
    policy: Policy
    estimator: str
    price: float
    score_floor: int
    rise: Callable[[str, int], float] = lambda action, steps: 0.0


@dataclass(frozen=True)
class FinishedHeat:
    """A heat that was run and ranked. number: from 1. steps: of this heat alone.

    entrants: all that ran. survivors: those that go on, or after the last heat those that are measured.
    """

    number: int
    steps: int
    entrants: list[Entrant]
    survivors: list[Entrant]
    is_last: bool


def plan_heats(forks: int, heat_steps: int, *, reduction: int = 4, least: int = 3) -> list[Heat]:
    """Heats whose steps add up to heat_steps: a quarter for all forks, the rest for the best of them.

    A field too small to be worth halving runs in one heat. Raises UserError for heat_steps below 1.
    """
    if heat_steps < 1:
        raise UserError(
            f"heat_steps is {heat_steps}, but must be at least 1: a fork has to train to be judged"
        )
    survivors = max(least, -(-forks // reduction))
    first = heat_steps // reduction
    if forks <= survivors or first < 1:
        return [Heat(heat_steps, forks)]
    return [Heat(first, survivors), Heat(heat_steps - first, survivors)]


def steps_of_round(
    forks: int, heat_steps: int, *, audits: int = 0, audit_factor: float = 0.0
) -> tuple[int, int]:
    """Steps that a round of so many forks trains: (those of forks and the random twin, those of both controls).

    Controls and twin run in every heat. An audit goes on with both controls, after its forks have made up for the heats
    that they missed.
    """
    heats = plan_heats(forks, heat_steps)
    entering = [forks, *(heat.survivors for heat in heats)]
    grown = sum(heat.steps * (1 + count) for heat, count in zip(heats, entering))
    kept = 2 * heat_steps
    if audits:
        longer = round(audit_factor * heat_steps)
        grown += audits * (longer + sum(heat.steps for heat in heats[1:]))
        kept += 2 * longer
    return grown, kept


def run_heats(
    pool: Pool, entrants: list[Entrant], heats: Sequence[Heat], terms: Terms, observer: Observer
) -> Iterator[FinishedHeat]:
    """Runs the heats one after the other, each when it is asked for.

    Those that drop out have their states until the next one is: whoever wants to go on from one copies it before.
    """
    for number, heat in enumerate(heats, start=1):
        is_last = number == len(heats)
        observer.heat_started(number, len(heats), len(entrants))
        train(pool, entrants, heat.steps, terms, on_fork=observer.fork_done)
        rank(entrants, terms)
        survivors = [entrant for entrant in entrants if entrant.measured is not None]
        if not is_last:
            survivors = _survivors(survivors, heat.survivors, terms.policy)
        going_on = {id(entrant) for entrant in survivors}
        for entrant in entrants:
            entrant.survived = id(entrant) in going_on
        yield FinishedHeat(number, heat.steps, entrants, survivors, is_last)
        for entrant in entrants:
            if not entrant.survived:
                entrant.state = None  # nobody goes on from it, so its memory need not be held
        entrants = survivors


def train(
    pool: Pool,
    entrants: Sequence[Entrant],
    steps: int,
    terms: Terms,
    *,
    on_fork: Callable[[], None],
) -> None:
    """Trains all entrants for so many steps and measures them; who fails has no measure afterwards."""
    batches = deal(
        [entrant.parameters_added for entrant in entrants], _batches_of_a_heat(pool, len(entrants))
    )

    def job(batch: list[int]) -> Job[list[ForkReport]]:
        return _job([entrants[index] for index in batch], terms, steps)

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
            _take_over(entrants[index], outcome, place)
    for entrant in entrants:
        entrant.steps += steps


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


def _job(entrants: list[Entrant], terms: Terms, steps: int) -> Job[list[ForkReport]]:
    """One batch of forks for one worker. A state that several start from is sent once."""
    states = {id(entrant.state): entrant.state for entrant in entrants if entrant.state is not None}
    places = {identity: place for place, identity in enumerate(states)}
    forks = tuple(
        (places[id(entrant.state)], entrant.proposal if entrant.steps == 0 else None) for entrant in entrants
    )
    names = ", ".join(f"{entrant.action}:{entrant.candidate}" for entrant in entrants)
    work = RunForks(forks, terms.recipe, steps, terms.rate, terms.estimator == "probe")
    return Job(work, tuple(states.values()), names)


def _take_over(entrant: Entrant, outcome: Outcome[list[ForkReport]], place: int) -> None:
    """What came of an entrant in this heat: an entry of the outcome of its batch."""
    report = outcome.report[place] if outcome.report else None
    entrant.measured = report.measured if report else None
    entrant.error = report.error if report else outcome.error
    entrant.worker = report.worker if report else ""
    entrant.seconds = report.seconds if report else 0.0
    entrant.state = outcome.states[place] if report else None
    entrant.gain = entrant.probe_gain = entrant.standing = entrant.maturity = entrant.estimator = None


def estimator_for(controls: Sequence[Entrant], terms: Terms) -> str:
    """By whose bits forks are compared with these controls: where the decoder decides, at the temperature of each.

    Cross-entropy measures calibration as well: most of all near the end, and nothing else on labels that are noise.
    """
    tempered = all(
        control.measured is None or control.measured.tempered_bits is not None for control in controls
    )
    return "tempered" if terms.estimator == "decoder" and tempered else terms.estimator


def rank(entrants: Sequence[Entrant], terms: Terms) -> None:
    """Gains over the better control, on the images that choose; nothing is ranked if all controls failed."""
    controls = [entrant for entrant in entrants if entrant.control and entrant.measured is not None]
    if not controls:
        return
    estimator = estimator_for(controls, terms)
    bits = [control.bits(estimator) for control in controls]
    for entrant in entrants:
        if entrant.measured is None:
            continue
        entrant.estimator = estimator
        if entrant.control:
            continue
        added, mine = entrant.parameters_added, entrant.bits(estimator)
        entrant.gain = gain_over(mine, bits, terms.bar.choosing)
        entrant.judged[entrant.steps] = gain_over(mine, bits, terms.bar.judging)
        entrant.maturity = terms.rise(entrant.action, entrant.steps)
        gain = entrant.gain.matured(entrant.maturity, added)
        entrant.standing = Standing(
            gain.bits,
            score(gain.bits, added, terms.score_floor),
            surplus(gain, added, terms.price, terms.bar.z),
            entrant.draw,
        )
        entrant.probe_gain = _probe_gain(entrant, controls, terms.bar)


def _probe_gain(entrant: Entrant, controls: Sequence[Entrant], bar: Bar) -> Gain | None:
    """The gain by the probe, where it was taken of the entrant and of all controls."""
    probes = [one.measured.probe_bits for one in (entrant, *controls) if one.measured is not None]
    taken = [bits for bits in probes if bits is not None]
    return gain_over(taken[0], taken[1:], bar.choosing) if len(taken) == len(probes) else None


def _survivors(measured: list[Entrant], count: int, policy: Policy) -> list[Entrant]:
    ranked = sorted(
        (entrant for entrant in measured if not entrant.stays and entrant.standing is not None),
        key=lambda entrant: (-_rank_of(entrant, policy), entrant.candidate),
    )
    going_on = {entrant.candidate for entrant in ranked[:count]}
    return [entrant for entrant in measured if entrant.stays or entrant.candidate in going_on]


def _rank_of(entrant: Entrant, policy: Policy) -> float:
    assert entrant.standing is not None
    return policy.rank(entrant.standing)


@dataclass(frozen=True)
class Verdict:
    """winner: the entrant to adopt, or None; gain: on the judging images. control: the better control."""

    winner: Entrant | None
    gain: Gain | None
    control: Entrant | None


def judge(
    entrants: Sequence[Entrant], terms: Terms, entropy: float, affords: Callable[[int], bool]
) -> Verdict:
    """Who of the last heat is adopted: the best by policy on the images that choose, if proven on those that judge."""
    controls = [entrant for entrant in entrants if entrant.control and entrant.measured is not None]
    if not controls:
        return Verdict(None, None, None)
    judging, estimator = terms.bar.judging, estimator_for(controls, terms)
    better = max(controls, key=lambda entrant: float(entrant.bits(estimator)[judging].mean()))
    bits = [control.bits(estimator) for control in controls]
    eligible = [entrant for entrant in entrants if is_eligible(entrant, terms, affords)]
    growth = [entrant for entrant in eligible if entrant.parameters_added > 0]
    pruning = [entrant for entrant in eligible if entrant.parameters_added < 0]
    for rivals in [eligible] if terms.policy.one_market else [growth, pruning]:
        if not rivals:
            continue
        best = max(rivals, key=lambda entrant: (_rank_of(entrant, terms.policy), -entrant.candidate))
        gain = gain_over(best.bits(estimator), bits, judging)
        proven = terms.policy.proves(gain, best.parameters_added, terms.price, terms.bar.z)
        if proven and is_informative(best.bits(estimator), entropy, judging, terms.bar.z):
            return Verdict(best, gain, better)
    return Verdict(None, None, better)


def is_eligible(entrant: Entrant, terms: Terms, affords: Callable[[int], bool]) -> bool:
    """Whether a fork of the last heat may win: finished, affordable, no control or twin, and proven where it has to be.

    Proven on the images that choose: otherwise the highest score is often the luck of a small fork, which the
    images that judge then turn down, round after round.
    """
    if entrant.stays or entrant.measured is None or entrant.gain is None or entrant.parameters_added == 0:
        return False
    if not affords(entrant.parameters_added):
        return False
    return terms.policy.proves(entrant.gain, entrant.parameters_added, terms.price, terms.bar.z)
