"""Whatever dies, fills up or is damaged in the middle of `grow` and `hunt`: in the end the tables are the same.

Real faults on real processes; each case prints what it took. docs/FAULTS.md has what comes of it for a user.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from helpers.fault_cases import (
    GROW,
    HUNT,
    SLOW,
    WIDE,
    Command,
    below,
    end_all,
    finish,
    flip,
    outcome,
    start,
    truncate,
    workers,
)
from helpers.process_cases import short_folder, wait_until

from structnet.errors import UserError
from structnet.storage.snapshot import load_snapshot

pytestmark = [pytest.mark.slow, pytest.mark.faults]

# Of a cluster without its GCS; by default Ray has it last a minute.
GCS_SECONDS = 3
SMALL = {"object_store_memory": 100 * 2**20}


@pytest.fixture(scope="module", params=[GROW, HUNT], ids=["grow", "hunt"])
def command(request: pytest.FixtureRequest) -> Command:
    found: Command = request.param
    return found


@contextmanager
def running(command: Command, folder: Path, short: Path, *more: str, **environment: str) -> Iterator[Any]:
    """The command, from when it is in the middle; whatever it leaves is ended."""
    driver = start(command, folder, short, *more, **environment)
    family: dict[int, str] = {}
    try:
        wait_until(lambda: driver.poll() is not None or command.in_the_middle(folder), "the middle")
        family = below(driver.pid)
        assert driver.poll() is None, driver.communicate()
        yield driver
    finally:
        family |= below(driver.pid)
        driver.kill()
        driver.communicate()
        end_all(family)


@contextmanager
def timed(command: Command, what: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    print(f"{command.name}, {what}: {time.monotonic() - started:.0f} s from the fault to the end")


def resumed(command: Command, folder: Path, short: Path, *more: str) -> str:
    driver = start(command, folder, short, "--resume", *more)
    try:
        return finish(driver)
    finally:
        family = below(driver.pid)
        driver.kill()
        end_all(family)


@contextmanager
def cluster_at(short: Path, *nodes: int, **settings: str) -> Iterator[tuple[Any, list[Any]]]:
    """A cluster of nodes with so many CPUs each, and the nodes; the first is its head. settings: of its environment."""
    from ray.cluster_utils import Cluster

    (short / "ray").mkdir()
    head = {"include_dashboard": False, "temp_dir": str(short / "ray")}
    with pytest.MonkeyPatch.context() as patch:
        # It leaves its address there, where other programs on this machine would find it otherwise.
        for name, value in {"RAY_TMPDIR": str(short), **settings}.items():
            patch.setenv(name, value)
        cluster = Cluster()
        try:
            yield (
                cluster,
                [
                    cluster.add_node(num_cpus=cpus, **({} if n else head), **SMALL)
                    for n, cpus in enumerate(nodes)
                ],
            )
        finally:
            cluster.shutdown()


@pytest.fixture(scope="module")
def at() -> Iterator[tuple[str, str]]:
    """The option that runs a command on a cluster that lives on: to start one takes longer than the command itself."""
    with short_folder() as short, cluster_at(short, 2) as (cluster, _):
        yield "--address", cluster.address


@pytest.fixture(scope="module")
def whole(command: Command, at: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return undisturbed(command, tmp_path_factory.mktemp("whole"), at)


def undisturbed(command: Command, folder: Path, at: tuple[str, str]) -> dict[str, Any]:
    """What a run comes to in which nothing happens."""
    started = time.monotonic()
    finish(start(command, folder, folder, *at))
    print(f"{command.name}, undisturbed: {time.monotonic() - started:.0f} s")
    return outcome(command, folder)


@pytest.fixture(scope="module")
def left(command: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a command leaves whose driver is killed in the middle."""
    folder = tmp_path_factory.mktemp("left")
    with short_folder() as short, running(command, folder, short) as driver:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    assert command.in_the_middle(folder)
    return folder


@pytest.fixture
def cut(left: Path, tmp_path: Path) -> Path:
    """The same in a folder of its own, to be damaged."""
    return Path(shutil.copytree(left, tmp_path / "cut"))


# What dies


def test_a_worker(command: Command, whole: dict[str, Any], at: tuple[str, str], tmp_path: Path) -> None:
    with running(command, tmp_path, tmp_path, *at) as driver:
        victim = wait_until(lambda: workers(os.getpid()), "there are workers")[0]
        os.kill(victim, signal.SIGKILL)
        with timed(command, "worker"):
            finish(driver)
    assert outcome(command, tmp_path) == whole


def without_a_node(command: Command, folder: Path, short: Path) -> str:
    """What it says when it loses one of three nodes: the head does no work, so one of two workers has no room."""
    with (
        cluster_at(short, 0, 1, 1) as (cluster, nodes),
        running(command, folder, short, "--address", cluster.address) as driver,
    ):
        raylet = nodes[2].all_processes["raylet"][0].process.pid
        wait_until(lambda: workers(raylet), "the node works")
        cluster.remove_node(nodes[2], allow_graceful=False)
        assert command.in_the_middle(folder)
        with timed(command, "node"):
            return finish(driver)


def test_a_node(command: Command, whole: dict[str, Any], tmp_path: Path, short: Path) -> None:
    without_a_node(command, tmp_path, short)
    assert outcome(command, tmp_path) == whole


def test_a_node_with_states_on_it(tmp_path: Path, at: tuple[str, str], short: Path) -> None:
    (tmp_path / "cut").mkdir()
    without_a_node(WIDE, tmp_path / "cut", short)
    assert outcome(WIDE, tmp_path / "cut") == undisturbed(WIDE, tmp_path, at)


def test_the_driver(command: Command, whole: dict[str, Any], cut: Path, short: Path) -> None:
    with timed(command, "driver"):
        resumed(command, cut, short)
    assert outcome(command, cut) == whole


def test_the_gcs_for_ever(
    command: Command,
    whole: dict[str, Any],
    at: tuple[str, str],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    short: Path,
) -> None:
    """The cluster is lost with it: the command ends by itself, and goes on on another one."""
    if command is GROW:
        command, whole = SLOW, undisturbed(SLOW, tmp_path_factory.mktemp("slow"), at)
    patience = str(GCS_SECONDS)
    with cluster_at(short, 2, RAY_gcs_rpc_server_reconnect_timeout_s=patience) as (cluster, [head]):
        with running(command, tmp_path, short, "--address", cluster.address) as driver:
            head.kill_gcs_server(check_alive=True)
            with timed(command, f"GCS, until the command has ended, of which it waits {patience} s"):
                said, err = driver.communicate(timeout=GCS_SECONDS + 240)
        assert driver.returncode == 1, said + err
        assert "Traceback" not in said + err and "Failed to connect to GCS" in err
    with timed(command, "GCS, on another cluster"):
        resumed(command, tmp_path, tmp_path, *at)
    assert outcome(command, tmp_path) == whole


def test_the_gcs_for_a_moment(command: Command, whole: dict[str, Any], tmp_path: Path, short: Path) -> None:
    """With its tables on a disk a GCS that is started again finds them, and nothing else notices."""
    storage = {"RAY_gcs_storage": "rocksdb", "RAY_gcs_storage_path": str(short / "gcs")}
    with (
        cluster_at(short, 2, **storage) as (cluster, [head]),
        running(command, tmp_path, short, "--address", cluster.address) as driver,
    ):
        head.kill_gcs_server(check_alive=True)
        with timed(command, "GCS that is started again"):
            head.start_gcs_server()
            finish(driver)
    assert outcome(command, tmp_path) == whole


# What fills up


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, and small."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "structnet-faults", str(place)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk: Path) -> Path:
    """Takes all that is free."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as stream:
        try:
            while True:
                stream.write(bytes(4096))
        except OSError:
            return filler


def test_the_disk(command: Command, whole: dict[str, Any], at: tuple[str, str], disk: Path) -> None:
    with running(command, disk, disk, *at) as driver:
        filler = fill(disk)
        assert command.in_the_middle(disk)
        with timed(command, "disk full, until the command has ended"):
            said, err = driver.communicate(timeout=240)
        assert driver.returncode == 1, said + err
        assert "Traceback" not in said + err, said + err
        assert "--resume" in said.strip().splitlines()[-1]
    filler.unlink()
    with timed(command, "disk free again"):
        resumed(command, disk, disk, *at)
    assert outcome(command, disk) == whole


def test_the_disk_for_a_moment(
    command: Command, whole: dict[str, Any], at: tuple[str, str], disk: Path
) -> None:
    with running(command, disk, disk, *at) as driver:
        filler = fill(disk)
        time.sleep(2)  # which is the fault, and nothing that is waited for
        filler.unlink()
        with timed(command, "disk full for 2 s"):
            finish(driver)
    assert outcome(command, disk) == whole


# What is damaged: everything that was written last, as a machine leaves it that dies while it writes


@pytest.mark.parametrize(("which", "damage"), [(0, truncate), (1, flip)], ids=["truncated", "flipped"])
def test_a_part(
    command: Command,
    which: int,
    damage: Callable[[Path], None],
    whole: dict[str, Any],
    at: tuple[str, str],
    cut: Path,
) -> None:
    """Each of the two tables alone: where one part is whole, nothing else tells that the other is not."""
    table = list(command.tables)[which]
    damage(command.newest_that_is_done(cut, table))
    with timed(command, f"a part of {table}"):
        resumed(command, cut, cut, *at)
    assert outcome(command, cut) == whole


@pytest.mark.parametrize("ending", [".safetensors", ".json"])
def test_a_snapshot(
    command: Command, ending: str, whole: dict[str, Any], at: tuple[str, str], cut: Path
) -> None:
    """The newest that is needed; and for hunt the newest checkpoint of every block that is in training."""
    saved = sorted((cut / "results" / "snapshots" / "first").glob(f"*{ending}"), key=written_at)
    newest = [path for path in saved if path.name in whole["snapshots"]][-1]
    truncate(newest)
    with pytest.raises(UserError):
        load_snapshot(str(newest))
    trials = sorted((cut / "results" / "ray").glob("first/*/checkpoint_*"), key=written_at)
    for checkpoint in {path.parent: path for path in trials}.values():
        for file in checkpoint.glob(f"*{ending}"):
            truncate(file)
    with timed(command, f"snapshot, {ending} truncated"):
        resumed(command, cut, cut, *at)
    assert outcome(command, cut) == whole


def test_what_tune_keeps(command: Command, whole: dict[str, Any], at: tuple[str, str], cut: Path) -> None:
    """Its own state, written in place: a disk that fills up cuts it short."""
    states = sorted((cut / "results" / "ray" / "first").glob("experiment_state-*.json"), key=written_at)
    if command is GROW:
        pytest.skip("grow does not use Tune")
    truncate(states[-1])
    done = [path.stem for path in command.parts_of(cut, command.counts)]
    before = {
        path: path.stat().st_mtime_ns for path in command.parts_of(cut, "epochs") if path.stem[:10] in done
    }
    with timed(command, "Tune's state truncated"):
        resumed(command, cut, cut, *at)
    assert outcome(command, cut) == whole
    assert {path: path.stat().st_mtime_ns for path in before} == before, "what is done is not trained again"


def written_at(path: Path) -> int:
    return path.stat().st_mtime_ns
