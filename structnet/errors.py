"""The one exception for a mistake of the user: its message is one line, and the command line prints only that."""

from __future__ import annotations


class UserError(ValueError):
    """Names the value, the rule it broke and the way out, on one line. Commands exit with code 2."""


def one_line(error: BaseException) -> str:
    """The type and the first line of the message, at most 300 characters: what a table or a log has room for."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]
