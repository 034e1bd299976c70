"""The tournament: train, diagnose, fork, judge, adopt what earns its parameters - and finish within the limit.

`Tournament.run` is the algorithm, readable from top to bottom; what it decides goes into tables and snapshots
after every round, so that a run that dies goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from structnet.data.dataset import Dataset
from structnet.errors import UserError, WorkFailed
from structnet.growth.scales import check_plain, check_scales
from structnet.measure.answers import Answers
from structnet.network.network import StructNet
from structnet.network.state import TrainState
from structnet.storage.tables import TableWriter
from structnet.training.fitted_rate import fitted_rate
from tournament.allowance import Deciding, allowance_of
from tournament.contest import contest_credits, play_contest, why_none
from tournament.descent import Choice, begin_phase, choose, go_on, reached, read_test
from tournament.final_phase import final_stretch, next_cycle, refine_at_last, settle, start_final_phase
from tournament.observer import Observer
from tournament.progress import Checkpoint, Clock, Progress, last_whole_round
from tournament.records import bits_of, round_row
from tournament.rounds import PlayedRound, play_round
from tournament.rules.front import undominated
from tournament.rules.ledger import Economy
from tournament.settings import Settings, check_job, fitted_settings
from tournament.winning_line import WinningLine
from tournament.workers.fork import Arrays, Measured
from tournament.workers.pool import InlinePool, Pool
from tournament.workers.work import Answer, Measure

QUIET_ROUNDS = 3
PLATEAU_ROUNDS = 10


@dataclass
class Result:
    """What a tournament ends with. rounds: rows of the table, from this run. measured, test: on validation, test.

    answers: what the network says of validation images. information: bits on them. utilisation: what became of each
    growth that was adopted, as in structnet.growth.utilisation, with its round, action and site. choice: with a job,
    which of the networks on the path this is, and why.
    """

    network: StructNet
    progress: Progress
    rounds: list[dict[str, Any]]
    candidates: list[dict[str, Any]]
    measured: Measured
    test: Measured
    answers: Answers
    information: float
    utilisation: list[dict[str, Any]]
    snapshot: str
    choice: Choice | None = None

    @property
    def front(self) -> list[dict[str, Any]]:
        """Rows of the fronts table: the sizes of the path than which none smaller is as good, smallest first."""
        return undominated(self.progress.front)

    @property
    def held(self) -> bool:
        """Whether the target holds; True without one."""
        return self.choice is None or self.choice.held


class Tournament:
    """Grows a network on a dataset.

    network: the seed; with scales, of as many inputs as the coarsest images have numbers. economy and options:
    fields of Settings, with lengths that are not given fitted to the data; or `settings` as a whole. pool: where
    forks run; None for this process. writer and checkpoint: where tables and snapshots go; None for nowhere.
    heartbeat: called with every row of the rounds table.
    """

    def __init__(
        self,
        network: StructNet,
        data: Dataset,
        *,
        economy: Economy | None = None,
        settings: Settings | None = None,
        pool: Pool | None = None,
        writer: TableWriter | None = None,
        checkpoint: Checkpoint | None = None,
        observer: Observer | None = None,
        heartbeat: Callable[[dict[str, Any]], None] | None = None,
        trial: str = "",
        **options: Any,
    ) -> None:
        self.network, self.data, self.pool = network, data, pool
        shape = network.topology.architecture
        options.setdefault("learning_rate", fitted_rate(data.train, shape))
        options.setdefault("economy", economy or Economy())
        self.settings = settings or fitted_settings(len(data.train), architecture=shape, **options)
        check_job(self.settings, data)
        if self.settings.scales:
            check_scales(self.settings.scales, data.input_shape)
            check_plain(network.topology.architecture)
            coarsest = data.input_shape[0] * self.settings.scales[0] ** 2
            if network.architecture[0] != coarsest:
                raise UserError(
                    f"the seed has {network.architecture[0]} inputs, but with scales from {self.settings.scales[0]} it "
                    f"must have {coarsest}: it sees the coarsest images first"
                )
        self.writer, self.checkpoint, self.trial = writer, checkpoint, trial
        self.observer = observer or Observer()
        self.heartbeat = heartbeat or (lambda row: None)
        self.states: dict[int, Arrays] = {}  # of the sizes on the path
        self.rounds: list[dict[str, Any]] = []
        self.candidates: list[dict[str, Any]] = []

    def run(self, *, resume: bool = False) -> Result:
        """Grows to the end, from the seed or, with resume, from the last snapshot that is whole, as all rows before it.

        Raises structnet.errors.WorkFailed if the winning line itself diverges or cannot be worked on.
        """
        try:
            if self.pool is not None:
                return self._run(self.pool, resume)
            with closing(InlinePool(self.data, str(self.network.values.device))) as workers:
                return self._run(workers, resume)
        finally:
            self.observer.ended()

    def _run(self, workers: Pool, resume: bool) -> Result:
        self.line = WinningLine(self.network, self.data, self.settings, workers)
        self.clock = Clock()
        if found := self._found() if resume else None:
            self.line.resume(*found)
            self.clock = Clock(self.line.progress.seconds)
        else:
            self.line.start(self.network)
            self._stop_growing_if_done()
            self._end_round("opened")
        while self.line.progress.phase == "growing":
            if self.line.policy.contests:
                self._contest()
            elif self.line.refinement_due():
                self._refine()
            else:
                self._round()
        if self.line.is_coarse:
            self._refine()
        while self.line.progress.phase == "final":
            self._final_stretch()
        return self._result()

    def _found(self) -> tuple[Arrays, Progress] | None:
        """Where to go on: arrays and progress; None at the seed."""
        if self.checkpoint is None:
            return None
        if self.writer is None:
            return self.checkpoint.newest()
        return self.checkpoint.newest(last_whole_round(self.writer, self.trial))

    def _contest(self) -> None:
        line = self.line
        line.progress.round += 1
        self.observer.round_started(line.progress.round)
        deciding = Deciding(line, contest_credits(line))
        played = play_contest(line, self.trial, self.observer)
        paid, earned = deciding.settled(), line.earn()
        self._write("candidates", played.rows)
        self.observer.candidates_judged(played.rows)
        self.candidates += played.rows
        self._stop_growing_if_done()
        self._end_round(played.decision, earned=earned, played=played, paid=paid)

    def _round(self) -> None:
        line = self.line
        line.progress.round += 1
        self.observer.round_started(line.progress.round)
        triggered_by = line.train()
        earned = line.earn()
        allowance = allowance_of(line)
        if line.policy.grows and not allowance.forks:
            self._pause(earned, triggered_by)
            return
        deciding, born = Deciding(line, allowance.credits), line.progress.step
        survey = line.survey(allowance.forks)
        self.observer.surveyed(survey)
        played = play_round(line, survey, self.trial, self.observer)
        paid = deciding.settled()
        self._write("candidates", played.rows)
        self.observer.candidates_judged(played.rows)
        self.candidates += played.rows
        winner = played.verdict.winner
        if winner is not None and winner.parameters_added > 0:
            line.progress.growths.append([line.progress.round, born, winner.action, winner.site])
        self._note_accuracy()
        line.progress.quiet_rounds += 1
        if played.decision != "nothing_significant":
            line.progress.quiet_rounds = 0
        self._stop_growing_if_done()
        self._end_round(
            played.decision,
            earned=earned,
            played=played,
            paid=paid,
            afforded=allowance.forks,
            triggered_by=triggered_by,
        )

    def _pause(self, earned: float, triggered_by: str) -> None:
        """A round without forks: what they would cost is saved first."""
        self.line.progress.pauses += 1
        self._note_accuracy()
        self._stop_growing_if_done()
        self._end_round("unaffordable", earned=earned, afforded=0, triggered_by=triggered_by)

    def _note_accuracy(self) -> None:
        progress, accuracy = self.line.progress, self.line.measured.accuracy
        if accuracy > progress.best_accuracy:
            progress.best_accuracy, progress.best_round = accuracy, progress.round

    def _refine(self) -> None:
        """A round in which nothing but the resolution of the input changes."""
        line = self.line
        line.progress.round += 1
        line.progress.quiet_rounds = 0
        if line.progress.phase == "growing":
            site, spent, refunded = line.refine()
            self._stop_growing_if_done()
        else:
            site, spent, refunded = refine_at_last(line)
        self._end_round("adopted", spent=spent, refunded=refunded, refined=site)

    def _stop_growing_if_done(self) -> None:
        if reason := next(self.reasons_to_stop(), ""):
            start_final_phase(self.line, reason, self.clock.seconds())
            progress = self.line.progress
            if self.settings.has_job:
                go_on(self.line, self.clock.seconds())
                return
            left = self.settings.max_parameters or progress.final_size
            self.observer.growth_ended(left, progress.final_stop)

    def reasons_to_stop(self) -> Iterator[str]:
        """Why growth ends here, the first reason first; none if it goes on."""
        line, settings = self.line, self.settings
        limit, target, measured = settings.max_parameters, settings.target, line.measured
        within = limit is None or line.parameters <= limit
        if target and within and target.holds(measured.right, measured.bits, line.labels):
            yield f"the target, {target.text}, is reached"
        if line.policy.contests and (reason := why_none(line)):
            yield reason
        if limit is not None and line.parameters >= limit and not line.policy.contests:
            yield f"the limit of {limit:,} parameters is reached"
        yield from self._spent_or_flat()
        if settings.minutes and self.clock.seconds() >= 60 * settings.minutes * settings.growth_share:
            yield "the share of the minutes that is for growth is used up"

    def _spent_or_flat(self) -> Iterator[str]:
        """Whether the rounds or the steps are used up, or nothing came of the last rounds."""
        line, settings = self.line, self.settings
        flat = line.progress.round - line.progress.best_round
        if settings.indefinite:
            if flat >= PLATEAU_ROUNDS:
                yield f"the accuracy has not risen in {PLATEAU_ROUNDS} rounds"
        # While it grows, every scale that it has gone through was a round of its own, and so was every pause.
        elif line.progress.round - line.progress.scale - line.progress.pauses >= settings.rounds:
            yield "its round is done" if settings.rounds == 1 else f"all {settings.rounds} rounds are done"
        elif line.progress.step >= settings.growth_share * line.total_steps:
            yield "the share of the training that is for growth is used up"
        # While the images are coarse, finer ones are still to come that more may be learned from.
        at_price = line.price >= settings.price and not line.is_coarse
        # Growth that is indefinite lets training go on for as long as that alone helps.
        spent = at_price and (flat >= QUIET_ROUNDS or not settings.indefinite)
        if line.policy.grows and spent and line.progress.quiet_rounds >= QUIET_ROUNDS:
            yield f"nothing significant was left in {QUIET_ROUNDS} rounds"

    def _final_stretch(self) -> None:
        line, progress = self.line, self.line.progress
        begin_phase(line, self._arrays_after)
        try:
            final_stretch(line)
        except WorkFailed as failed:
            # Sizes that were reached before are there all the same.
            if not (progress.front and "Diverged" in str(failed)):
                raise
            progress.phase, progress.reason = "done", f"{progress.reason}, and the next size diverged"
            progress.round += 1
            self._end_round("stopped", earned=progress.final_earned)
            return
        length = progress.final_stop - progress.final_start
        self.observer.final_progress(progress.step - progress.final_start, length)
        if progress.step < progress.final_stop:
            if self.checkpoint:
                self.checkpoint.save_stretch(line.arrays(), progress)
            return
        progress.round += 1
        spent, refunded = settle(line)
        earned = progress.final_earned
        if self.settings.has_job:
            self._write("fronts", [reached(line, self.trial, self._snapshot())])
            self.states[progress.round] = line.arrays()
        if not self._goes_on():
            progress.phase = "done"
        self._end_round("final", earned=earned, spent=spent, refunded=refunded)

    def _goes_on(self) -> bool:
        """Whether another final phase follows."""
        if self.settings.has_job:
            return go_on(self.line, self.clock.seconds())
        return self.line.policy.contests and next_cycle(self.line, self.clock.seconds())

    def _end_round(
        self,
        decision: str,
        *,
        earned: float = 0.0,
        spent: float = 0.0,
        refunded: float = 0.0,
        played: PlayedRound | None = None,
        paid: float = 0.0,
        afforded: int | None = None,
        refined: str = "",
        triggered_by: str = "",
    ) -> None:
        """Writes the row, then the snapshot: a run that dies in between repeats the round, and replaces the row."""
        line = self.line
        unhealthy = line.unhealthy()
        line.progress.balance, line.progress.seconds = line.ledger.balance, self.clock.seconds()
        row = round_row(
            line,
            decision,
            trial=self.trial,
            earned=earned,
            spent=played.spent if played else spent,
            refunded=played.refunded if played else refunded,
            paid=paid,
            afforded=afforded,
            verdict=played.verdict if played else None,
            unhealthy=unhealthy,
            candidates=played.entered if played else 0,
            snapshot=self._snapshot(),
            refined=refined,
            triggered_by=triggered_by,
        )
        self.rounds.append(row)
        self._write("rounds", [row])
        if self.checkpoint:
            self.checkpoint.save_round(line.arrays(), line.progress)
        self.heartbeat(row)
        self.observer.round_done(row)

    def _choose(self) -> Choice | None:
        """With a job, takes the network of the path that does it, and reads the test images for what is kept."""
        line = self.line
        if not self.settings.has_job:
            return None
        choice = choose(line, self._arrays_after)
        for row in read_test(line, choice, self._arrays_after):
            self._write("fronts", [row], row["round"])
        line.set_state(line.workers.put(self._arrays_after(choice.round)))
        line.measured, _ = line.do(Measure("validation", line.uses_probe))
        return choice

    def _arrays_after(self, number: int) -> Arrays:
        """The state after a round of the path, which may lie before a resume."""
        if number not in self.states:
            assert self.checkpoint is not None
            self.states[number] = self.checkpoint.arrays_after(number)
        return self.states[number]

    def _result(self) -> Result:
        line, choice = self.line, self._choose()
        (test, _), (answers, _) = line.do(Measure("test")), line.do(Answer("validation"))
        return Result(
            network=TrainState.from_arrays(line.arrays()).network,
            progress=line.progress,
            rounds=self.rounds,
            candidates=self.candidates,
            measured=line.measured,
            test=test,
            answers=answers,
            information=bits_of(line.measured, line.entropy),
            utilisation=line.utilisation(),
            snapshot=self._snapshot(choice.round if choice else None),
            choice=choice,
        )

    def _snapshot(self, number: int | None = None) -> str:
        """Where the network after a round lies: after that of now, if none is named."""
        number = self.line.progress.round if number is None else number
        return self.checkpoint.path(f"round-{number:04d}") if self.checkpoint else ""

    def _write(self, table: str, rows: list[dict[str, Any]], number: int | None = None) -> None:
        """Rows of a round: of that of now, if none is named."""
        if self.writer is not None:
            part = f"round-{self.line.progress.round if number is None else number:04d}"
            self.writer.write(table, f"{self.trial}-{part}" if self.trial else part, rows)
