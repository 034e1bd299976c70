"""Watching a grid of networks: a live page on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn

from search.session.console import Console
from search.session.experiment import Experiment
from search.session.tables import table_of
from search.session.waiting import LINE_SECONDS, time_left
from structnet.trials.champions import CRITERIA, JUDGED_BY, amount, best
from structnet.trials.grid import Block

HEARTBEAT_SECONDS = 10.0


class LivePage(ABC):
    """A page that is renewed on a terminal; elsewhere there are lines. A subclass says what is on the page."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.live: Live | None = None

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self.live = Live(self.page(), console=self.console, refresh_per_second=4)
            self.live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.live.__exit__(kind, error, trace)

    @abstractmethod
    def page(self) -> RenderableType:
        """What the terminal shows."""


class GridProgress(LivePage):
    """Networks done, networks per second, best so far by each criterion, time left.

    before: rows that an earlier run finished, of which it reads COLUMNS. report: takes the reports of CohortWork.
    """

    COLUMNS = ("trial", "network", "status", *JUDGED_BY, "loss", "parameters")

    def __init__(
        self,
        console: Console,
        blocks: Sequence[Block],
        experiment: Experiment,
        before: Sequence[dict[str, Any]] = (),
    ) -> None:
        super().__init__(console)
        self.experiment = experiment
        self.total = sum(len(block.members) for block in blocks)
        self.total_cost = sum(block.cost for block in blocks)
        done = {row["trial"] for row in before}
        self.cost = {block.name: block.cost for block in blocks if block.name in done}
        self.networks = {block.name: len(block.members) for block in blocks if block.name in done}
        finished = [row for row in before if row["status"] == "finished"]
        self.best: dict[str, tuple[float, str]] = {
            name: (value, row["network"])
            for name in CRITERIA
            if (row := best(finished, name)) is not None and (value := amount(row, name)) is not None
        }
        self.networks_before, self.cost_before = self._done()
        self.started = self._line_at = self._beat_at = time.monotonic()
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            console=console,
        )
        self.task = self.bar.add_task("starting", total=self.total_cost)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        if not self.live and error is None:
            self.console.say(self.line())

    def report(self, reported: dict[str, Any]) -> None:
        """Takes in what a block says of itself. A block that is tried again starts over."""
        self.cost[reported["name"]], self.networks[reported["name"]] = reported["cost"], reported["networks"]
        for name, found in reported["best"].items():
            if found and (name not in self.best or found[0] > self.best[name][0]):
                self.best[name] = found[0], found[1]
        now = time.monotonic()
        if now - self._beat_at > HEARTBEAT_SECONDS:
            self._beat_at = now
            self.experiment.update("")
        if self.live:
            self.live.update(self.page())
        elif now - self._line_at > LINE_SECONDS:
            self._line_at = now
            self.console.say(self.line())

    def line(self) -> str:
        """One line for logs and pipes."""
        champions = ", ".join(f"{name} {value:.4g} ({key})" for name, (value, key) in self.best.items())
        return f"{self._state()}; best so far: {champions or 'none yet'}"

    def _done(self) -> tuple[int, float]:
        return sum(self.networks.values()), sum(self.cost.values())

    def _state(self) -> str:
        networks, cost = self._done()
        seconds = max(1e-9, time.monotonic() - self.started)
        speed = (networks - self.networks_before) / seconds
        left = time_left(seconds, cost - self.cost_before, self.total_cost - cost)
        return f"{networks:,} of {self.total:,} networks, {speed:.2f} a second{left}"

    def page(self) -> Group:
        """What the terminal shows."""
        self.bar.update(self.task, description=self._state(), completed=self._done()[1])
        table = table_of(["best so far by", "value", "network"], [])
        for name, (value, key) in self.best.items():
            table.add_row(name, f"{value:.4g}", key)
        return Group(self.bar, table)
