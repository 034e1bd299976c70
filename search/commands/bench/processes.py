"""What processes of this machine use: CPU seconds of this one and of those of its Ray, and its memory, from /proc."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time

import psutil

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
        """This moment."""
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
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            spent = process.cpu_times()
            if "".join(process.cmdline()[:1]).startswith("ray::"):
                workers += spent.user + spent.system
            else:
                own += spent.user + spent.system
    return own, workers


def _status(field: str) -> int:
    """Bytes; 0 for what the system does not tell."""
    found = re.search(rf"^{field}:\s+(\d+) kB", (PROC / "self" / "status").read_text(), re.MULTILINE)
    return KIB * int(found[1]) if found else 0
