"""Tournaments and hunts for half an hour, while workers are killed at random: nothing piles up, and nothing is left.

`make soak` runs it; SOAK_MINUTES says for how long instead of 30. One command after the other of each kind is started
in one process, as in a notebook that is left running, so that whatever a run leaves behind in its driver is seen.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import psutil
import pytest
from helpers.fault_cases import workers

from structnet.storage.tables import read_table

pytestmark = [pytest.mark.slow, pytest.mark.soak]

MINUTES = float(os.environ.get("SOAK_MINUTES", "30"))
WARM_SHARE = 1 / 6  # of the time: five minutes of thirty
TOLERATED = 0.10
KILL_EVERY_SECONDS = 45.0
SAMPLE_SECONDS = 2.0

# Ray stays up from one command to the next, as it does for whoever works in one session.
DRIVER = """
import sys, time
import ray
from search.cli import app

ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=40,
         object_store_memory=150 * 2**20, _temp_dir=sys.argv[2])
end, number = time.monotonic() + float(sys.argv[1]), 0
while time.monotonic() < end:
    number += 1
    grow = f"grow --epochs 12 --rounds 6 --name grow-{number}"
    hunt = f"hunt --architectures input-16-classes --epochs 10 --name hunt-{number}"
    for line in (grow, hunt):
        app(line.split(), standalone_mode=False)
ray.shutdown()
"""


def titled(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def soak(driver: psutil.Process, seconds: float) -> tuple[list[tuple[float, int]], int, set[psutil.Process]]:
    """Until the driver ends: (seconds, bytes) of its memory, how many workers were killed, all that it started."""
    choose = random.Random(0)
    started, next_kill = time.monotonic(), KILL_EVERY_SECONDS
    samples, killed, family = [], 0, set()
    while driver.status() != psutil.STATUS_ZOMBIE:
        now = time.monotonic() - started
        assert now < 2 * seconds + 600, "the driver does not end"
        try:
            samples.append((now, driver.memory_full_info().uss))
            family |= set(driver.children(recursive=True))
            if now >= next_kill and now < seconds and (found := workers(driver.pid)):
                os.kill(choose.choice(found), signal.SIGKILL)
                killed, next_kill = killed + 1, now + KILL_EVERY_SECONDS * choose.uniform(0.5, 1.5)
        except (psutil.NoSuchProcess, ProcessLookupError):
            pass
        time.sleep(SAMPLE_SECONDS)
    return samples, killed, family


def spread_after(samples: list[tuple[float, int]], begin: float, end: float) -> tuple[float, float, float]:
    """(median, lowest, highest) memory in MiB of six windows between two times; each window by its median."""
    width = (end - begin) / 6
    windows = [
        median(size for at, size in samples if begin + n * width <= at < begin + (n + 1) * width) / 2**20
        for n in range(6)
    ]
    return median(windows), min(windows), max(windows)


def test_a_long_run_with_dying_workers_leaves_nothing_behind(tmp_path: Path, short: Path) -> None:
    root = str(Path(__file__).parents[2])
    started = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(60 * MINUTES), str(short)],
        cwd=tmp_path,
        stdout=(tmp_path / "out").open("w"),
        stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": root, "RAY_AUTH_MODE": "disabled"},
    )
    try:
        samples, killed, family = soak(psutil.Process(started.pid), 60 * MINUTES)
        code = started.wait(60)
    finally:
        started.kill()
    said = (tmp_path / "out").read_text()
    assert code == 0 and "Traceback" not in said, said[-3000:]
    begin = 60 * MINUTES * WARM_SHARE
    middle, low, high = spread_after(samples, begin, 60 * MINUTES)
    _, alive = psutil.wait_procs([process for process in family if process.is_running()], timeout=30)
    experiments = read_table(str(tmp_path / "results"), "experiments").to_pylist()
    print(
        f"{MINUTES:g} minutes, {len(experiments)} experiments, {killed} workers killed; memory of the driver "
        f"{middle:.0f} MiB ({low:.0f} to {high:.0f}) after the first {begin:.0f} seconds"
    )
    assert killed >= MINUTES / 2
    assert {row["status"] for row in experiments} == {"finished"}
    assert len(experiments) >= 2
    assert not alive, [titled(process) for process in alive]
    assert not list((tmp_path / "results").rglob("*.tmp"))
    assert not list((tmp_path / "results" / "ray").glob("*"))
    assert (1 - TOLERATED) * middle <= low and high <= (1 + TOLERATED) * middle
