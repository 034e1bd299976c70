"""A round in which shapes compete: each is put through the whole job in small, and the best one goes on.

What a network is to do in the end - grow to a peak at random, be pruned to its size, be annealed - a contender does
in a fortieth of the run, so that what learns fast but ends badly does not win. First all of them do; then the best
challenger and the shape of now go the same way once more, for longer. It is adopted if it is surely better.

Nothing of this is lost for the one that goes on: it was grown and pruned once, from where the way up and down again
leads further than from a seed (tournament.final_phase). What it brings against not asking at equal cost is the study
`tournament`: CIFAR-10 with 20,000 parameters +3.7 points on test, MNIST from 16 hidden units +1.7 and more, MNIST
from the usual shape nothing.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from structnet.actions.base import Proposal
from structnet.network.architecture import dashed
from structnet.network.state import TrainState
from structnet.training.shrinking import Shrinking
from tournament.allowance import price_of
from tournament.descent import first_size
from tournament.final_phase import peak_of, planned_cost, rate_of
from tournament.heats import TRAIN, Entrant, Terms, Verdict, estimator_for
from tournament.observer import Observer
from tournament.records import candidate_row
from tournament.rounds import PlayedRound
from tournament.rules.score import bar_for, gain_over
from tournament.rules.shapes import SETTLED, Shape, challengers, proves, usual_of, with_hidden
from tournament.winning_line import WinningLine
from tournament.workers.fork import Shrunk
from tournament.workers.pool import Job, Outcome
from tournament.workers.work import Shrink

# Of what the whole run costs: the first heat, among all that are in it, and the second, for each of two. Three contests
# of two shapes, in each of which one loses, take less than a fifth.
FIRST_HEAT, SECOND_HEAT = 0.072, 0.03
# Of an entrant in the first heat. Of maps a narrow shape is ahead for longer: on CIFAR-10 one is adopted after 84 steps
# that ends 9 points behind, and none after 507, or after 413 on MNIST.
FEWEST_STEPS, FEWEST_STEPS_OF_MAPS = 20, 300
# Leads are taken to go on as they went from the first heat to the second, by as much again. Shapes a third and three
# times as wide, 8 rng_seeds of MNIST, the teacher, a table and CIFAR-10: what is narrow learns fast and ends worse
# (MNIST +0.01, −0.00 and in the end −0.02 bits), what is wide the other way round (CIFAR-10 +0.08, +0.13, +0.22).
TREND = 1.0


def why_none(line: WinningLine) -> str:
    """Why no contest follows; empty if one does."""
    offered = _offered(line)
    if not offered:
        return "no other shape is better"
    fewest = FEWEST_STEPS_OF_MAPS if line.architecture.has_maps else FEWEST_STEPS
    if FIRST_HEAT / (1 + len(offered)) * line.total_steps < fewest:
        return "so short a run cannot tell shapes apart"
    if contest_credits(line) > line.ledger.balance:
        return f"other shapes cost more to try than {line.ledger.balance:,.0f} credits"
    return ""


def contest_credits(line: WinningLine) -> float:
    """What a contest costs at most, in credits."""
    most = (FIRST_HEAT + 2 * SECOND_HEAT) * planned_cost(line, first_size(line))
    return price_of(line) * most


def play_contest(line: WinningLine, trial: str, observer: Observer) -> PlayedRound:
    """Tries other shapes, and takes over the best one, or the shape of now with what it has learned."""
    contest = _Contest(line, trial, observer)
    control, others = contest.enter()
    fresh = [] if control.steps else [control]
    contest.heat(1, [*fresh, *others], [control, *others])
    best = max(others, key=lambda one: (one.measured is not None, contest.ahead(one)), default=None)
    verdict = Verdict(None, None, control)
    if best is not None and best.measured is not None:
        if fresh:
            contest.remember([control, best])
            contest.heat(2, [control, best], [control, best])
        verdict = contest.judge(control, best)
    return contest.settle(verdict, len(others) + 1)


class _Contest:
    """One round of it. costs: parameter-steps of each entrant so far, by its number.

    early: bits after the first heat of those that went through both in this round.
    """

    def __init__(self, line: WinningLine, trial: str, observer: Observer) -> None:
        self.line, self.trial, self.observer = line, trial, observer
        progress, settings = line.progress, line.settings
        self.limit = first_size(line)
        self.offered = _offered(line)
        self.terms = Terms(
            recipe=line.recipe,
            rate=settings.learning_rate,
            bar=bar_for(line.validation_images, progress.round, len(self.offered)),
            policy=line.policy,
            estimator=settings.information,
            price=line.price,
            score_floor=settings.score_floor,
        )
        self.shapes: dict[int, Shape] = {}
        self.costs: dict[int, int] = {}
        self.early: dict[int, np.ndarray] = {}
        self.rows: list[dict[str, object]] = []

    def enter(self) -> tuple[Entrant, list[Entrant]]:
        """The shape of now, and its challengers, each a seed of as many parameters."""
        line = self.line
        control = Entrant(0, TRAIN, _site(line, line.hidden), None, line.state, control=True, stays=True)
        self.shapes[0], self.costs[0] = line.hidden, 0
        if line.progress.shape_move:  # it has been through both heats
            control.measured, control.steps = line.measured, line.progress.step - line.first_step
        others: list[Entrant] = []
        for move, shape in self.offered.items():
            number = len(others) + 1
            proposal = Proposal(move, _site(line, shape), 0, 0.0)
            seed = TrainState.fresh(line.seed_of(shape)).to_arrays()
            state = line.workers.put({**seed, "step": line.first_step})
            others.append(Entrant(number, move, proposal.site, proposal, state))
            self.shapes[number], self.costs[number] = shape, 0
        return control, others

    def heat(self, number: int, entrants: list[Entrant], compared: list[Entrant]) -> None:
        """Trains each for its share of the run, ranks them, and writes their rows."""
        line = self.line
        shares = [FIRST_HEAT / len(entrants)] if number == 1 else [SECOND_HEAT]
        if number == 1 and line.progress.shape_move:
            # What is compared with has been through both.
            share = line.progress.parameter_steps / planned_cost(line, self.limit)
            shares = [share - SECOND_HEAT, SECOND_HEAT]
        self.observer.heat_started(number, 2, len(entrants))
        started, before = line.clock(), line.progress.steps_all
        for share in shares:
            running = [entrant for entrant in entrants if entrant.state is not None]
            jobs = [self._job(entrant, share) for entrant in running]
            outcomes = line.workers.run(jobs, lambda index: self.observer.fork_done())
            for entrant, job, outcome in zip(running, jobs, outcomes):
                self._take_over(entrant, job, outcome)
        done = max(1, line.progress.steps_all - before)
        line.progress.seconds_per_step = (
            (line.clock() - started) * min(line.workers.workers, len(entrants)) / done
        )
        controls = [entrant for entrant in compared if entrant.control and entrant.measured is not None]
        for entrant in compared:
            if controls and entrant.measured is not None:
                entrant.estimator = estimator_for(controls, self.terms)
                if not entrant.control:
                    bits = [control.bits(entrant.estimator) for control in controls]
                    entrant.gain = gain_over(entrant.bits(entrant.estimator), bits, self.terms.bar.choosing)
        leader = max((one for one in compared if not one.control), key=self.ahead)
        for entrant in compared:
            entrant.survived = entrant.measured is not None and (entrant.control or entrant is leader)
            self.rows.append(candidate_row(line, entrant, number, self.terms, self.trial))

    def ahead(self, entrant: Entrant) -> float:
        """Bits over the shape of now, on the images that choose."""
        return entrant.gain.bits if entrant.gain else -np.inf

    def remember(self, entrants: list[Entrant]) -> None:
        """Keeps what they know before they are trained further."""
        controls = [entrant for entrant in entrants if entrant.control and entrant.measured is not None]
        estimator = estimator_for(controls, self.terms) if controls else self.terms.estimator
        self.early = {one.candidate: one.bits(estimator) for one in entrants if one.measured is not None}

    def expected(self, entrant: Entrant, estimator: str) -> np.ndarray:
        """(validation images,) bits that it is going to have over another that goes the same way: see TREND."""
        bits = entrant.bits(estimator)
        expected: np.ndarray = bits + TREND * (bits - self.early.get(entrant.candidate, bits))
        return expected

    def judge(self, control: Entrant, best: Entrant) -> Verdict:
        """Whether the best one takes the place of the other, by the images that judge and by rules.shapes.

        Whatever can be trained takes the place of what cannot.
        """
        if best.measured is None:
            return Verdict(None, None, control)
        if control.measured is None:
            best.won = self.rows[-1]["won"] = True
            return Verdict(best, None, control)
        estimator, bar = estimator_for([control], self.terms), self.terms.bar
        gain = gain_over(best.bits(estimator), [control.bits(estimator)], bar.judging)
        expected = self.expected(best, estimator), [self.expected(control, estimator)]
        in_the_end = gain_over(*expected, bar.judging)
        if not proves(best.action, gain, in_the_end, bar.z):
            return Verdict(None, None, control)
        best.won = self.rows[-1]["won"] = self.rows[-1]["eligible"] = True
        return Verdict(best, gain, control)

    def settle(self, verdict: Verdict, entered: int) -> PlayedRound:
        """The line goes on from the winner, or from the shape of now as it came out of the heats."""
        line, progress = self.line, self.line.progress
        chosen = verdict.winner or verdict.control
        assert chosen is not None
        if chosen.measured is not None and chosen.state is not None and self.costs[chosen.candidate]:
            before = progress.parameter_steps if verdict.winner is None else 0
            progress.step = line.first_step + chosen.steps
            progress.parameter_steps = before + self.costs[chosen.candidate]
            line.measured = chosen.measured
            line.set_state(chosen.state)
        if verdict.winner is not None:
            line.hidden, progress.shape_move = self.shapes[chosen.candidate], chosen.action
            progress.hidden = list(line.hidden)
        else:
            progress.shape_move = SETTLED
        decision = "adopted" if verdict.winner else "nothing_significant"
        return PlayedRound(decision, verdict, self.rows, entered, 0.0, 0.0)

    def _job(self, entrant: Entrant, share: float) -> Job[Shrunk]:
        """The whole job in small: to the peak, down to the size, annealed, for a share of what the run costs."""
        assert entrant.state is not None
        line, start = self.line, self.line.first_step + entrant.steps
        parameters = TrainState.from_arrays(line.workers.get(entrant.state)).network.parameter_count
        peak = max(parameters, peak_of(line, self.limit, line.dense_of(self.shapes[entrant.candidate])))
        macs = line.settings.max_macs
        phase = Shrinking(start, start + line.total_steps, parameters, peak, self.limit, limit_macs=macs)
        steps = max(1, round(share * planned_cost(line, self.limit) / phase.mean_parameters))
        phase = replace(phase, stop=start + steps)
        rate = rate_of(line, parameters, self.limit, self.shapes[entrant.candidate])
        work = Shrink(line.recipe, phase, steps, rate, with_probe=line.uses_probe)
        return Job(work, (entrant.state,), entrant.site)

    def _take_over(self, entrant: Entrant, job: Job[Shrunk], outcome: Outcome[Shrunk]) -> None:
        report = outcome.report
        entrant.error, entrant.measured = outcome.error, report.measured if report else None
        entrant.state, entrant.gain = outcome.states[0] if report else None, None
        if report is None:
            return
        progress = self.line.progress
        work = job.work
        assert isinstance(work, Shrink)
        entrant.steps += work.steps
        self.costs[entrant.candidate] += report.parameter_steps
        progress.steps_all += work.steps
        progress.parameter_steps_all += report.parameter_steps


def _offered(line: WinningLine) -> dict[str, Shape]:
    return challengers(line.hidden, line.progress.shape_move, usual_of(line.architecture))


def _site(line: WinningLine, shape: Shape) -> str:
    return dashed(with_hidden(line.architecture, shape))
