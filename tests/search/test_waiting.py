"""What is shown while something takes a while: a bar on a terminal, elsewhere a line at times, with the time left."""

from __future__ import annotations

from io import StringIO

import pytest

from search.session import waiting as module
from search.session.console import Console
from search.session.waiting import HowFar, counted, following, waiting


class Clock:
    """Stands still until it is moved on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def console(clock: Clock, *, terminal: bool) -> Console:
    return Console(file=StringIO(), force_terminal=terminal, width=120, get_time=lambda: clock.now)


def said(console: Console) -> str:
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_elsewhere_lines_have_the_time_left(clock: Clock) -> None:
    shown = console(clock, terminal=False)
    with HowFar(shown, 10, "networks", before=2) as progress:
        clock.now += 8
        progress.at(4, "the third is trained")
        progress.at(5)  # too soon after it
        clock.now += 16
        progress.at(6)
        clock.now += 8
        progress.at(10, "the last is trained")
    assert said(shown).splitlines() == [
        "the third is trained; 4 of 10 networks, about 24 seconds left",
        "6 of 10 networks, about 24 seconds left",
        "the last is trained; 10 of 10 networks",
    ]


def test_on_a_terminal_a_bar_has_it_and_lines_stand_above(clock: Clock) -> None:
    shown = console(clock, terminal=True)
    with HowFar(shown, 10, "networks") as progress:
        clock.now += 8
        progress.at(4, "the fourth is trained")
        assert progress.bar is not None
        progress.bar.refresh()
    assert "the fourth is trained\n" in said(shown)
    assert "4/10" in said(shown) and "about 12 seconds left" in said(shown)


@pytest.mark.parametrize("terminal", [True, False])
def test_what_an_earlier_run_did_says_nothing_about_the_speed(clock: Clock, terminal: bool) -> None:
    shown = console(clock, terminal=terminal)
    with HowFar(shown, 10, "epochs") as progress:
        clock.now += 16
        progress.found(5)
        progress.at(6)
        if progress.bar:
            progress.bar.refresh()
    assert "about 1:04 minutes left" in said(shown)


@pytest.mark.parametrize("terminal", [True, False])
def test_things_are_counted_one_after_the_other(clock: Clock, terminal: bool) -> None:
    shown, seen = console(clock, terminal=terminal), []
    for item in counted("abcd", "letters", shown):
        seen.append(item)
        clock.now += 10
    assert seen == list("abcd")
    if not terminal:
        assert said(shown) == "2 of 4 letters, about 20 seconds left\n"


def test_nothing_is_shown_where_there_is_no_terminal(clock: Clock) -> None:
    shown = console(clock, terminal=False)
    with waiting("reading", shown), following("steps", shown) as on_part:
        on_part(1, 2)
    assert said(shown) == ""


def test_a_terminal_shows_what_is_waited_for(clock: Clock) -> None:
    shown = console(clock, terminal=True)
    with waiting("reading [a file]", shown):
        pass
    with following("steps", shown) as on_part:
        clock.now += 10
        on_part(1, 3)
    assert "reading [a file]" in said(shown)
    assert "1/3" in said(shown) and "about 20 seconds left" in said(shown)
