"""Watching a sweep of tournaments: trials done, the best so far, time left."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Group
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from search.grid.progress import LivePage
from search.session.console import Console
from search.session.experiment import Experiment
from search.session.waiting import time_left


class SweepProgress(LivePage):
    """A live page on a terminal, a line per trial elsewhere.

    costs: trial -> what it is expected to cost, in seconds of one core. before: the rows of trials that an
    earlier run ended. report: takes what TournamentWork says.
    """

    def __init__(
        self,
        console: Console,
        costs: Mapping[str, float],
        experiment: Experiment,
        before: Mapping[str, Mapping[str, Any]],
    ) -> None:
        super().__init__(console)
        self.costs, self.experiment = costs, experiment
        self.done = dict(before)
        self.cost_before = self._cost()
        self.started = time.monotonic()
        self.bar = Progress(
            TextColumn("trials"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
        )
        self.task = self.bar.add_task("", total=len(costs), completed=len(self.done))

    def report(self, reported: dict[str, Any]) -> None:
        """Takes in a trial that has ended."""
        self.done[reported["name"]] = reported
        self.experiment.update("")
        if self.live:
            self.bar.update(self.task, completed=len(self.done))
            self.live.update(self.page())
        else:
            self.console.say(f"{reported['name']}: {_accuracy(reported)}; {self.line()}")

    def line(self) -> str:
        """Where the sweep stands, in one line."""
        text = f"{len(self.done)} of {len(self.costs)} trials"
        right = {name: row["accuracy"] for name, row in self.done.items() if row["status"] == "finished"}
        if right:
            best = max(right, key=lambda name: right[name])
            text += f", best so far {right[best]:.4f} ({best})"
        seconds, cost = time.monotonic() - self.started, self._cost()
        return text + time_left(seconds, cost - self.cost_before, sum(self.costs.values()) - cost)

    def _cost(self) -> float:
        return sum(self.costs[name] for name in self.done)

    def page(self) -> Group:
        """The bar, and below it how far the sweep is."""
        return Group(self.bar, Text(self.line()))


def _accuracy(reported: Mapping[str, Any]) -> str:
    if reported["status"] != "finished":
        return str(reported["status"])
    return f"validation accuracy {reported['accuracy']:.4f} with {reported['parameters']:,} parameters"
