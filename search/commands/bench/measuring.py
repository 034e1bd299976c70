"""What the benchmarks share: timing in pairs, the machine they ran on, and the rows they leave."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch

from search.session.console import Console, outcome
from structnet.errors import UserError
from structnet.storage.tables import TableWriter

TURN_SECONDS = 0.1
CPU = torch.device("cpu")

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Pairs:
    """Seconds of one call of each side, (repeats,), measured right after each other."""

    ours: list[float]
    theirs: list[float]

    @property
    def ratios(self) -> list[float]:
        """theirs ÷ ours of every pair, smallest first."""
        return sorted(theirs / ours for ours, theirs in zip(self.ours, self.theirs))

    @property
    def ratio(self) -> float:
        """The median over the pairs: what disturbs the machine for a while falls on both sides of a pair."""
        return median(self.ratios)

    def shown(self, digits: int = 2) -> str:
        """The median ratio, and the smallest and largest."""
        least, middle, most = (
            f"{value:.{digits}f}" for value in (self.ratios[0], self.ratio, self.ratios[-1])
        )
        return f"{middle} ({least}-{most})"


def time_pairs(
    ours: Callable[[], object], theirs: Callable[[], object], repeats: int, device: torch.device
) -> Pairs:
    """Times two functions in turns of about TURN_SECONDS each; both are called a few times before."""
    calls = [_calls_in_a_turn(side, device) for side in (ours, theirs)]
    turns = [
        [seconds_of(side, count, device) for side, count in zip((ours, theirs), calls)]
        for _ in range(repeats)
    ]
    return Pairs([turn[0] for turn in turns], [turn[1] for turn in turns])


def seconds_of(work: Callable[[], object], calls: int, device: torch.device) -> float:
    """Mean seconds of so many calls, until the device has finished them."""
    _wait_for(device)
    started = perf_counter()
    for _ in range(calls):
        work()
    _wait_for(device)
    return (perf_counter() - started) / calls


def _calls_in_a_turn(work: Callable[[], object], device: torch.device) -> int:
    once = min(seconds_of(work, 1, device) for _ in range(3))
    return max(1, round(TURN_SECONDS / once))


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def ray_with(workers: int) -> Iterator[None]:
    """A Ray with so many workers of one CPU inside, unless one is running already."""
    from tournament.workers.cluster import start_ray, stop_ray

    is_ours = start_ray(workers, 1, None)
    try:
        yield
    finally:
        if is_ours:
            stop_ray()


def fastest(steps: Mapping[str, Callable[[], object]], device: torch.device = CPU) -> str:
    """The name of the step that takes least time here; each is called once before."""
    for step in steps.values():
        step()
    times = {name: min(seconds_of(step, 3, device) for _ in range(5)) for name, step in steps.items()}
    return min(times, key=lambda name: times[name])


def device_named(name: str) -> torch.device:
    """cpu or cuda, if there is one; raises UserError."""
    if name == "cpu" or (name == "cuda" and torch.cuda.is_available()):
        return torch.device(name)
    reason = "there is no GPU here that torch can use" if name == "cuda" else "that is neither cpu nor cuda"
    raise UserError(f"device is '{name}', but {reason}: use --device cpu")


def console_for_tables() -> Console:
    """As wide as the terminal; elsewhere wide enough for every table of a benchmark."""
    console = Console(asked=True)
    return console if console.is_terminal else Console(asked=True, width=110)


def check_repeats(repeats: int | None) -> None:
    """Raises UserError below 1; None is for the number of the case."""
    if repeats is not None and repeats < 1:
        raise UserError(f"repeats is {repeats}, but must be at least 1")


def check_case(case: str | None, cases: Iterable[str]) -> None:
    """Raises UserError for a case that there is not; None is for several."""
    if case is not None and case not in cases:
        raise UserError(f"case is '{case}', but must be one of {', '.join(cases)}")


def row_of_pairs(
    benchmark: str, case: str, pairs: Pairs, theirs: str, device: torch.device = CPU
) -> dict[str, Any]:
    """A row of the benchmarks table with the medians of both sides, and of their ratio."""
    seconds = median(pairs.ours), median(pairs.theirs)
    return benchmark_row(
        benchmark, case, seconds[0], theirs, seconds[1], pairs.ratio, len(pairs.ours), device
    )


def benchmark_row(
    benchmark: str,
    case: str,
    ours_seconds: float,
    theirs: str,
    theirs_seconds: float,
    ratio: float,
    repeats: int = 1,
    device: torch.device = CPU,
    **measured: Any,
) -> dict[str, Any]:
    """A row of the benchmarks table. measured: plain values that it has no column for, kept with the machine."""
    return {
        "benchmark": benchmark,
        "case": case,
        "ours_seconds": ours_seconds,
        "theirs": theirs,
        "theirs_seconds": theirs_seconds,
        "ratio": ratio,
        "repeats": repeats,
        "machine": json.dumps(machine(device) | measured, sort_keys=True),
    }


def machine(device: torch.device) -> dict[str, Any]:
    """What the numbers were measured on."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }


def write_rows(results: str | None, experiment: str, rows: Rows, console: Console) -> None:
    """Writes the rows of a run, in the place of those of the run before, and says where; nothing without results."""
    outcome(**{experiment: [row | {"machine": json.loads(row["machine"])} for row in rows]})
    if results:
        path = TableWriter(results, experiment).write("benchmarks", experiment, rows)
        console.print(f"{len(rows)} rows in {path}")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
