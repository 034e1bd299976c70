"""Watching a tournament: a live table and a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.table import Table

from search.session.console import Console
from search.session.waiting import bar
from structnet.network.architecture import architecture_of_row, dashed
from tournament.observer import Observer
from tournament.workers.fork import Survey

SHOWN_ROUNDS = 30
COLUMNS = (
    ("round", "right"),
    ("architecture", "left"),
    ("parameters", "right"),
    ("accuracy", "right"),
    ("information", "right"),
    ("action", "left"),
    ("gain ± error", "right"),
    ("score", "right"),
    ("credits", "right"),
)
# What the columns mean, in three lines for whoever sees them for the first time.
EXPLAINED = """\
A line below is a round: copies of the network grow in different ways, and the best stays if it surely gained.
  parameters: connections and biases that exist. information: what it tells about the label; gain: bits more of that.
  score: gain for each 1,000 parameters added. credits: what is left for growing, earned by answers that are right."""
OPPONENT = "Its opponent trains: RigL, for as many parameter-steps."


def cells(row: dict[str, Any]) -> list[str]:
    """A row of the rounds table as text, in the order of COLUMNS."""
    gain = "" if row["gain"] is None else f"{row['gain']:+.4f} ± {row['gain_se']:.4f}"
    return [
        str(row["round"]),
        dashed(architecture_of_row(row)),
        f"{row['parameters']:,}",
        f"{row['accuracy']:.4f}",
        f"{row['information']:.3f} bits",
        row["action"] or row["decision"].replace("_", " "),
        gain,
        "" if row["score"] is None else f"{row['score']:+.3f}",
        f"{row['balance']:,.0f}",
    ]


class Plain(Observer):
    """One line per round, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def __enter__(self) -> Plain:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def opponent_trains(self) -> None:
        """Says so."""
        self.console.say(OPPONENT)

    def round_done(self, row: dict[str, Any]) -> None:
        """Prints the row as a line."""
        named = [
            f"{text}" if name == "architecture" else f"{name} {text}"
            for (name, _), text in zip(COLUMNS, cells(row))
            if text
        ]
        self.console.say("  ".join(named))


class Terminal(Observer):
    """A table of rounds that grows, with a bar for the rounds and one for the heat that runs.

    most: rounds, None where nobody knows how many there will be.
    """

    def __init__(self, console: Console, most: int | None = None) -> None:
        self.rows: list[list[str]] = []
        self.bar = bar(console)
        self.all = self.bar.add_task("rounds", total=most, visible=bool(most))
        self.task = self.bar.add_task("starting", total=None)
        self.live = Live(self._page(), console=console, refresh_per_second=8)
        self.round = 0
        self.phase = (0, 0)  # the final one that runs: after how many rows, and of how many steps

    def __enter__(self) -> Terminal:
        self.live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in (self.all, self.task):
            self.bar.update(task, visible=False)
        self.live.__exit__(kind, error, trace)

    def _page(self) -> Group:
        table = Table(box=None, header_style="bold")
        for name, side in COLUMNS:
            table.add_column(name, justify="right" if side == "right" else "left", no_wrap=True)
        for row in self.rows[-SHOWN_ROUNDS:]:
            table.add_row(*row)
        return Group(table, self.bar)

    def _show(self, text: str, total: int | None, done: int = 0) -> None:
        self.bar.remove_task(self.task)
        self.task = self.bar.add_task(text, total=total, completed=done, before=done)

    def round_started(self, number: int) -> None:
        """Says that the network trains and is diagnosed."""
        if not self.round:
            # What an earlier run did counts, but not towards the speed.
            self.bar.reset(self.all, completed=number - 1, before=number - 1)
        self.round = number
        self._show(f"round {number}: training and diagnosis", None)

    def surveyed(self, survey: Survey) -> None:
        """Says how many units are saturated or dead."""
        found = f"{survey.saturated} saturated, {survey.dead} dead units"
        self._show(f"round {self.round}: {found}", None)

    def heat_started(self, heat: int, heats: int, forks: int) -> None:
        """Begins the bar of a heat, which is as long as it has forks."""
        self._show(f"round {self.round}: heat {heat} of {heats}", forks)

    def fork_done(self) -> None:
        """Moves the bar on by a fork."""
        self.bar.advance(self.task)

    def final_progress(self, done: int, total: int) -> None:
        """Moves the bar of the final phase, in steps."""
        if self.phase != (len(self.rows), total):
            self.phase = len(self.rows), total
            self.bar.update(self.all, visible=False)
            self._show("final phase: move, sell, anneal", total, done)
        self.bar.update(self.task, completed=done)

    def opponent_trains(self) -> None:
        """Says so; how far it is, nobody is told."""
        self._show(OPPONENT, None)

    def round_done(self, row: dict[str, Any]) -> None:
        """Adds the row to the table."""
        self.rows.append(cells(row))
        self.bar.update(self.all, completed=row["round"])
        self.live.update(self._page())


def watcher(console: Console, most: int | None = None) -> Plain | Terminal:
    """The observer that fits where the output goes. most: rounds, where that is known."""
    return Terminal(console, most) if console.is_terminal else Plain(console)
