"""The queue's memory: one SQLite file in the results folder, RESULTS/queue.sqlite.

Every change of state is one transaction that begins with BEGIN IMMEDIATE: what it reads cannot change before it
writes, so of two commands at once the second sees what the first has done. The journal is SQLite's default one,
rolled back after a crash: writes are few and tiny, so the write-ahead log would bring nothing, and it would need
memory shared between all readers and leave what was written last in a second file that a copy may miss.

    waiting -> running -> finished | failed
    waiting | running -> paused | cancelled, and back to waiting

A running entry is stopped by whoever runs the queue: until it has ended, `wanted` says what it becomes then.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from search.commands.queue.schedule import Demand
from structnet.errors import UserError
from structnet.storage.tables import open_folder

FORMAT = 1
BUSY_SECONDS = 60.0

_SCHEMA = """
CREATE TABLE entries (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    priority INTEGER NOT NULL,
    status TEXT NOT NULL
        CHECK (status IN ('waiting', 'running', 'paused', 'cancelled', 'finished', 'failed')),
    wanted TEXT CHECK (wanted IN ('waiting', 'paused', 'cancelled')),
    name TEXT NOT NULL,
    arguments TEXT NOT NULL,
    folder TEXT NOT NULL,
    cpus REAL NOT NULL,
    gpus REAL NOT NULL,
    devices TEXT NOT NULL DEFAULT '[]',
    attempts INTEGER NOT NULL DEFAULT 0,
    pid INTEGER,
    process TEXT,
    added_at TEXT NOT NULL,
    started_at TEXT,
    ended_at TEXT,
    exit_code INTEGER,
    error TEXT
);
CREATE TABLE queue (paused INTEGER NOT NULL);
INSERT INTO queue VALUES (0);
"""

# verb -> the states it is for, and what comes of them
_VERBS = {
    "cancel": (("waiting", "running", "paused"), "cancelled"),
    "pause": (("waiting", "running"), "paused"),
    "resume": (("paused",), "waiting"),
    "retry": (("failed", "cancelled"), "waiting"),
}


@dataclass(frozen=True)
class Entry:
    """A command that waits for its turn, runs or has run.

    arguments: the command and its options as they were given; folder: where they were given, which is where the
    command runs. pid, process: its process, and what tells that from a later one of the same number.
    Times are in UTC.
    """

    id: int
    priority: int
    status: str
    wanted: str | None
    name: str
    arguments: tuple[str, ...]
    folder: str
    cpus: float
    gpus: float
    devices: tuple[int, ...]
    attempts: int
    pid: int | None
    process: str | None
    added_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    exit_code: int | None
    error: str | None

    @property
    def command(self) -> str:
        """The first of its words, such as grow."""
        return self.arguments[0]

    @property
    def demand(self) -> Demand:
        """What it needs to start, and how urgent it is."""
        return Demand(self.id, self.priority, self.cpus, self.gpus, self.devices)


def folder_of(results: str) -> Path:
    """The results folder as a path; UserError for a URL, where SQLite cannot lock anything."""
    from fsspec.utils import get_protocol

    if get_protocol(results) not in ("file", "local"):
        raise UserError(
            f"results is {results!r}, but a queue must lie on this machine: give a folder, such as results"
        )
    return Path(open_folder(results)[1])


def open_store(results: str, *, create: bool = False) -> Store:
    """The queue of a results folder; UserError if there is none and it is not to be made, or for a URL."""
    folder = folder_of(results)
    file = folder / "queue.sqlite"
    if create:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"results is {results!r}, but that folder cannot be made ({error.strerror}): choose another"
            ) from error
    elif not file.exists():
        raise UserError(f"there is no queue in {results!r}: `structnet queue add` starts one")
    store = Store(file)
    if create:
        store.create()
    return store


class Store:
    """The entries of one queue. Every method is one transaction, and raises UserError if the file is no queue."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def create(self) -> None:
        """Makes the file, unless it is there."""
        with self._connected("BEGIN IMMEDIATE") as db:
            (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if tables == 0:
                for statement in _SCHEMA.split(";"):  # executescript would commit first
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {FORMAT}")

    def add(
        self, arguments: list[str], name: Callable[[int], str], priority: int, cpus: float, gpus: float
    ) -> Entry:
        """A new entry that waits, for the folder of this process.

        name: of the experiment, from the number of the entry. UserError if another entry is to write it.
        """
        with self._change() as db:
            (last,) = db.execute("SELECT coalesce(max(seq), 0) FROM sqlite_sequence").fetchone()
            called = name(last + 1)
            _check_alone(db, called)
            number = db.execute(
                "INSERT INTO entries (priority, status, name, arguments, folder, cpus, gpus, added_at)"
                " VALUES (?, 'waiting', ?, ?, ?, ?, ?, ?)",
                (priority, called, json.dumps(arguments), str(Path.cwd()), cpus, gpus, _now()),
            ).lastrowid
            assert number is not None
            return _entry(db, number)

    def entries(self, *statuses: str) -> list[Entry]:
        """Those of these statuses, or all of them, the most important first."""
        among = f"WHERE status IN ({', '.join('?' * len(statuses))})" if statuses else ""
        with self._read() as db:
            rows = db.execute(f"SELECT * FROM entries {among} ORDER BY priority DESC, id", statuses)
            return [_from_row(row) for row in rows]

    @property
    def paused(self) -> bool:
        """Whether nothing new may start."""
        with self._read() as db:
            return bool(_paused(db))

    def pause_all(self, paused: bool) -> None:
        """Nothing new starts, or may start again; what runs goes on."""
        with self._change() as db:
            db.execute("UPDATE queue SET paused = ?", (int(paused),))

    def ask(self, number: int, verb: str) -> Entry:
        """Cancels, pauses, resumes or retries an entry: at once, or once it has been stopped if it runs.

        Raises UserError if there is no such entry, or its state allows no such thing.
        """
        states, becomes = _VERBS[verb]
        with self._change() as db:
            entry = _entry(db, number)
            if (entry.wanted or entry.status) not in states:
                raise UserError(
                    f"entry {number} is {entry.wanted or entry.status}, but must be {' or '.join(states)} to {verb}: "
                    "`structnet queue list` shows all"
                )
            if verb == "retry":
                _check_alone(db, entry.name, besides=number)
            column = "wanted" if entry.status == "running" else "status"
            db.execute(f"UPDATE entries SET {column} = ? WHERE id = ?", (becomes, number))
            return _entry(db, number)

    def start(self, number: int, devices: tuple[int, ...]) -> Entry | None:
        """Marks an entry as running, before it does; None if it no longer waits, or the queue was paused."""
        with self._change() as db:
            entry = _entry(db, number)
            if entry.status != "waiting" or _paused(db):
                return None
            db.execute(
                "UPDATE entries SET status = 'running', attempts = attempts + 1, devices = ?, started_at = ?,"
                " ended_at = NULL, exit_code = NULL, error = NULL, pid = NULL, process = NULL WHERE id = ?",
                (json.dumps(devices), _now(), number),
            )
            return _entry(db, number)

    def launched(self, number: int, pid: int, process: str | None) -> None:
        """Notes the process of a running entry."""
        with self._change() as db:
            db.execute("UPDATE entries SET pid = ?, process = ? WHERE id = ?", (pid, process, number))

    def ended(
        self, number: int, exit_code: int | None, error: str | None, otherwise: str = "failed"
    ) -> Entry:
        """Notes how a running entry has ended: finished with exit code 0, else as was wanted, else `otherwise`."""
        with self._change() as db:
            entry = _entry(db, number)
            status = "finished" if exit_code == 0 else entry.wanted or otherwise
            db.execute(
                "UPDATE entries SET status = ?, wanted = NULL, devices = '[]', pid = NULL, process = NULL,"
                " ended_at = ?, exit_code = ?, error = ? WHERE id = ? AND status = 'running'",
                (status, _now(), exit_code, error if status == "failed" else None, number),
            )
            return _entry(db, number)

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        with self._connected("BEGIN IMMEDIATE") as db:
            _check_format(db, self.file)
            yield db

    @contextmanager
    def _read(self) -> Iterator[sqlite3.Connection]:
        with self._connected("BEGIN") as db:
            _check_format(db, self.file)
            yield db

    @contextmanager
    def _connected(self, begin: str) -> Iterator[sqlite3.Connection]:
        try:
            connection = sqlite3.connect(self.file, timeout=BUSY_SECONDS, isolation_level=None)
            with closing(connection), connection:
                connection.row_factory = sqlite3.Row
                connection.execute(begin)
                yield connection
        except sqlite3.Error as error:
            raise UserError(
                f"{self.file} cannot be used as a queue ({error}): free space, or move it away and add anew"
            ) from error


def _check_format(db: sqlite3.Connection, file: Path) -> None:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version != FORMAT:
        raise UserError(f"{file} is no queue of this version of structnet: move it away and add anew")


def _check_alone(db: sqlite3.Connection, name: str, besides: int = 0) -> None:
    """UserError if another entry, that has not come to nothing, is for the experiment of this name."""
    twin = db.execute(
        "SELECT id FROM entries WHERE name = ? AND id <> ? AND status NOT IN ('failed', 'cancelled')",
        (name, besides),
    ).fetchone()
    if twin:
        raise UserError(
            f"name is '{name}', but entry {twin['id']} of the queue has that name: choose another --name, or "
            "cancel that one"
        )


def _paused(db: sqlite3.Connection) -> int:
    (paused,) = db.execute("SELECT paused FROM queue").fetchone()
    return int(paused)


def _entry(db: sqlite3.Connection, number: int) -> Entry:
    row = db.execute("SELECT * FROM entries WHERE id = ?", (number,)).fetchone()
    if row is None:
        raise UserError(f"there is no entry {number} in the queue: `structnet queue list` shows all")
    return _from_row(row)


def _from_row(row: sqlite3.Row) -> Entry:
    columns = {field.name: row[field.name] for field in fields(Entry)}
    for name in ("arguments", "devices"):
        columns[name] = tuple(json.loads(columns[name]))
    for name in ("added_at", "started_at", "ended_at"):
        columns[name] = datetime.fromisoformat(columns[name]) if columns[name] else None
    return Entry(**columns)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
