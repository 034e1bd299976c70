"""`structnet bench screen`: how long somebody waits for help, for a first line, and for the report of a large run.

Each command is a process of its own, from its start. Beside it, in turn with it, stands a Python that does nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from search.commands.bench.command import ScreenOptions
from search.commands.bench.measuring import (
    Pairs,
    Rows,
    check_repeats,
    console_for_tables,
    row_of_pairs,
    write_rows,
)
from search.session.tables import table_of
from structnet.actions import ACTIONS
from structnet.errors import UserError, WorkFailed
from structnet.storage.tables import TableWriter

PROGRAM = "from search.cli import script; script()"
NAMES = tuple(ACTIONS)
CONTROLS = 2  # forks of a round that change nothing


def run(options: ScreenOptions) -> None:
    """Measures, prints a table and writes the rows to `results`, if given. Raises UserError for sizes below 1."""
    check_repeats(options.repeats)
    for name in ("rounds", "forks"):
        if (value := getattr(options, name)) < 1:
            raise UserError(f"{name} is {value}, but must be at least 1")
    console = console_for_tables()
    table = table_of(["until"], ("s (least-most)", "s of a Python that does nothing"))
    rows: Rows = []
    with TemporaryDirectory(prefix="structnet-bench-") as folder:
        made_up(folder, options.rounds, options.forks)
        for name, wait in _waits(folder, options):
            wait()  # what is made once per machine is there
            pairs = Pairs(*zip(*((wait(), _ended("pass")) for _ in range(options.repeats))))  # type: ignore[arg-type]
            row = row_of_pairs("screen", name, pairs, "a Python that does nothing")
            table.add_row(
                name,
                f"{row['ours_seconds']:.2f} ({min(pairs.ours):.2f}-{max(pairs.ours):.2f})",
                f"{row['theirs_seconds']:.3f}",
            )
            rows.append(row)
        size = (Path(folder) / "reports" / "large" / "index.html").stat().st_size
    console.print(table)
    console.print(f"The page of the report has {size / 1e6:.2f} MB.")
    write_rows(options.results, "bench-screen", rows, console)


def _waits(folder: str, options: ScreenOptions) -> Iterator[tuple[str, Callable[[], float]]]:
    completing = {"_STRUCTNET_COMPLETE": "complete_bash", "COMP_WORDS": "structnet gr", "COMP_CWORD": "1"}
    yield "structnet --help", lambda: _ended(PROGRAM, "--help")
    yield "structnet grow --help", lambda: _ended(PROGRAM, "grow", "--help")
    yield "the shell has completed a word", lambda: _ended(PROGRAM, **completing)
    yield "the first line of structnet grow", lambda: _first_line("grow", "--results", folder)
    large = f"the report of {options.rounds} rounds × {options.forks} forks"
    yield large, lambda: _ended(PROGRAM, "report", "large", "--results", folder)


def _ended(code: str, *words: str, **environment: str) -> float:
    """Seconds of a process; raises WorkFailed where it fails."""
    began = perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = perf_counter() - began
    if done.returncode:
        raise WorkFailed(f"structnet {' '.join(words)} failed: {done.stderr.strip()[-300:]}")
    return seconds


def _first_line(*words: str) -> float:
    """Seconds until a command has said something; then it is ended."""
    began = perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        seconds = perf_counter() - began
        process.kill()
    if not line:
        raise WorkFailed(f"structnet {' '.join(words)} said nothing")
    return seconds


def made_up(results: str, rounds: int, forks: int) -> None:
    """The experiment `large`: a growth that never was, with so many rounds and so many forks in each."""
    writer = TableWriter(results, "large")
    found = [_round(number, forks) for number in range(rounds + 1)]
    whole = {
        name: found[-1][name] for name in ("parameters", "connections", "accuracy", "parameter_steps_all")
    }
    run = {"trial": "", "command": "grow", "dataset": "digits", "rng_seed": 0, "status": "finished"}
    writer.write(
        "experiments", "run", [{**run, **whole, "test_accuracy": 0.94, "config": "{}", "versions": "{}"}]
    )
    writer.write("rounds", "rounds", found)
    writer.write(
        "candidates",
        "candidates",
        [_fork(number, place) for number in range(1, rounds + 1) for place in range(forks)],
    )


def _round(number: int, forks: int) -> dict[str, Any]:
    """A row of `rounds`: a hidden group that is one unit wider each time."""
    hidden = 10 + number
    connections = [90 + number, 10, 30]
    return {
        "trial": "",
        "round": number,
        "action": NAMES[number % len(NAMES)] if number else None,
        "site": f"group 1: {number} units" if number else None,
        "architecture": [64, hidden, 10],
        "parameters": sum(connections) + hidden + 10,
        "connections": sum(connections),
        "accuracy": 0.95 - 0.45 / (1 + number),
        "loss": 1 / (1 + number),
        "information": 3 - 2 / (1 + number),
        "gain": 0.01,
        "gain_se": 0.004,
        "score": 0.3,
        "balance": 100.0,
        "candidates": forks,
        "steps": 100 * number,
        "steps_all": 500 * number,
        "parameter_steps": 10_000 * number,
        "parameter_steps_all": 50_000 * number,
        "decision": "adopted" if number else "opened",
        "link_sources": [0, 0, 1],
        "link_targets": [1, 2, 2],
        "link_connections": connections,
        "link_possible": [64 * hidden, 640, 10 * hidden],
        "input_reads": [place % 5 for place in range(64)],
        "group_saturated": [0, number % 3, 0],
        "group_dead": [0, number % 2, 0],
    }


def _fork(number: int, place: int) -> dict[str, Any]:
    """A row of `candidates`: the first are controls, the next one wins, and each after it gains less."""
    control = place < CONTROLS
    gain = None if control else 0.02 - place / 10_000
    return {
        "trial": "",
        "round": number,
        "heat": 1,
        "candidate": place,
        "action": "train" if control else NAMES[place % len(NAMES)],
        "site": f"group 1: {place} units by gradient, of round {number}",
        "control": control,
        "parameters_added": place,
        "gain": gain,
        "gain_se": None if control else 0.004,
        "score": None if gain is None else 1000 * gain / max(32, place),
        "affordable": True,
        "eligible": place == CONTROLS,
        "audit": False,
        "survived": place < 10,
        "won": place == CONTROLS,
        "steps": 30,
        "status": "finished",
    }
