"""What a watcher shows: plain lines in a pipe, a table and a bar on a terminal."""

from __future__ import annotations

import io
from typing import Any

import pytest

from search.session.console import Console
from search.session.progress import COLUMNS, EXPLAINED, OPPONENT, Plain, Terminal, cells, watcher
from search.session.waiting import TimeLeft

ROW: dict[str, Any] = {
    "round": 3,
    "architecture": [784, 100, 10],
    "sides": None,
    "parameters": 1525,
    "accuracy": 0.8943,
    "information": 2.817,
    "action": "widen",
    "decision": "adopted",
    "gain": 0.0191,
    "gain_se": 0.006,
    "score": 0.05,
    "balance": 2586.4,
}
QUIET = ROW | {
    "action": None,
    "decision": "nothing_significant",
    "gain": None,
    "gain_se": None,
    "score": None,
}


def test_a_row_has_every_column() -> None:
    assert len(cells(ROW)) == len(COLUMNS)
    assert cells(ROW)[1:4] == ["784-100-10", "1,525", "0.8943"]
    assert "+0.0191 ± 0.0060" in cells(ROW)
    assert "nothing significant" in cells(QUIET)
    maps = {"architecture": [1, 8, 10], "sides": [[28, 28], [14, 12], [1, 1]]}
    assert cells(ROW | maps)[1] == "1@28-8@14x12-10"
    assert cells(ROW | maps | {"window": 3, "flat": [1]})[1] == "1@28-3x3-8@14x12-flat-10"


@pytest.mark.parametrize("is_terminal", [True, False])
def test_both_watchers_show_a_tournament(is_terminal: bool) -> None:
    page = io.StringIO()
    console = Console(file=page, force_terminal=is_terminal, width=160)
    with watcher(console) as shown:
        assert isinstance(shown, Terminal if is_terminal else Plain)
        shown.round_started(1)
        shown.heat_started(1, 2, 18)
        shown.fork_done()
        if isinstance(shown, Terminal):
            shown.live.refresh()
        shown.round_done(ROW)
        shown.final_progress(50, 100)
        shown.round_done(QUIET)
        shown.opponent_trains()
        if isinstance(shown, Terminal):
            shown.live.refresh()
    assert "784-100-10" in page.getvalue()
    assert ("heat 1 of 2" in page.getvalue()) == is_terminal
    assert OPPONENT in page.getvalue()


def left(shown: Terminal, task: int) -> str:
    return TimeLeft().render(shown.bar.tasks[task]).plain


def test_a_terminal_shows_the_time_left_of_heats_rounds_and_the_final_phase() -> None:
    clock = [0.0]
    console = Console(file=io.StringIO(), force_terminal=True, width=160, get_time=lambda: clock[0])
    shown = Terminal(console, most=4)
    seen = {}
    with shown:
        # As an earlier run did two rounds, which say nothing about the speed of this one.
        shown.round_started(3)
        shown.heat_started(1, 2, 4)
        for _ in range(2):
            clock[0] += 10
            shown.fork_done()
        seen["heat"] = left(shown, -1)
        clock[0] += 10
        shown.round_done(ROW)
        seen["rounds"] = left(shown, 0)
        shown.round_started(4)
        assert shown.bar.tasks[-1].total is None
        shown.round_done(ROW | {"round": 4})
        shown.final_progress(0, 50)
        clock[0] += 20
        shown.final_progress(20, 50)
        seen["final"] = left(shown, -1)
        assert [task.visible for task in shown.bar.tasks] == [False, True]
        # Another final phase is another bar, though it has as many steps.
        shown.round_done(ROW | {"round": 5})
        shown.final_progress(10, 50)
        assert left(shown, -1) == ""
    assert seen == {
        "heat": "about 20 seconds left",
        "rounds": "about 30 seconds left",
        "final": "about 30 seconds left",
    }


def test_the_columns_are_explained_in_three_lines() -> None:
    assert len(EXPLAINED.splitlines()) == 3
    assert max(len(line) for line in EXPLAINED.splitlines()) <= 120
    # Without those that say themselves what they are.
    for name in {column.removesuffix(" ± error") for column, _ in COLUMNS} - {
        "architecture",
        "accuracy",
        "action",
    }:
        assert name in EXPLAINED
