"""What a watcher shows: plain lines in a pipe, a table and a bar on a terminal."""

from __future__ import annotations

import io
from typing import Any

import pytest

from search.session.console import Console
from search.session.progress import COLUMNS, Plain, Terminal, cells, watcher

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
    assert "784-100-10" in page.getvalue()
    assert ("heat 1 of 2" in page.getvalue()) == is_terminal
