"""Watching a grid of networks: a live page on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from search.grid.blocks import Block
from search.grid.criteria import CRITERIA, best
from search.session.experiment import Experiment

LINE_SECONDS = 15.0
HEARTBEAT_SECONDS = 10.0


class GridProgress:
    """Networks done, networks per second, best so far by each criterion, time left.

    before: rows that an earlier run finished, of which it reads COLUMNS. report: takes the reports of CohortWork.
    """

    COLUMNS = ("trial", "network", "status", *CRITERIA, "loss", "parameters")

    def __init__(
        self,
        console: Console,
        blocks: Sequence[Block],
        experiment: Experiment,
        before: Sequence[dict[str, Any]] = (),
    ) -> None:
        self.console, self.experiment = console, experiment
        self.total = sum(len(block.members) for block in blocks)
        self.total_cost = sum(block.cost for block in blocks)
        done = {row["trial"] for row in before}
        self.cost = {block.name: block.cost for block in blocks if block.name in done}
        self.networks = {block.name: len(block.members) for block in blocks if block.name in done}
        finished = [row for row in before if row["status"] == "finished"]
        self.best: dict[str, tuple[float, str]] = {
            name: (row[name], row["network"])
            for name in CRITERIA
            if (row := best(finished, name)) is not None
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
        self.live = Live(self._page(), console=console, refresh_per_second=4) if console.is_terminal else None

    def __enter__(self) -> GridProgress:
        if self.live:
            self.live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.live.__exit__(kind, error, trace)
        elif error is None:
            self.console.print(self.line(), highlight=False, soft_wrap=True)

    def report(self, told: dict[str, Any]) -> None:
        """Takes in what a block says of itself. A block that is tried again starts over."""
        self.cost[told["name"]], self.networks[told["name"]] = told["cost"], told["networks"]
        for name, found in told["best"].items():
            if found and (name not in self.best or found[0] > self.best[name][0]):
                self.best[name] = found[0], found[1]
        now = time.monotonic()
        if now - self._beat_at > HEARTBEAT_SECONDS:
            self._beat_at = now
            self.experiment.update("")
        if self.live:
            self.live.update(self._page())
        elif now - self._line_at > LINE_SECONDS:
            self._line_at = now
            self.console.print(self.line(), highlight=False, soft_wrap=True)

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
        text = f"{networks:,} of {self.total:,} networks, {speed:.2f} a second"
        gained = cost - self.cost_before
        if gained > 0 and cost < self.total_cost:
            left = seconds * (self.total_cost - cost) / gained
            text += f", about {_duration(left)} left"
        return text

    def _page(self) -> Group:
        self.bar.update(self.task, description=self._state(), completed=self._done()[1])
        table = Table("best so far by", "value", "network", box=None, header_style="bold")
        for name, (value, key) in self.best.items():
            table.add_row(name, f"{value:.4g}", key)
        return Group(self.bar, table)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d} minutes" if minutes else f"{rest} seconds"
