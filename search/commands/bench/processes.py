"""What processes of this machine use, read from /proc: CPU seconds and memory of this one and of those of its Ray."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time

from structnet.errors import UserError

PROC = Path("/proc")
KIB = 1024


@dataclass(frozen=True)
class Moment:
    """A moment of this process, in seconds: on the clock, of CPU by all its threads, and of CPU by its Ray."""

    wall: float
    cpu: float
    of_ray: float
    of_workers: float

    @classmethod
    def now(cls) -> Moment:
        of_ray, of_workers = cpu_of_ray()
        return cls(perf_counter(), process_time(), of_ray, of_workers)


def check_proc() -> None:
    """Raises UserError where there is no /proc to read."""
    if not (PROC / "self" / "status").exists():
        raise UserError("this benchmark reads /proc, but there is none: run it on Linux")


def forget_peak() -> None:
    """`peak_bytes` begins anew; where that is not allowed, it stays that of the whole life of the process."""
    with suppress(OSError):
        (PROC / "self" / "clear_refs").write_text("5")


def peak_bytes() -> int:
    """The most memory that this process has had resident, with what it shares with others."""
    return _status("VmHWM")


def resident_bytes() -> tuple[int, int]:
    """(all, without files) that this process has resident now; files are mostly the libraries of torch."""
    return _status("VmRSS"), _status("RssAnon") + _status("RssShmem")


def cpu_of_ray() -> tuple[float, float]:
    """CPU seconds of the children of this process so far: (Ray's own, its workers'). Those that ended are gone."""
    own = workers = 0.0
    for process in _descendants(os.getpid()):
        with suppress(OSError):
            spent = _cpu_seconds(process)
            if (PROC / str(process) / "cmdline").read_bytes().startswith(b"ray::"):
                workers += spent
            else:
                own += spent
    return own, workers


def _descendants(process: int) -> Iterator[int]:
    children: dict[int, list[int]] = {}
    for folder in PROC.iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                children.setdefault(int(_stat(int(folder.name))[1]), []).append(int(folder.name))
    waiting = [process]
    while waiting:
        for child in children.get(waiting.pop(), []):
            yield child
            waiting.append(child)


def _stat(process: int) -> list[str]:
    """The fields after the name of the program, which may have spaces: state, parent, ..."""
    return (PROC / str(process) / "stat").read_text().rpartition(")")[2].split()


def _cpu_seconds(process: int) -> float:
    user, system = _stat(process)[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _status(field: str) -> int:
    """Bytes; 0 for what the system does not tell."""
    found = re.search(rf"^{field}:\s+(\d+) kB", (PROC / "self" / "status").read_text(), re.MULTILINE)
    return KIB * int(found[1]) if found else 0
