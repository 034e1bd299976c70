"""A hunt whose driver, worker or node is killed ends with the tables of one that was not."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from grid_cases import process, timeless

pytestmark = pytest.mark.slow

BLOCKS, NETWORKS, EPOCHS = 12, 120, 60
LINE = [
    "hunt",
    "--architectures=input-classes input-16-classes",
    "--densities=0.05,0.1,0.15,0.2,0.3,0.4",
    "--rng-seeds=10",
    f"--epochs={EPOCHS}",
    "--batch-size=8",
    "--name=first",
]
PATIENCE_SECONDS = 900.0


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    """What the condition returns once that is true."""
    give_up = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < give_up:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited in vain until {what}")


def parts(folder: Path) -> int:
    """Blocks whose rows are written."""
    return len(
        list((folder / "results" / "tables" / "networks" / "experiment=first").glob("block-*.parquet"))
    )


def below(root: int) -> dict[int, str]:
    """Command lines of the processes that descend from this one."""
    listed = subprocess.run(
        ["ps", "-e", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    )
    lines = {int(line.split(None, 2)[0]): line.split(None, 2)[1:] for line in listed.stdout.splitlines()}
    family = {root}
    while more := {pid for pid, (parent, *_) in lines.items() if int(parent) in family} - family:
        family |= more
    return {pid: " ".join(lines[pid][1:]) for pid in family - {root}}


def workers(root: int) -> list[int]:
    """Those of them that train blocks."""
    return [pid for pid, title in below(root).items() if title.startswith("ray::hunt")]


def still_there(family: dict[int, str]) -> list[int]:
    """Those of these processes that live. A worker changes its title, so what others are is told by the first word."""
    alive = []
    for pid, title in family.items():
        try:
            now = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if now and (now.startswith("ray::") if title.startswith("ray::") else title.startswith(now)):
            alive.append(pid)
    return alive


def end_all(family: dict[int, str]) -> None:
    """What a killed driver leaves behind ends by itself, or is ended here."""
    give_up = time.monotonic() + 20
    while still_there(family) and time.monotonic() < give_up:
        time.sleep(0.2)
    for pid in still_there(family):
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder whose path is short enough for Ray's sockets."""
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def start(folder: Path, ray_folder: Path, *more: str) -> subprocess.Popen[str]:
    return process(*LINE, *more, cwd=folder, RAY_TMPDIR=str(ray_folder), RAY_AUTH_MODE="disabled")


def ended(started: subprocess.Popen[str]) -> str:
    out, err = started.communicate(timeout=PATIENCE_SECONDS)
    assert started.returncode == 0, out + err
    assert "Traceback" not in err, err
    return out


def tables(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """What is the same in every run; snapshots are named from the folder it runs in."""
    found = {name: timeless(folder / "results", name, "first") for name in ("networks", "epochs")}
    assert len(found["networks"]) == len({row["network"] for row in found["networks"]}) == NETWORKS
    assert len({row["trial"] for row in found["networks"]}) == BLOCKS
    assert len(found["epochs"]) == NETWORKS * EPOCHS
    return found


def snapshots(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "results" / "snapshots" / "first").iterdir())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The hunt, undisturbed."""
    folder = tmp_path_factory.mktemp("whole")
    ray_folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    try:
        started = time.monotonic()
        ended(start(folder, ray_folder))
        print(f"undisturbed: {time.monotonic() - started:.0f} s")
    finally:
        shutil.rmtree(ray_folder, ignore_errors=True)
    return folder


def test_a_driver_and_then_a_worker_are_killed(whole: Path, tmp_path: Path, short: Path) -> None:
    started = time.monotonic()
    driver = start(tmp_path, short)
    family: dict[int, str] = {}
    try:
        wait_until(lambda: parts(tmp_path) >= BLOCKS / 4 or driver.poll() is not None, "a quarter is written")
        family = below(driver.pid)
        assert [title for title in family.values() if title.startswith("ray::hunt")], family
    finally:
        driver.kill()
        driver.communicate()
        end_all(family)
    written = parts(tmp_path)
    assert BLOCKS / 4 <= written <= 3 / 4 * BLOCKS
    print(f"driver killed with {written} of {BLOCKS} blocks, {time.monotonic() - started:.0f} s")

    started = time.monotonic()
    driver = start(tmp_path, short, "--resume")
    try:
        wait_until(
            lambda: driver.poll() is not None or (parts(tmp_path) > written and workers(driver.pid)),
            "a block more is written",
        )
        victim = workers(driver.pid)[0]
        os.kill(victim, signal.SIGKILL)
        print(f"worker {victim} killed with {parts(tmp_path)} of {BLOCKS} blocks")
        said = ended(driver)
    finally:
        family = below(driver.pid)
        driver.kill()
        end_all(family)
    print(f"resumed: {time.monotonic() - started:.0f} s")
    assert f"{NETWORKS} of {NETWORKS} networks" in said
    assert tables(tmp_path) == tables(whole)
    assert snapshots(tmp_path) == snapshots(whole)


def test_a_node_is_lost(whole: Path, tmp_path: Path, short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.cluster_utils import Cluster

    # A cluster leaves its address where other programs on this machine would find it.
    monkeypatch.setenv("RAY_TMPDIR", str(short))
    (short / "ray").mkdir()
    started = time.monotonic()
    small = {"object_store_memory": 100 * 2**20}
    cluster, driver = Cluster(), None
    try:
        cluster.add_node(num_cpus=0, include_dashboard=False, temp_dir=str(short / "ray"), **small)
        nodes = [cluster.add_node(num_cpus=1, **small) for _ in range(2)]
        driver = start(tmp_path, short, "--address", cluster.address)
        here = os.getpid()
        # Both nodes train, and something is written already.
        wait_until(
            lambda: driver.poll() is not None or (parts(tmp_path) >= BLOCKS / 4 and len(workers(here)) == 2),
            "both nodes train",
        )
        cluster.remove_node(nodes[1], allow_graceful=False)
        written = parts(tmp_path)
        assert driver.poll() is None and written <= 3 / 4 * BLOCKS
        print(f"node removed with {written} of {BLOCKS} blocks, {time.monotonic() - started:.0f} s")
        said = ended(driver)
    finally:
        if driver is not None:
            driver.kill()
            driver.communicate()
        cluster.shutdown()
    print(f"with a node lost: {time.monotonic() - started:.0f} s")
    assert f"{NETWORKS} of {NETWORKS} networks" in said
    assert tables(tmp_path) == tables(whole)
    assert snapshots(tmp_path) == snapshots(whole)
