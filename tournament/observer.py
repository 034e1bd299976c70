"""What a tournament tells whoever watches it; the default watches in silence, and another publishes it as metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from tournament.workers.fork import Survey
from tournament.workers.metrics import (
    ACCURACY,
    CANDIDATES_FAILED,
    CANDIDATES_SCORED,
    CREDITS,
    GAIN,
    PARAMETERS,
    ROUNDS,
    SCORE,
    forget,
    publish,
)


class Observer:
    """Override what you want to show. Nothing here may change what the tournament does."""

    def round_started(self, number: int) -> None:
        """A round begins."""

    def surveyed(self, survey: Survey) -> None:
        """The network was diagnosed and its growth sites are screened."""

    def heat_started(self, heat: int, heats: int, forks: int) -> None:
        """A heat of so many forks begins."""

    def fork_done(self) -> None:
        """A fork of the running heat has ended, well or badly."""

    def candidates_judged(self, rows: Sequence[dict[str, Any]]) -> None:
        """The rows of a round in the candidates table are written."""

    def round_done(self, row: dict[str, Any]) -> None:
        """A row of the rounds table is written."""

    def growth_ended(self, parameters: int, step: int) -> None:
        """The final phase begins, which is to leave so many parameters at this step of the line."""

    def final_progress(self, done: int, total: int) -> None:
        """So many of the steps of the final phase are done."""

    def ended(self) -> None:
        """The tournament has ended, well or badly."""


class Observers(Observer):
    """Tells each of several observers, in their order."""

    def __init__(self, *observers: Observer) -> None:
        self.observers = observers

    def round_started(self, number: int) -> None:
        for one in self.observers:
            one.round_started(number)

    def surveyed(self, survey: Survey) -> None:
        for one in self.observers:
            one.surveyed(survey)

    def heat_started(self, heat: int, heats: int, forks: int) -> None:
        for one in self.observers:
            one.heat_started(heat, heats, forks)

    def fork_done(self) -> None:
        for one in self.observers:
            one.fork_done()

    def candidates_judged(self, rows: Sequence[dict[str, Any]]) -> None:
        for one in self.observers:
            one.candidates_judged(rows)

    def round_done(self, row: dict[str, Any]) -> None:
        for one in self.observers:
            one.round_done(row)

    def growth_ended(self, parameters: int, step: int) -> None:
        for one in self.observers:
            one.growth_ended(parameters, step)

    def final_progress(self, done: int, total: int) -> None:
        for one in self.observers:
            one.final_progress(done, total)

    def ended(self) -> None:
        for one in self.observers:
            one.ended()


class TournamentMetrics(Observer):
    """Publishes how a tournament goes, under the name of its experiment."""

    def __init__(self, experiment: str) -> None:
        self.experiment = experiment

    def candidates_judged(self, rows: Sequence[dict[str, Any]]) -> None:
        of = self.experiment
        scored = Counter(row["action"] for row in rows if row["heat"] == 1 and row["status"] == "finished")
        failed = Counter(row["action"] for row in rows if row["status"] == "failed")
        for metric, counts in ((CANDIDATES_SCORED, scored), (CANDIDATES_FAILED, failed)):
            for action, count in counts.items():
                publish(metric, count, experiment=of, action=action)
        for row in rows:
            if not row["audit"]:
                publish(GAIN, row.get("gain"), experiment=of)
                publish(SCORE, row.get("score"), experiment=of)

    def round_done(self, row: dict[str, Any]) -> None:
        for metric, column in (
            (ROUNDS, "round"),
            (PARAMETERS, "parameters"),
            (ACCURACY, "accuracy"),
            (CREDITS, "balance"),
        ):
            publish(metric, row[column], experiment=self.experiment)

    def ended(self) -> None:
        forget(experiment=self.experiment)
