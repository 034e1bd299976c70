"""Which processes live: locks that end with their owner, and what tells a process from a later one of its number.

A runner holds the lock of its queue. A started command holds one of its own: the runner takes it, hands it over
as an open file when it starts the process, and lets go of it. So the lock is held from before the process exists
until it ends, however it ends, whatever becomes of the runner: no moment is left in which a runner that is killed
leaves behind a process that nobody knows of. Locks are those of flock(2), which Windows does not have.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import psutil

from structnet.errors import UserError


def take_lock(file: Path) -> int | None:
    """An open file that holds the lock until it and all its copies are closed, or None if somebody has it."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            os.close(descriptor)
            raise
    except BlockingIOError:
        return None
    except OSError as error:
        raise UserError(
            f"{file} cannot be locked ({error.strerror}): keep the results on a local disk"
        ) from error
    return descriptor


def is_locked(file: Path) -> bool:
    """Whether somebody holds the lock."""
    descriptor = take_lock(file)
    if descriptor is None:
        return True
    os.close(descriptor)
    return False


def identity(pid: int) -> str | None:
    """When a process started, and in which run of the machine; None if it has ended, or Linux is not there to ask."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        process = psutil.Process(pid)
        if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return None
        # Setting the clock moves both times, so their difference stays as it was.
        started = process.create_time() - psutil.boot_time()
    except (FileNotFoundError, psutil.NoSuchProcess):
        return None
    return f"{boot}/{round(started * os.sysconf('SC_CLK_TCK'))}"
