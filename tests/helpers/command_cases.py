"""What tests share that run commands: in this process, as `main` would, or in one of their own."""

from __future__ import annotations

import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from search.cli import main
from structnet.storage.tables import read_table

# A growth of seconds by one worker, for what needs a finished experiment called `first`.
GROWN = (
    "--policy",
    "score",
    "--epochs",
    "6",
    "--rounds",
    "2",
    "--candidates",
    "4",
    "--fork-price",
    "0",
    "--workers",
    "1",
    "--rng-seed",
    "3",
)


class Done(NamedTuple):
    """How a command ended: its exit code, and what it wrote to stdout and to stderr."""

    code: int
    out: str
    err: str


def structnet(*arguments: str, cwd: Path | None = None) -> Done:
    """Runs the command `structnet` in this process, in a folder; on the Ray of the session if that has started.

    What the command does not handle comes through, so that a traceback of a user's is an error of the test.
    """
    out, err = StringIO(), StringIO()
    with pytest.MonkeyPatch.context() as patch, chdir(cwd or Path.cwd()):
        patch.setattr(sys, "argv", ["structnet", *arguments])
        patch.setenv("COLUMNS", "200")
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
            main()
    return Done(int(ended.value.code or 0), out.getvalue(), err.getvalue())


def assert_refused(done: Done, message: str) -> None:
    """The command ended as for a mistake of the user: with exit code 2 and one line that says what is wrong."""
    assert done.code == 2, done.out + done.err
    assert len(done.err.strip().splitlines()) == 1, done.err
    assert done.err.startswith("structnet: ") and message in done.err, done.err


def timeless(results: Path, table: str, experiment: str = "first") -> list[dict[str, Any]]:
    """The rows of an experiment without what the clock, the worker and the folder make of them."""
    hidden = ("experiment", "seconds", "worker", "snapshot")
    rows = read_table(str(results), table, experiment).to_pylist()
    return [{key: value for key, value in row.items() if key not in hidden} for row in rows]
