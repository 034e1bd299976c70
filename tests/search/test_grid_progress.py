"""What a grid says of itself while it is trained, by a clock of our own."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest

from search.grid import progress as grid_progress
from search.grid.progress import GridProgress
from search.session.console import Console
from structnet.trials.grid import Block, Member

# Costs 20 and 30 a network: blocks of 60 and 40.
DEAR = Block("block-0000", tuple(Member((4, 3), 0.5, rng_seed) for rng_seed in (0, 1)))
CHEAP = Block("block-0001", tuple(Member((4, 2), 0.5, rng_seed) for rng_seed in (0, 1)))
NOTHING = {"accuracy": None, "efficiency": None, "patchable": None}


class Clock:
    """Stands still until it is moved on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Beats:
    """Counts the heartbeats of an experiment."""

    def __init__(self) -> None:
        self.count = 0

    def update(self, trial: str) -> None:
        assert trial == ""
        self.count += 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(grid_progress, "time", clock)
    return clock


def progress(before: list[dict[str, Any]] | None = None, *, terminal: bool = False) -> GridProgress:
    console = Console(file=StringIO(), force_terminal=terminal, width=120)
    return GridProgress(console, [DEAR, CHEAP], Beats(), before or [])  # type: ignore[arg-type]


def printed(shown: GridProgress) -> list[str]:
    file = shown.console.file
    assert isinstance(file, StringIO)
    return file.getvalue().splitlines()


def told(block: Block, cost: float, networks: int, **bests: tuple[float, str]) -> dict[str, Any]:
    best = {**NOTHING, **bests}
    return {"name": block.name, "cost": cost, "networks": networks, "best": best, "done": networks > 0}


def test_costs_are_as_the_cases_assume() -> None:
    assert (DEAR.cost, CHEAP.cost) == (60, 40)


def test_a_line_has_networks_speed_time_left_and_champions(clock: Clock) -> None:
    shown = progress()
    assert shown.line() == "0 of 4 networks, 0.00 a second; best so far: none yet"
    clock.now += 8
    shown.report(told(DEAR, 30, 0))
    assert shown.line() == "0 of 4 networks, 0.00 a second, about 19 seconds left; best so far: none yet"
    clock.now += 2
    shown.report(told(DEAR, 60, 2, accuracy=(0.75, "4-3_d0.5_s1")))
    assert shown.line() == (
        "2 of 4 networks, 0.20 a second, about 7 seconds left; best so far: accuracy 0.75 (4-3_d0.5_s1)"
    )
    shown.report(told(CHEAP, 40, 2, accuracy=(0.5, "4-2_d0.5_s0"), efficiency=(0.01, "4-2_d0.5_s0")))
    assert shown.line() == (
        "4 of 4 networks, 0.40 a second; best so far: accuracy 0.75 (4-3_d0.5_s1), efficiency 0.01 (4-2_d0.5_s0)"
    )


def test_long_times_are_told_in_minutes(clock: Clock) -> None:
    shown = progress()
    clock.now += 60
    shown.report(told(DEAR, 60, 2))
    assert "about 40 seconds left" in shown.line()
    clock.now += 60
    shown.report(told(DEAR, 50, 2))
    assert "about 2:00 minutes left" in shown.line()
    shown.report(told(DEAR, 5, 0))
    assert "about 38:00 minutes left" in shown.line()


def test_a_block_that_is_tried_again_is_not_counted_twice(clock: Clock) -> None:
    shown = progress()
    clock.now += 10
    shown.report(told(DEAR, 60, 2))
    shown.report(told(DEAR, 15, 0))
    assert shown.line().startswith("0 of 4 networks, 0.00 a second, about 57 seconds left")
    shown.report(told(DEAR, 60, 2))
    assert shown.line().startswith("2 of 4 networks, 0.20 a second, about 7 seconds left")


def row(block: Block, network: str, accuracy: float | None, status: str = "finished") -> dict[str, Any]:
    columns = {"loss": 1.0, "parameters": 10, "efficiency": None, "patchability": None}
    return {"trial": block.name, "network": network, "accuracy": accuracy, "status": status, **columns}


def test_what_an_earlier_run_did_counts_but_not_towards_the_speed(clock: Clock) -> None:
    before = [row(DEAR, "4-3_d0.5_s0", 0.6), row(DEAR, "4-3_d0.5_s1", 0.9, "culled")]
    shown = progress(before)
    assert shown.line() == "2 of 4 networks, 0.00 a second; best so far: accuracy 0.6 (4-3_d0.5_s0)"
    clock.now += 10
    shown.report(told(CHEAP, 10, 0, accuracy=(0.5, "4-2_d0.5_s0")))
    assert shown.line() == (
        "2 of 4 networks, 0.00 a second, about 30 seconds left; best so far: accuracy 0.6 (4-3_d0.5_s0)"
    )


def test_the_most_patchable_is_the_one_with_the_largest_error_in_an_earlier_run_too(clock: Clock) -> None:
    before = [
        row(DEAR, "4-3_d0.5_s0", 0.6) | {"patchability": 0.01},
        row(DEAR, "4-3_d0.5_s1", 0.9) | {"patchability": 0.09},
    ]
    shown = progress(before)
    assert shown.line().endswith("accuracy 0.9 (4-3_d0.5_s1), patchable 0.4 (4-3_d0.5_s0)")
    shown.report(told(CHEAP, 40, 2, patchable=(0.5, "4-2_d0.5_s0")))
    assert shown.line().endswith("accuracy 0.9 (4-3_d0.5_s1), patchable 0.5 (4-2_d0.5_s0)")


def test_lines_and_heartbeats_come_at_intervals(clock: Clock) -> None:
    shown = progress()
    for _ in range(40):
        clock.now += 1
        shown.report(told(DEAR, 30, 0))
    assert shown.experiment.count == 3  # type: ignore[attr-defined]
    assert len(printed(shown)) == 2


def test_a_log_ends_with_a_line_unless_the_work_failed(clock: Clock) -> None:
    with progress() as shown:
        shown.report(told(DEAR, 60, 2))
    assert len(printed(shown)) == 1 and printed(shown)[0].startswith("2 of 4 networks")
    with pytest.raises(KeyboardInterrupt), progress() as shown:
        raise KeyboardInterrupt
    assert printed(shown) == []


def test_a_terminal_shows_a_page(clock: Clock) -> None:
    with progress(terminal=True) as shown:
        clock.now += 10
        shown.report(told(DEAR, 60, 2, accuracy=(0.75, "4-3_d0.5_s1")))
    page = "\n".join(printed(shown))
    assert "2 of 4 networks, 0.20 a second, about 7 seconds left" in page
    assert "60 %" in page
    assert "best so far by" in page and "4-3_d0.5_s1" in page
