"""What is shown while something takes a while: a bar with the time left on a terminal, a line at times elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self, TypeVar

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Column
from rich.text import Text

from search.session.console import Console

LINE_SECONDS = 15.0

Item = TypeVar("Item")


def time_left(seconds: float, gained: float, left: float) -> str:
    """The end of a line on work that went so far in so many seconds; nothing where that cannot be told."""
    if gained <= 0 or left <= 0:
        return ""
    minutes, rest = divmod(round(seconds * left / gained), 60)
    return f", about {f'{minutes}:{rest:02d} minutes' if minutes else f'{rest} seconds'} left"


class TimeLeft(ProgressColumn):
    """The same on a bar, by the mean of all of it: Rich's own waits for several steps, which may take minutes each.

    before: a field of a task, what of it was done when it began.
    """

    def render(self, task: Task) -> Text:
        """As `time_left` says it."""
        if task.total is None or task.elapsed is None:
            return Text()
        gained = task.completed - task.fields.get("before", 0)
        return Text(time_left(task.elapsed, gained, task.total - task.completed).removeprefix(", "))


def bar(console: Console, *, transient: bool = False) -> Progress:
    """A bar with how much is done of how much, the time that went by and what is left."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeLeft(Column(no_wrap=True)),
    )
    return Progress(*columns, console=console, transient=transient)


@contextmanager
def waiting(text: str, console: Console) -> Iterator[None]:
    """Says on a terminal what is waited for inside; nothing elsewhere."""
    if not console.is_terminal:
        yield
        return
    with console.status(Text(text)):
        yield


@contextmanager
def following(what: str, console: Console) -> Iterator[Callable[[int, int], None]]:
    """To be called with how much is done, and of how much: a bar on a terminal, nothing elsewhere."""
    if not console.is_terminal:
        yield lambda done, total: None
        return
    with bar(console, transient=True) as shown:
        task = shown.add_task(what, total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)


class HowFar:
    """How far work is: a bar on a terminal; elsewhere the lines that it is given, each with the time left.

    total: of what is counted, as in `3 of 10 networks`. before: what was done when this began. Lines come above the
    bar.
    """

    def __init__(self, console: Console, total: int, what: str, before: int = 0) -> None:
        self.console, self.total, self.what, self.before = console, total, what, before
        self.started = self.line_at = time.monotonic()
        self.bar = bar(console, transient=True) if console.is_terminal else None
        if self.bar:
            self.task = self.bar.add_task(what, total=total, completed=before, before=before)

    def __enter__(self) -> Self:
        if self.bar:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar:
            self.bar.stop()

    def found(self, done: int) -> None:
        """So much turns out to have been done before: it says nothing about the speed."""
        self.before += done
        if self.bar:
            self.bar.update(self.task, before=self.before)

    def at(self, done: int, line: str = "") -> None:
        """So much is done. line: what came of it; without one there is a line only where there was none for a while."""
        if self.bar:
            self.bar.update(self.task, completed=done)
            if line:
                self.console.say(line)
        elif line or time.monotonic() - self.line_at > LINE_SECONDS:
            self.line_at = time.monotonic()
            left = time_left(self.line_at - self.started, done - self.before, self.total - done)
            stands = f"{done:,} of {self.total:,} {self.what}{left}"
            self.console.say(f"{line}; {stands}" if line else stands)


def counted(items: Sequence[Item], what: str, console: Console) -> Iterator[Item]:
    """The items one after the other, each of which takes a while. what: they are, as in `3 of 10 reports`."""
    with HowFar(console, len(items), what) as progress:
        for done, item in enumerate(items):
            progress.at(done)
            yield item
