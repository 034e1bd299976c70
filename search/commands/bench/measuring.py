"""What the benchmarks share: timing in pairs, the machine they ran on, and the rows they leave."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
from rich.console import Console

from structnet.errors import UserError
from structnet.storage.tables import TableWriter

TURN_SECONDS = 0.1


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


def device_named(name: str) -> torch.device:
    """cpu or cuda, if there is one; raises UserError."""
    if name == "cpu" or (name == "cuda" and torch.cuda.is_available()):
        return torch.device(name)
    reason = "there is no GPU here that torch can use" if name == "cuda" else "that is neither cpu nor cuda"
    raise UserError(f"device is '{name}', but {reason}: use --device cpu")


def console_for_tables() -> Console:
    """As wide as the terminal; elsewhere wide enough for every table of a benchmark."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(width=110, highlight=False)


def check_repeats(repeats: int) -> None:
    """Raises UserError below 1."""
    if repeats < 1:
        raise UserError(f"repeats is {repeats}, but must be at least 1")


def benchmark_row(
    benchmark: str,
    case: str,
    ours_seconds: float,
    theirs: str,
    theirs_seconds: float,
    ratio: float,
    repeats: int,
    device: torch.device,
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


def write_rows(results: str | None, experiment: str, rows: Sequence[dict[str, Any]]) -> str:
    """Writes the rows of a run, in the place of those of the run before; the path, or nothing without results."""
    return TableWriter(results, experiment).write("benchmarks", experiment, rows) if results else ""


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
