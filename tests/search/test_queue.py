"""The queue: what its store allows, and what may be added."""

from __future__ import annotations

import itertools
import os
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from search.cli import app
from search.commands.queue.processes import identity, is_locked, take_lock
from search.commands.queue.run import added, cells, parse, print_list
from search.commands.queue.store import Entry, Store, open_store
from structnet.errors import UserError
from structnet.storage.tables import TableWriter

# -- the store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path), create=True)


def put(store: Store, name: str = "first", priority: int = 0) -> Entry:
    return store.add(["grow", "--epochs", "4"], lambda number: name, priority, 2.0, 0.0)


def statuses(store: Store) -> dict[int, str]:
    return {entry.id: entry.status for entry in store.entries()}


def test_an_entry_is_kept_as_it_was_given(store: Store) -> None:
    entry = store.add(["study", "a b", "--x=ü"], lambda number: f"name-{number}", 3, 1.5, 0.5)
    assert (entry.id, entry.name, entry.priority, entry.cpus, entry.gpus) == (1, "name-1", 3, 1.5, 0.5)
    assert entry.arguments == ("study", "a b", "--x=ü")
    assert entry.folder == str(Path.cwd())
    assert (entry.status, entry.attempts, entry.started_at, entry.exit_code) == ("waiting", 0, None, None)
    assert open_store(str(store.file.parent)).entries() == [entry]


def test_the_most_important_entries_are_listed_first(store: Store) -> None:
    for name, priority in (("a", 0), ("b", 5), ("c", 5), ("d", -1)):
        put(store, name, priority)
    assert [entry.name for entry in store.entries()] == ["b", "c", "a", "d"]


def test_an_entry_runs_and_ends(store: Store) -> None:
    put(store)
    begun = store.start(1, (0, 2))
    assert begun is not None
    assert (begun.status, begun.attempts, begun.devices) == ("running", 1, (0, 2))
    assert store.start(1, ()) is None  # it does not wait
    store.launched(1, 4711, "then")
    failed = store.ended(1, 3, "out of luck")
    assert (failed.status, failed.exit_code, failed.error, failed.pid) == ("failed", 3, "out of luck", None)
    assert failed.devices == ()
    assert store.ask(1, "retry").status == "waiting"
    again = store.start(1, ())
    assert again is not None
    assert (again.attempts, again.exit_code, again.error, again.ended_at) == (2, None, None, None)
    assert store.ended(1, 0, None).status == "finished"


@pytest.mark.parametrize(
    ("verb", "code", "status"),
    [
        ("cancel", 130, "cancelled"),
        ("pause", 130, "paused"),
        ("cancel", 0, "finished"),
        ("pause", -9, "paused"),
    ],
)
def test_what_is_asked_of_a_running_entry_comes_true_when_it_has_ended(
    store: Store, verb: str, code: int, status: str
) -> None:
    put(store)
    store.start(1, ())
    asked = store.ask(1, verb)
    assert asked.status == "running"
    assert store.ended(1, code, "stopped").status == status
    (entry,) = store.entries()
    assert (entry.wanted, entry.error) == (None, None)


def test_a_wish_may_be_taken_back_before_it_has_come_true(store: Store) -> None:
    put(store)
    store.start(1, ())
    store.ask(1, "pause")
    assert store.ask(1, "resume").wanted == "waiting"
    assert store.ended(1, 130, None).status == "waiting"


ALLOWED = {
    "cancel": {"waiting": "cancelled", "paused": "cancelled", "running": "running"},
    "pause": {"waiting": "paused", "running": "running"},
    "resume": {"paused": "waiting"},
    "retry": {"failed": "waiting", "cancelled": "waiting"},
}
STATES = ("waiting", "running", "paused", "cancelled", "finished", "failed")


@pytest.mark.parametrize(("verb", "state"), list(itertools.product(ALLOWED, STATES)))
def test_what_a_state_allows(store: Store, verb: str, state: str) -> None:
    put(store)
    with closing(sqlite3.connect(store.file)) as db, db:
        db.execute("UPDATE entries SET status = ?", (state,))
    if state in ALLOWED[verb]:
        store.ask(1, verb)
        assert statuses(store) == {1: ALLOWED[verb][state]}
    else:
        with pytest.raises(UserError, match=f"entry 1 is {state}, but must be .* to {verb}"):
            store.ask(1, verb)
        assert statuses(store) == {1: state}


def test_nothing_starts_in_a_paused_queue(store: Store) -> None:
    put(store)
    store.pause_all(True)
    assert store.paused
    assert store.start(1, ()) is None
    store.pause_all(False)
    assert store.start(1, ()) is not None


def test_two_entries_are_not_for_one_experiment(store: Store) -> None:
    put(store)
    with pytest.raises(UserError, match="entry 1 of the queue has that name"):
        put(store)
    store.ask(1, "cancel")
    assert put(store).id == 2
    with pytest.raises(UserError, match="entry 2 of the queue has that name"):
        store.ask(1, "retry")


def test_entries_added_at_once_are_all_there_and_have_numbers_of_their_own(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        entries = list(
            pool.map(lambda _: store.add(["grow"], lambda number: f"n{number}", 0, 1, 0), range(40))
        )
    assert sorted(entry.id for entry in entries) == list(range(1, 41))
    assert sorted(entry.name for entry in store.entries()) == sorted(f"n{entry.id}" for entry in entries)


def test_of_many_that_start_an_entry_one_does(store: Store) -> None:
    put(store)
    with ThreadPoolExecutor(8) as pool:
        begun = list(pool.map(lambda _: store.start(1, ()), range(16)))
    assert sum(entry is not None for entry in begun) == 1
    assert store.entries()[0].attempts == 1


def test_a_change_that_fails_changes_nothing(store: Store) -> None:
    put(store)

    def bad_name(number: int) -> str:
        raise UserError("no")

    with pytest.raises(UserError):
        store.add(["grow"], bad_name, 0, 1, 0)
    assert put(store, "second").id == 2


@pytest.mark.parametrize("content", [b"no database" * 100, b"SQLite format 3\0" + b"\xff" * 500])
def test_a_damaged_queue_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "queue.sqlite").write_bytes(content)
    for create in (False, True):
        with pytest.raises(UserError, match=r"queue\.sqlite cannot be used as a queue"):
            open_store(str(tmp_path), create=create).entries()


def test_a_database_of_somebody_else_is_refused_and_kept(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "queue.sqlite")) as db, db:
        db.execute("CREATE TABLE theirs (x)")
    before = (tmp_path / "queue.sqlite").read_bytes()
    with pytest.raises(UserError, match=r"queue\.sqlite is no queue"):
        put(open_store(str(tmp_path), create=True))
    assert (tmp_path / "queue.sqlite").read_bytes() == before


def test_a_queue_lies_in_a_folder(tmp_path: Path) -> None:
    for url in ("s3://bucket/results", "memory://results"):
        with pytest.raises(UserError, match="must lie on this machine"):
            open_store(url, create=True)
    with pytest.raises(UserError, match="there is no queue"):
        open_store(str(tmp_path / "nothing"))
    assert not (tmp_path / "nothing").exists()


# -- what may be added


def test_a_command_needs_the_cpus_and_gpus_of_its_workers(tmp_path: Path) -> None:
    (tmp_path / "of.yaml").write_text("workers: 3\ncpus-per-worker: 2\nname: from-file\n")
    config = ["--config", str(tmp_path / "of.yaml")]
    results = str(tmp_path / "results")
    needs = [
        (["grow"], 2, 0),
        (["hunt", "--workers", "4"], 4, 0),
        (["ladder", "--workers", "4", "--cpus-per-worker", "0.5", "--gpus-per-worker", "0.25"], 2, 1),
        (["grow", *config], 6, 0),
        (["grow", *config, "--workers", "1", "--name", "other"], 2, 0),
    ]
    for arguments, cpus, gpus in needs:
        entry = added(arguments, results)
        assert (entry.cpus, entry.gpus) == (cpus, gpus), arguments
        assert list(entry.arguments) == arguments
    assert [entry.name for entry in open_store(results).entries()][3:] == ["from-file", "other"]
    entry = added(["grow", "--workers", "4"], results, priority=-3, cpus=0, gpus=0.5)
    assert (entry.cpus, entry.gpus, entry.priority) == (0, 0.5, -3)


def test_names_are_made_where_none_is_given(tmp_path: Path) -> None:
    names = [
        added([*words], str(tmp_path)).name
        for words in (["grow"], ["grow"], ["hunt", "--dataset", "a/b.csv"])
    ]
    assert len(set(names)) == 3
    assert names[0].startswith("grow-digits-")
    assert names[0].endswith("-1")
    assert names[2].startswith("hunt-a-b-csv-")


BAD = [
    ([], "the command is ''"),
    (["teleport"], "the command is 'teleport'"),
    (["query", "select 1"], "the command is 'query'"),
    (["validate"], "the command is 'validate'"),  # begins again, whatever --resume says
    (["queue", "run"], "the command is 'queue'"),
    (["grow", "--teleport"], "--teleport"),
    (["grow", "--epochs", "many"], "--epochs"),
    (["grow", "stray"], "stray"),
    (["study"], "Missing argument"),
    (["study", "nonsense"], "nonsense"),
    (["grow", "--workers", "0"], "workers is 0"),
    (["grow", "--name", "../outside"], "../outside"),
    (["grow", "--results", "elsewhere"], "elsewhere"),
    (["grow", "--config", "missing.yaml"], "missing.yaml"),
    (["grow", "--name", "there"], "'there' already exists"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[" ".join(arguments) for arguments, _ in BAD])
def test_what_cannot_run_is_refused_in_one_line_before_it_is_stored(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    results = str(tmp_path / "results")
    TableWriter(results, "there").write("experiments", "run", [{"trial": "", "status": "finished"}])
    with pytest.raises(UserError) as refusal:
        added(arguments, results)
    assert message in str(refusal.value)
    assert len(str(refusal.value).splitlines()) == 1
    assert not (tmp_path / "results" / "queue.sqlite").exists()


def test_an_experiment_that_exists_may_be_resumed(tmp_path: Path) -> None:
    TableWriter(str(tmp_path), "there").write("experiments", "run", [{"trial": "", "status": "interrupted"}])
    assert added(["grow", "--name", "there", "--resume"], str(tmp_path)).name == "there"


@pytest.mark.parametrize("cpus", [-1.0, float("nan"), float("inf")])
def test_needs_are_numbers(tmp_path: Path, cpus: float) -> None:
    with pytest.raises(UserError, match="cpus is"):
        added(["grow"], str(tmp_path), cpus=cpus)


def test_parsing_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    about, options = parse(["sweep", "--vary", "epochs=1,2", "--rng-seed", "7", "--dataset", "mnist"])
    assert (about, options.rng_seed, options.workers) == ("mnist", 7, 2)
    assert list(tmp_path.iterdir()) == []


# -- the command line


def structnet(*words: str) -> str:
    done = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_the_line_after_the_dashes_belongs_to_the_entry(tmp_path: Path) -> None:
    place = ["--results", str(tmp_path)]
    said = structnet("queue", "add", *place, "--priority", "5", "--cpus", "3", "--", "grow", "--epochs", "4")
    assert "Entry 1: grow as grow-digits-" in said
    assert "needs 3 CPUs" in said
    structnet("queue", "add", *place, "hunt", "--epochs", "5")
    first, second = open_store(str(tmp_path)).entries()
    assert (first.priority, first.arguments) == (5, ("grow", "--epochs", "4"))
    assert second.arguments == ("hunt", "--epochs", "5")


def test_entries_change_by_command(tmp_path: Path) -> None:
    place = ["--results", str(tmp_path)]
    structnet("queue", "add", *place, "grow")
    for words, status, paused in (
        (["pause", "1"], "paused", False),
        (["resume", "1"], "waiting", False),
        (["cancel", "1"], "cancelled", False),
        (["retry", "1"], "waiting", False),
        (["pause"], "waiting", True),
        (["resume"], "waiting", False),
    ):
        structnet("queue", *words, *place)
        store = open_store(str(tmp_path))
        assert (store.entries()[0].status, store.paused) == (status, paused), words
    with pytest.raises(UserError, match="there is no entry 7"):
        structnet("queue", "cancel", "7", *place)


def test_the_list_tells_all_of_an_entry(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    put(store, "first-of-all", 7)
    assert cells(store.entries()[0])[:7] == ["1", "7", "waiting", "grow", "first-of-all", "2", "0"]
    store.start(1, ())
    store.ask(1, "cancel")
    assert cells(store.entries()[0])[2] == "to be cancelled"
    store.ask(1, "retry")
    assert cells(store.entries()[0])[2] == "stopping"
    put(store, "second", 3)
    store.start(2, ())
    reason = "it went wrong in a line that is longer than a column of the table has room for [bold]"
    store.ended(2, 1, reason)
    store.pause_all(True)
    print_list(str(store.file.parent))
    said = capsys.readouterr().out
    assert "first-of-all" in said
    assert f"2 grow second failed: {reason}" in said
    assert "paused" in said
    assert max(len(line) for line in said.splitlines()) <= 140


def test_numbers_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    for words in (["--parallel", "0"], ["--cpus", "-1"], ["--cpus", "nan"], ["--gpus", "-1"]):
        with pytest.raises(UserError, match=f"{words[0][2:]} is"):
            structnet("queue", "run", "--results", str(tmp_path), *words)


# -- locks and processes


def test_a_lock_is_held_until_the_last_copy_is_closed(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "lock"
    mine = take_lock(file)
    assert mine is not None
    assert take_lock(file) is None
    child = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, pass_fds=[mine]
    )
    os.close(mine)
    assert is_locked(file)
    child.kill()
    child.communicate()
    assert not is_locked(file)


def test_a_folder_that_cannot_be_locked_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be locked"):
        take_lock(tmp_path / "file" / "lock")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc")
def test_a_process_is_told_from_others() -> None:
    mine = identity(os.getpid())
    assert mine is not None
    assert identity(os.getpid()) == mine
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert identity(child.pid) not in (None, mine)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody has asked how
    assert identity(child.pid) is None
    child.communicate()
    assert identity(child.pid) is None
