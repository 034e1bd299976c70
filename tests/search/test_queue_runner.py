"""Running the queue: real processes, killed at every stage, and nothing runs twice or is lost."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from helpers.command_cases import GROWN, timeless
from helpers.process_cases import PATIENCE_SECONDS, process, wait_until

from search.commands.queue.processes import identity, is_locked
from search.commands.queue.runner import Machine, Runner
from search.commands.queue.store import Entry, Store, open_store
from structnet.errors import UserError

# Stands for a command: notes each start and its arguments, and does what the last of these says. Two of one name at
# the same time are noted as doubled.
COMMAND = """
import json, os, signal, sys, time
from pathlib import Path
words = sys.argv[1:]
name, results, what = words[2], Path(words[4]), words[-1]
def note(kind, **more):
    with (results / f"{name}.{kind}").open("a") as file:
        file.write(json.dumps({"words": words, "pid": os.getpid(), **more}) + "\\n")
try:
    (results / f"{name}.busy").open("x").close()
except FileExistsError:
    note("doubled")
try:
    devices, leads = os.environ.get("CUDA_VISIBLE_DEVICES"), os.getsid(0) == os.getpid()
    note("starts", folder=os.getcwd(), devices=devices, leads=leads)
    if what == "hold" or what.startswith("meet"):
        awaited = results / (f"{name}.go" if what == "hold" else f"{what[5:]}.starts")
        while not awaited.exists():
            time.sleep(0.02)
    elif what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif what != "0":
        print("before\\nstructnet: out of luck", flush=True)
        sys.exit(int(what))
except KeyboardInterrupt:
    sys.exit(130)
finally:
    (results / f"{name}.busy").unlink()
"""
PROGRAM = (sys.executable, "-c", COMMAND)
# As in the background of a shell, where Ctrl-C is ignored unless it is asked for.
RUNNER = """
import signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
from search.commands.queue.runner import Machine, Runner
whole = Runner(sys.argv[1], Machine(9, 2, 9), watch=sys.argv[2] == "watch", program=sys.argv[3:]).run()
sys.exit(0 if whole else 130)
"""


class Place:
    """A results folder with a queue, and the runners that were started on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store: Store = open_store(str(folder), create=True)
        self.runners: list[subprocess.Popen[str]] = []

    def add(self, name: str, what: str, priority: int = 0, cpus: float = 1, gpus: float = 0) -> Entry:
        return self.store.add(["grow", what], lambda number: name, priority, cpus, gpus)

    def run(self, cpus: float = 9, gpus: int = 2, parallel: int = 9) -> Runner:
        """Runs the queue in this process to its end."""
        runner = Runner(str(self.folder), Machine(cpus, gpus, parallel), program=PROGRAM)
        assert runner.run()
        return runner

    def runner(self, watch: bool = False) -> subprocess.Popen[str]:
        """Runs the queue in a process of its own."""
        words = [sys.executable, "-c", RUNNER, str(self.folder), "watch" if watch else "", *PROGRAM]
        started = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.runners.append(started)
        return started

    def notes(self, name: str, kind: str = "starts") -> list[dict[str, Any]]:
        file = self.folder / f"{name}.{kind}"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def entry(self, number: int = 1) -> Entry:
        return next(entry for entry in self.store.entries() if entry.id == number)

    def started(self, name: str, times: int = 1) -> dict[str, Any]:
        """Waits for the start of this number; what it noted."""
        return wait_until(lambda: self.notes(name)[times - 1 : times], f"{name} has started {times} times")[0]

    def status(self, number: int, status: str) -> None:
        wait_until(lambda: self.entry(number).status == status, f"entry {number} is {status}")

    def go(self, name: str) -> None:
        (self.folder / f"{name}.go").touch()

    def close(self) -> None:
        for runner in self.runners:
            runner.kill()
            runner.wait()
        for file in self.folder.glob("*.starts"):
            self.go(file.stem)
        for lock in (self.folder / "queue").glob("*.lock"):
            wait_until(lambda lock=lock: not is_locked(lock), "all processes have ended")
        assert list(self.folder.glob("*.doubled")) == []


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.close()


def test_entries_end_as_their_processes_do(place: Place) -> None:
    for name, what in (("well", "0"), ("badly", "3"), ("killed", "die")):
        place.add(name, what)
    runner = place.run()
    assert [(entry.status, entry.exit_code, entry.error) for entry in place.store.entries()] == [
        ("finished", 0, None),
        ("failed", 3, "out of luck"),
        ("failed", -9, "killed by signal 9 (Killed)"),
    ]
    assert runner.ends == {"finished": 1, "failed": 2}
    assert "out of luck" in (place.folder / "queue" / "2.log").read_text()
    (place.folder / "killed.busy").unlink()


def test_the_most_important_goes_first_and_gets_its_name_and_the_results(place: Place) -> None:
    for name, priority in (("low", -1), ("high", 9), ("middle", 0)):
        place.add(name, "0", priority)
    place.run(parallel=1)
    ends = {name: place.notes(name)[0] for name in ("high", "middle", "low")}
    assert [entry.started_at for entry in place.store.entries()] == sorted(
        entry.started_at for entry in place.store.entries() if entry.started_at
    )
    assert ends["high"]["words"] == ["grow", "--name", "high", "--results", str(place.folder), "0"]
    assert ends["high"]["folder"] == str(Path.cwd())
    assert ends["high"]["leads"]  # its own session: Ctrl-C in a terminal reaches the runner alone


def test_what_fits_runs_side_by_side_on_devices_of_its_own(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    place.add("one", "meet two", gpus=1)
    place.add("two", "meet one", gpus=0.5)
    place.run(cpus=2)
    assert {place.notes(name)[0]["devices"] for name in ("one", "two")} == {"4", "7"}
    assert place.entry().devices == ()


def test_what_never_fits_is_left_waiting(place: Place) -> None:
    place.add("big", "0", priority=9, cpus=4)
    place.add("small", "0")
    runner = place.run(cpus=2)
    assert [entry.status for entry in place.store.entries()] == ["waiting", "finished"]
    assert [entry.name for entry in runner.unfit()] == ["big"]


def test_a_folder_that_is_gone_fails_one_entry_only(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    place.add("lost", "0", priority=9)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gone").rmdir()
    place.add("found", "0")
    place.run()
    lost, found = place.store.entries()
    assert (lost.status, found.status) == ("failed", "finished")
    assert "gone" in (lost.error or "")


def test_what_failed_is_resumed_when_it_is_retried(place: Place) -> None:
    place.add("badly", "3")
    place.run()
    place.store.ask(1, "retry")
    place.run()
    assert ["--resume" in note["words"] for note in place.notes("badly")] == [False, True]
    assert place.entry().attempts == 2


def test_a_second_runner_is_refused_in_one_line(place: Place) -> None:
    first = place.runner(watch=True)
    lock = place.folder / "queue" / "runner.lock"
    wait_until(lambda: lock.exists() and lock.read_text(), "the runner has begun")
    with pytest.raises(UserError, match=f"has a runner already .process {first.pid}.") as refusal:
        place.run()
    assert len(str(refusal.value).splitlines()) == 1


def test_a_watching_runner_runs_what_is_added_later_and_stops_what_is_cancelled(place: Place) -> None:
    runner = place.runner(watch=True)
    place.add("later", "hold")
    place.add("held back", "hold")
    place.started("later")
    place.started("held back")
    place.store.ask(1, "cancel")
    place.store.ask(2, "pause")
    place.status(1, "cancelled")
    place.status(2, "paused")
    place.go("held back")
    place.store.ask(2, "resume")
    place.status(2, "finished")
    assert [note["words"][5:-1] for note in place.notes("held back")] == [[], ["--resume"]]
    runner.send_signal(signal.SIGTERM)
    out, _ = runner.communicate(timeout=PATIENCE_SECONDS)
    assert runner.returncode == 130, out


def test_ctrl_c_stops_what_runs_and_the_next_run_resumes_it(place: Place) -> None:
    place.add("long", "hold")
    place.add("late", "hold", priority=-1, cpus=9)
    runner = place.runner()
    place.started("long")
    runner.send_signal(signal.SIGINT)
    out, _ = runner.communicate(timeout=PATIENCE_SECONDS)
    assert runner.returncode == 130, out
    assert "Traceback" not in out
    assert [(entry.status, entry.attempts, entry.exit_code) for entry in place.store.entries()] == [
        ("waiting", 1, 130),
        ("waiting", 0, None),
    ]
    place.go("long")
    place.go("late")
    place.run()
    assert ["--resume" in note["words"] for note in place.notes("long")] == [False, True]
    assert {entry.status for entry in place.store.entries()} == {"finished"}


def orphaned(place: Place, name: str = "long") -> Entry:
    """An entry whose runner was killed while it ran on."""
    place.add(name, "hold")
    runner = place.runner()
    place.started(name)
    wait_until(lambda: place.entry().pid, "its process is noted")
    runner.kill()
    runner.communicate()
    return place.entry()


def alive(entry: Entry) -> bool:
    assert entry.pid is not None
    return identity(entry.pid) == entry.process is not None


@pytest.mark.parametrize("lost", ["nothing", "lock", pytest.param("pid", marks=pytest.mark.slow)])
def test_what_outlives_its_runner_is_waited_for_and_not_started_again(place: Place, lost: str) -> None:
    entry = orphaned(place)
    assert entry.status == "running"
    assert alive(entry)
    if lost == "lock":
        (place.folder / "queue" / "1.lock").unlink()
    if lost == "pid":  # as if the runner had been killed before it could note it
        with closing(sqlite3.connect(place.store.file)) as db, db:
            db.execute("UPDATE entries SET pid = NULL, process = NULL")
    runner = place.runner()
    assert runner.stdout is not None
    assert "still runs" in runner.stdout.readline()
    time.sleep(1)  # several looks
    assert len(place.notes("long")) == 1
    place.go("long")
    out, _ = runner.communicate(timeout=PATIENCE_SECONDS)
    assert runner.returncode == 0, out
    assert ["--resume" in note["words"] for note in place.notes("long")] == [False, True]
    assert (place.entry().status, place.entry().attempts) == ("finished", 2)


def test_what_was_killed_with_its_runner_is_resumed(place: Place) -> None:
    entry = orphaned(place)
    assert entry.pid is not None
    os.kill(entry.pid, signal.SIGKILL)
    (place.folder / "long.busy").unlink()
    place.go("long")
    place.run()
    assert ["--resume" in note["words"] for note in place.notes("long")] == [False, True]
    assert place.entry().status == "finished"


def test_what_outlives_its_runner_can_be_cancelled(place: Place) -> None:
    entry = orphaned(place)
    assert place.store.ask(1, "cancel").status == "running"
    place.run()
    assert place.entry().status == "cancelled"
    assert not alive(entry)


def test_ctrl_c_stops_what_another_runner_has_started(place: Place) -> None:
    entry = orphaned(place)
    runner = place.runner()
    assert runner.stdout is not None
    assert "still runs" in runner.stdout.readline()
    runner.send_signal(signal.SIGINT)
    out, _ = runner.communicate(timeout=PATIENCE_SECONDS)
    assert runner.returncode == 130, out
    assert place.entry().status == "waiting"
    assert not alive(entry)


def test_a_runner_killed_before_its_process_began_loses_nothing(place: Place) -> None:
    place.add("short", "0")
    place.store.start(1, ())
    place.run()
    assert ["--resume" in note["words"] for note in place.notes("short")] == [True]
    assert place.entry().status == "finished"


# -- networks that grow


def ended(started: subprocess.Popen[str], code: int = 0) -> str:
    out, err = started.communicate(timeout=PATIENCE_SECONDS)
    assert started.returncode == code, out + err
    assert "Traceback" not in err
    return out


@pytest.mark.slow
@pytest.mark.parametrize("with_it", [True, False], ids=["and its command", "alone"])
def test_a_queue_whose_runner_is_killed_ends_with_the_tables_of_an_undisturbed_run(
    grown: tuple[Path, str], tmp_path: Path, with_it: bool
) -> None:
    ended(process("queue", "add", "--", "grow", *GROWN, "--name", "first", cwd=tmp_path))
    results = tmp_path / "results"
    runner = process("queue", "run", cwd=tmp_path)
    try:
        rounds = results / "tables" / "rounds" / "experiment=first"
        wait_until(
            lambda: list(rounds.glob("*.parquet")) or runner.poll() is not None, "it has begun to grow"
        )
        assert runner.poll() is None, (results / "queue" / "1.log").read_text()
    finally:
        runner.kill()
        runner.communicate()
    (entry,) = open_store(str(results)).entries()
    assert alive(entry)
    if with_it:
        os.kill(entry.pid or 0, signal.SIGKILL)

    said = ended(process("queue", "run", cwd=tmp_path))
    (entry,) = open_store(str(results)).entries()
    assert (entry.status, entry.attempts) == ("finished", 2), said
    assert ("still runs" in said) != with_it
    assert len(timeless(results, "experiments")) == 1
    for table in ("rounds", "candidates"):
        assert timeless(results, table) == timeless(grown[0] / "results", table) != []
