"""Of all processes that want a name, one has it, whatever becomes of them."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from structnet.errors import UserError
from structnet.storage import claims, tables
from structnet.storage.claims import NameTaken, claim_name, release_all

ROOT = str(Path(__file__).parents[2])
# Claims a name, says so or why not, and waits until its input ends; it ends as it is told by its input.
CLAIMANT = """
import sys
from structnet.errors import UserError
from structnet.storage.claims import claim_name
try:
    claim = claim_name(*sys.argv[1:3])
    print("has it", flush=True)
except UserError as error:
    print(error, flush=True)
sys.stdin.read()
"""


@contextmanager
def claimant(results: Path, name: str = "run") -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Another process that claims a name, and what it says to that. It ends by itself when this does."""
    with subprocess.Popen(
        [sys.executable, "-c", CLAIMANT, str(results), name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": ROOT},
    ) as process:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()


# On a disk


def test_another_process_is_refused_until_this_one_gives_the_name_up(tmp_path: Path) -> None:
    claim = claim_name(str(tmp_path), "run")
    about = json.loads((tmp_path / "claims" / "run.json").read_text())
    assert about["pid"] == os.getpid()
    with claimant(tmp_path) as (_, said):
        assert said.startswith(
            f"experiment 'run' already exists in '{tmp_path}' and is running in another process"
        )
        assert f"process {os.getpid()} on {about['host']}" in said and "--name" in said
    claim_name(str(tmp_path), "other").release()
    claim.release()
    assert not list(tmp_path.iterdir()), "nothing is left when all have ended"


def test_what_a_killed_process_has_claimed_is_nobodys(tmp_path: Path) -> None:
    with claimant(tmp_path) as (process, said):
        assert said == "has it"
        with pytest.raises(NameTaken, match=f"process {process.pid}"):
            claim_name(str(tmp_path), "run")
        process.send_signal(signal.SIGKILL)
    assert (tmp_path / "claims" / "run.json").exists()
    claim_name(str(tmp_path), "run").release()
    assert not list(tmp_path.iterdir())


def test_a_process_has_what_it_has_as_often_as_it_asks(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "results")
    claim = claim_name(str(tmp_path / "results"), "run")
    assert claim_name(str(tmp_path / "link"), "run") is claim
    with pytest.raises(NameTaken):
        claim_name(str(tmp_path / "results"), "run", again=False)
    claim.release()
    claim.release()
    again = claim_name(str(tmp_path / "results"), "run", again=False)
    assert again is not claim and (tmp_path / "results/claims/run.json").exists()
    release_all()
    assert not (tmp_path / "results/claims").exists()


def test_a_claim_ends_with_what_holds_it(tmp_path: Path) -> None:
    one = claim_name(str(tmp_path), "run")
    other = claim_name(str(tmp_path), "run")
    del one
    assert (tmp_path / "claims/run.json").exists()
    del other
    assert not list(tmp_path.iterdir())


def test_a_copy_of_the_process_gives_nothing_up(tmp_path: Path) -> None:
    claim = claim_name(str(tmp_path), "run")
    # Forked by a process that has no other threads, as those of this one may hold locks.
    code = (
        "import os, sys; from structnet.storage.claims import claim_name, release_all;"
        "claim = claim_name(sys.argv[1], 'of the parent'.replace(' ', '-'));"
        "os.fork() or (release_all(), os._exit(0)); os.wait();"
        "print(os.listdir(sys.argv[1] + '/claims'))"
    )
    environment = {**os.environ, "PYTHONPATH": ROOT}
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment, capture_output=True)
    assert b"'of-the-parent.json'" in done.stdout, done.stderr
    claim.release()


def test_a_file_that_was_removed_before_it_was_locked_is_looked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, locked = tmp_path / "claims" / "run.json", []
    lock = fcntl.flock

    def remove_first(handle: int, how: int) -> None:
        if how & fcntl.LOCK_EX and not locked:
            locked.append(handle)
            file.unlink()
        lock(handle, how)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    claim = claim_name(str(tmp_path), "run")
    assert locked and json.loads(file.read_text())["pid"] == os.getpid()
    claim.release()


def test_a_folder_where_nothing_can_be_claimed_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "claims").write_text("no folder")
    with pytest.raises(UserError, match=r"'run' cannot be claimed there \(File exists\).*--results"):
        claim_name(str(tmp_path), "run")


# In a store


class Store(MemoryFileSystem):
    """Objects in memory, of each test its own. `meanwhile` is called before an object is made, once."""

    cachable = False
    store: dict[str, Any]
    pseudo_dirs: list[str]

    def __init__(self) -> None:
        super().__init__()
        self.store, self.pseudo_dirs = {}, [""]
        self.meanwhile: dict[str, Any] = {}

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **options: Any) -> None:
        self.meanwhile.pop(path, lambda: None)()
        super().pipe_file(path, value, mode=mode, **options)

    def put(self, name: str, **about: Any) -> dict[str, Any]:
        """A claim as another process would have put it."""
        claim = {"token": f"of-{name}", "host": "far", "pid": 1, "since": "now", "machine": "far"} | about
        self.pipe_file(f"/bucket/claims/{name}.json", json.dumps(claim).encode())
        return claim

    def names(self) -> list[str]:
        return sorted(path.removeprefix("/bucket/claims/") for path in self.store)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """What `store://bucket` is."""
    made = Store()
    open_one = tables.open_folder
    monkeypatch.setattr(
        tables,
        "open_folder",
        lambda results: (made, "/bucket") if results == "store://bucket" else open_one(results),
    )
    yield made
    release_all()


def ended() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def of_this_machine(pid: int) -> dict[str, Any]:
    return {"pid": pid, "machine": claims._machine(), "started": claims._started(pid) or "1"}


def test_a_claim_in_a_store_is_an_object_while_it_is_held(store: Store) -> None:
    claim = claim_name("store://bucket", "run")
    assert claim_name("store://bucket", "run") is claim
    assert store.names() == ["run.json"]
    claim.release()
    assert store.names() == []


def test_what_a_living_process_of_this_machine_has_claimed_counts_for_every_resume(store: Store) -> None:
    store.put("run", **of_this_machine(os.getppid()))
    for take_over in (False, True):
        with pytest.raises(NameTaken, match="is running in another process"):
            claim_name("store://bucket", "run", take_over=take_over)
    assert store.names() == ["run.json"]


@pytest.mark.parametrize("take_over", [False, True])
def test_what_a_killed_process_of_this_machine_has_left_is_nobodys(store: Store, take_over: bool) -> None:
    store.put("run", **of_this_machine(ended()))
    claim = claim_name("store://bucket", "run", take_over=take_over)
    assert store.names() == ["run.json", "run.of-run.json"]
    claim.release()
    assert store.names() == []


def test_a_process_that_has_ended_is_gone_though_nobody_has_asked_how(store: Store) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    store.put("run", **of_this_machine(process.pid))
    assert process.stdout is not None and process.stdout.read() == b""
    while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)
    claim_name("store://bucket", "run")
    process.wait()


def test_a_process_of_the_same_number_is_another_one(store: Store) -> None:
    store.put("run", **(of_this_machine(os.getppid()) | {"started": "1"}))
    claim_name("store://bucket", "run")


def test_what_was_claimed_on_another_machine_is_taken_over_by_resume_alone(store: Store) -> None:
    store.put("run")
    with pytest.raises(
        NameTaken, match=r"already exists in 'store://bucket', begun on far, since now.*--resume"
    ):
        claim_name("store://bucket", "run")
    assert store.names() == ["run.json"]
    claim_name("store://bucket", "run", take_over=True)


def test_what_cannot_be_read_is_of_another_machine(store: Store) -> None:
    store.pipe_file("/bucket/claims/run.json", b"{")
    with pytest.raises(NameTaken, match="begun on another machine"):
        claim_name("store://bucket", "run")
    claim_name("store://bucket", "run", take_over=True)


def test_of_two_that_take_over_the_second_is_refused(store: Store) -> None:
    store.put("run", **of_this_machine(ended()))
    # The other one comes between the look at what was left and the put.
    store.meanwhile["/bucket/claims/run.of-run.json"] = lambda: store.put(
        "run.of-run", **of_this_machine(os.getppid())
    )
    with pytest.raises(NameTaken, match=f"process {os.getppid()}"):
        claim_name("store://bucket", "run")
    assert store.names() == ["run.json", "run.of-run.json"]


def test_what_is_taken_over_from_a_row_that_is_gone_does_not_count(store: Store) -> None:
    store.put("run", **of_this_machine(ended()))

    def ends_and_another_begins() -> None:
        store.rm_file("/bucket/claims/run.json")
        store.put("run", token="new", **of_this_machine(os.getppid()))

    store.meanwhile["/bucket/claims/run.of-run.json"] = ends_and_another_begins
    with pytest.raises(NameTaken, match=f"process {os.getppid()}"):
        claim_name("store://bucket", "run")
    assert store.names() == ["run.json"]


def test_who_was_taken_over_removes_nothing(store: Store) -> None:
    claim = claim_name("store://bucket", "run")
    token = json.loads(store.cat_file("/bucket/claims/run.json"))["token"]
    store.put(f"run.{token}")
    claim.release()
    assert store.names() == [f"run.{token}.json", "run.json"]


def test_a_put_whose_answer_was_lost_is_ones_own(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    put = MemoryFileSystem.pipe_file

    def lose_the_answer(self: Store, path: str, value: bytes, **options: Any) -> None:
        put(self, path, value, **options)
        raise OSError(errno.EINVAL, "At least one of the pre-conditions you specified did not hold")

    monkeypatch.setattr(Store, "pipe_file", lose_the_answer)
    claim = claim_name("store://bucket", "run")
    assert store.names() == ["run.json"]
    claim.release()


@pytest.mark.parametrize("method", ["pipe_file", "cat_file"])
def test_a_store_that_refuses_is_one_line(method: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise LookupError("no credentials, says the store\nand more")

    store.put("run")
    monkeypatch.setattr(Store, method, refuse)
    with pytest.raises(UserError) as refused:
        claim_name("store://bucket", "other" if method == "pipe_file" else "run", take_over=True)
    assert "cannot be claimed there (no credentials, says the store): see" in str(refused.value)


def test_a_put_that_fails_once_is_tried_again(store: Store) -> None:
    def fail() -> None:
        raise OSError(errno.EBUSY, "A conflicting conditional operation is in progress")

    store.meanwhile["/bucket/claims/run.json"] = fail
    claim = claim_name("store://bucket", "run")
    assert store.names() == ["run.json"]
    claim.release()


def test_a_disk_without_locks_is_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(handle: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    claim = claim_name(str(tmp_path), "run")
    file = tmp_path / "claims" / "run.json"
    assert json.loads(file.read_text())["pid"] == os.getpid()
    claim.release()
    assert not file.exists()
    file.write_text(json.dumps({"token": "x", "host": "h", "since": "s"} | of_this_machine(os.getppid())))
    with pytest.raises(NameTaken, match="is running in another process"):
        claim_name(str(tmp_path), "run", take_over=True)
