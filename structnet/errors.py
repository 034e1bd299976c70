"""What ends a command in one line, without a traceback: a mistake of the user, or work that could not be done."""

from __future__ import annotations

LACK_OF_MEMORY = "OutOfMemoryError"  # in the one line of an error: torch and Ray name theirs alike


class UserError(ValueError):
    """Names the value, the rule it broke and the way out, on one line. Commands exit with code 2."""


class WorkFailed(RuntimeError):
    """A piece of work failed, on retries too; what was done before is written. Commands exit with code 1."""


def one_line(error: BaseException) -> str:
    """The type and the first line of the message, at most 300 characters: what a table or a log has room for."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]
