"""Claims of names of experiments: of all processes that want a name in a results folder or URL, one has it.

A claim is RESULTS/claims/NAME.json, and is there while its process is at work; what was done is in the tables.

On a disk the process holds a lock on it (flock(2)), which ends with the process, however that ends: a file that a
killed process has left is nobody's. In an object store, and on a disk without locks, it is made by a conditional put,
which fails where something lies (If-None-Match on S3). For a file system whose fsspec class has none, fsspec looks, and
writes then: two processes that come within the same moment may both be told that the name is theirs.

A store does not know what became of a process. A claim that was made on this machine counts as long as its process is
there; one of another machine counts until somebody takes it over, who then answers for it that nothing runs there.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import uuid
import weakref
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from functools import cache, partial
from pathlib import Path
from typing import Any

from structnet.errors import UserError

_STAT_STATE, _STAT_STARTED = 0, 19  # of what follows the name of a process in /proc/PID/stat: see proc(5)


class NameTaken(UserError):
    """Another process has the name."""


class Claim:
    """A name that this process has, until `release`, the end of the process, or of whatever holds the claim."""

    def __init__(self, name: str, free: Callable[[], None]) -> None:
        self.name = name
        self._free = weakref.finalize(self, _unless_forked, os.getpid(), free)

    def release(self) -> None:
        """Gives the name up; a second time does nothing."""
        self._free()


# Of this process, as long as somebody in it holds them. Folder and name -> claim.
_MINE: weakref.WeakValueDictionary[tuple[str, str], Claim] = weakref.WeakValueDictionary()


def claim_name(results: str, name: str, *, take_over: bool = False, again: bool = True) -> Claim:
    """The claim of a name in a results folder, which is made, or URL.

    take_over: whether a claim counts for nothing that was made on another machine, where nobody can tell from here
    what became of it. again: whether what this process has already is given once more.
    Raises NameTaken, and UserError where nothing can be written.
    """
    from structnet.storage.atomic import is_local
    from structnet.storage.tables import first_line, open_folder

    fs, root = open_folder(results)
    local = is_local(fs)
    key = (str(Path(root).resolve()) if local else f"{type(fs).__name__}:{root}", name)
    mine = _MINE.get(key)
    if mine is not None and mine._free.alive:
        if again:
            return mine
        raise _taken(results, name, _about_this_process())
    folder = f"{root}/claims"
    # What the library of a store raises is its own affair.
    kinds = OSError if local else Exception
    try:
        if local and _has_locks(Path(folder)):
            free = _lock(Path(folder), results, name)
        else:
            free = _put(fs, folder, results, name, take_over)
    except NameTaken:
        raise
    except kinds as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise UserError(
            f"results is {results!r}, but '{name}' cannot be claimed there ({reason}): see that it can be written to, "
            "or choose another with --results"
        ) from error
    _MINE[key] = claim = Claim(name, free)
    return claim


def release_all() -> None:
    """Gives up every name that this process has."""
    for claim in list(_MINE.values()):
        claim.release()


def _unless_forked(process: int, free: Callable[[], None]) -> None:
    """A copy of the process has a copy of the claim, which is not its own."""
    if os.getpid() == process:
        free()


def _taken(results: str, name: str, there: dict[str, Any]) -> NameTaken:
    who = (
        f"process {there['pid']} on {there['host']}, since {there['since']}" if there else "which is unknown"
    )
    return NameTaken(
        f"experiment '{name}' already exists in '{results}' and is running in another process ({who}): wait for its "
        "end, or choose another --name"
    )


# On a disk


def _has_locks(folder: Path) -> bool:
    """Whether files there can be locked, which not every network file system knows."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:  # it went with its last claim
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        finally:
            os.close(handle)
        return True


def _lock(folder: Path, results: str, name: str) -> Callable[[], None]:
    """Locks the file of a name; what unlocks and removes it."""
    file = folder / f"{name}.json"
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Its owner may have removed it after it was opened: then the lock is on what nobody else can find.
            found = _is_at(handle, file)
        except BlockingIOError as error:
            there = _told(os.pread(handle, 4096, 0))
            os.close(handle)
            raise _taken(results, name, there) from error
        except BaseException:
            os.close(handle)
            raise
        if found:
            break
        os.close(handle)
    # It only says whose the lock is, so that a disk which is full for a moment is no matter.
    with suppress(OSError):
        os.ftruncate(handle, 0)
        os.pwrite(handle, _as_bytes(_about_this_process()), 0)
    return partial(_unlock, handle, file)


def _unlock(handle: int, file: Path) -> None:
    with suppress(OSError):
        file.unlink()
    os.close(handle)
    with suppress(OSError):
        file.parent.rmdir()  # if it was the last


def _is_at(handle: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), file.stat())
    except FileNotFoundError:
        return False


# In a store


def _put(fs: Any, folder: str, results: str, name: str, take_over: bool) -> Callable[[], None]:
    """Puts the claim of a name; what removes it.

    Whoever takes over a claim puts its own beside it, under a name that follows from what it takes over: so of
    several that want to, one succeeds, and the last of the row is the one that counts.
    """
    mine = _about_this_process()
    while True:
        row, first = [f"{folder}/{name}.json"], ""
        while (there := _create(fs, row[-1], mine)) is not None:
            if _counts(there, take_over):
                raise _taken(results, name, there) if _is_here(there) else _elsewhere(results, name, there)
            first = first or there["token"]
            row.append(f"{folder}/{name}.{there['token']}.json")
        # The row may have been removed meanwhile, and another one begun.
        if len(row) == 1 or (_read(fs, row[0]) or {}).get("token") == first:
            return partial(_remove, fs, row, f"{folder}/{name}.{mine['token']}.json")
        _remove(fs, row[-1:])


def _create(fs: Any, path: str, mine: dict[str, Any]) -> dict[str, Any] | None:
    """Puts what tells of this process at a path, or returns what lies there."""
    for tries_left in (2, 1, 0):
        try:
            fs.pipe_file(path, _as_bytes(mine), mode="create")
            return None
        except Exception:  # also for a condition that does not hold each store has a word of its own
            there = _read(fs, path)
            if there is not None:
                # A put that was sent again, as its answer was lost, is refused by itself.
                return None if there["token"] == mine["token"] else there
            if not tries_left:
                raise
    raise AssertionError


def _read(fs: Any, path: str) -> dict[str, Any] | None:
    fs.invalidate_cache()
    try:
        return _told(fs.cat_file(path)) or {"token": "unknown"}
    except FileNotFoundError:
        return None


def _remove(fs: Any, row: list[str], next_one: str = "") -> None:
    """The first goes first, so that whoever finds it finds the whole row; but not if somebody has taken over."""
    with suppress(Exception):
        fs.invalidate_cache()
        if not (next_one and fs.exists(next_one)):
            for path in row:
                fs.rm_file(path)


def _counts(there: dict[str, Any], take_over: bool) -> bool:
    return _lives(there) if _is_here(there) else not take_over


def _elsewhere(results: str, name: str, there: dict[str, Any]) -> NameTaken:
    who = f"{there['host']}, since {there['since']}" if "host" in there else "another machine"
    return NameTaken(
        f"experiment '{name}' already exists in '{results}', begun on {who}: go on with --resume if nothing runs "
        "there any more, or choose another --name"
    )


# Processes


def _about_this_process() -> dict[str, Any]:
    pid = os.getpid()
    return {
        "token": uuid.uuid4().hex,
        "host": platform.node(),
        "pid": pid,
        "since": f"{datetime.now():%Y-%m-%d %H:%M:%S}",
        "machine": _machine(),
        "started": _started(pid),
    }


def _as_bytes(about: dict[str, Any]) -> bytes:
    return json.dumps(about, indent=1).encode()


def _told(content: bytes) -> dict[str, Any]:
    """What a claim tells; nothing for one that is not written yet, or is none."""
    try:
        about = json.loads(content)
        return about if {"token", "host", "pid", "since"} <= about.keys() else {}
    except (ValueError, AttributeError):
        return {}


@cache
def _machine() -> str:
    """This run of this machine, or of a container, in which processes have numbers of their own; empty if unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _is_here(there: dict[str, Any]) -> bool:
    return bool(_machine()) and there.get("machine") == _machine()


def _started(pid: int) -> str:
    """When a process of this machine started, which tells it from a later one of its number; empty if it has ended."""
    try:
        _, _, after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
    except OSError:
        return ""
    fields = after_name.split()
    return "" if fields[_STAT_STATE] in "ZX" else fields[_STAT_STARTED]


def _lives(there: dict[str, Any]) -> bool:
    return bool(there.get("started")) and _started(there["pid"]) == there["started"]
