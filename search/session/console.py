"""What commands print on: a console that leaves texts as they are, and is wide enough for tables.

`--quiet` and `--json` silence it. What was asked for as data then comes all the same, or all that a command has to
tell comes at its end, as one object: what it gave to `outcome`.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from datetime import date
from typing import Any, ClassVar

from rich import console
from rich.console import RenderableType

from structnet.errors import UserError, WorkFailed, one_line

WIDTH = 140  # of tables, where there is no terminal

Told = Mapping[str, Any] | Callable[[], Mapping[str, Any]]


class _Speech:
    """How the command that runs speaks, and with `--json` what it has to tell."""

    quiet = False
    as_json = False
    told: ClassVar[list[Told]] = []


class Console(console.Console):
    """Rich's, whose texts are not coloured by what is in them.

    asked: whether what comes here is what was asked for as data, so that `--quiet` lets it pass. options: Rich's.
    """

    def __init__(self, *, asked: bool = False, **options: Any) -> None:
        silent = _Speech.as_json or (_Speech.quiet and not asked)
        if silent and "file" not in options:
            options |= {"quiet": True, "force_terminal": False}
        super().__init__(**{"highlight": False, **options})

    def say(self, text: str, *, markup: bool = True) -> None:
        """Prints a text that is broken where it says so, and nowhere else: what it names can be copied."""
        self.print(text, markup=markup, soft_wrap=True)

    def warn(self, text: str) -> None:
        """Prints a warning; on stderr where stdout is for data only."""
        (Console(file=sys.stderr) if self.quiet else self).say(text, markup=False)

    def show(self, table: RenderableType, width: int = WIDTH) -> None:
        """Prints a table, as wide as the terminal; elsewhere so wide at least."""
        wide = self
        if not self.is_terminal:
            wide = Console(file=self.file, quiet=self.quiet, width=max(width, self.width))
        wide.print(table)


def outcome(later: Callable[[], Mapping[str, Any]] | None = None, /, **values: Any) -> None:
    """Tells something for the object that `--json` prints. later: asked for more when the command ends."""
    if _Speech.as_json:
        _Speech.told += [values] if later is None else [later, values]


@contextmanager
def speaking(*, quiet: bool, as_json: bool) -> Iterator[None]:
    """Lets the command inside speak so. Its object comes also if it fails, and has an `error` then."""
    _Speech.quiet, _Speech.as_json = quiet, as_json
    try:
        if as_json:
            with _one_object():
                yield
        else:
            yield
    finally:
        _Speech.quiet = _Speech.as_json = False


@contextmanager
def _one_object() -> Iterator[None]:
    """Prints what was told, and sends to stderr what else would be printed, as by a module of the user's."""
    _Speech.told.clear()
    stdout = sys.stdout
    try:
        with redirect_stdout(sys.stderr):
            yield
    except BaseException as error:
        if reason := _reason(error):
            outcome(error=reason)
        raise
    finally:
        whole: dict[str, Any] = {}
        for told in _Speech.told:
            whole |= told() if callable(told) else told
        _Speech.told.clear()
        stdout.write(json.dumps(plain(whole), ensure_ascii=False) + "\n")
        stdout.flush()


def _reason(error: BaseException) -> str:
    """Why a command ended, in one line; nothing where it only has an exit code, and has said why by itself."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, str) else ""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return str(error) if isinstance(error, (UserError, WorkFailed)) else one_line(error)


def plain(value: Any) -> Any:
    """A value as JSON has it: times as text, no number that is none, and rows of tables as they are."""
    if isinstance(value, Mapping):
        return {str(name): plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(part) for part in value]
    if hasattr(value, "tolist"):  # numbers and arrays of numpy
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, date):
        return value.isoformat()
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
