"""What tests share that start processes: the command itself, a folder for its Ray, and how long it is waited for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PATIENCE_SECONDS = 600.0


def process(*arguments: str, cwd: Path, **environment: str) -> subprocess.Popen[str]:
    """The command `structnet` in a process of its own."""
    here = str(Path(__file__).parents[2])
    return subprocess.Popen(
        [sys.executable, "-m", "search.cli", *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": here, "COLUMNS": "200", **environment},
    )


@contextmanager
def short_folder() -> Iterator[Path]:
    """A folder whose path is short enough for Ray's sockets."""
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    """What the condition returns once that is true."""
    give_up = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < give_up:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited in vain until {what}")
