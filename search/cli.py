"""The command `structnet`: whatever search.commands has.

Nothing but Ctrl-C is looked after before anything that takes a while is imported.
"""

from __future__ import annotations

import gc
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from search.session.interrupts import CODE, answering_ctrl_c, say_line, told_to_end

if TYPE_CHECKING:
    import typer


def command_line() -> typer.Typer:
    """All commands."""
    from search.commands.registry import COMMANDS
    from search.line import line_of

    return line_of(COMMANDS.values())


def __getattr__(name: str) -> Any:
    """`app`, the command line, made when it is asked for."""
    if name == "app":
        return command_line()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def main() -> None:
    """Runs a command; a mistake of the user is one line on stderr and exit code 2, work that failed code 1."""
    from structnet.errors import UserError, WorkFailed
    from structnet.storage.claims import release_all

    try:
        command_line()()
    except (UserError, WorkFailed) as error:
        sys.stderr.write(f"structnet: {error}\n")
        sys.exit(2 if isinstance(error, UserError) else 1)
    finally:
        release_all()


def script() -> None:
    """As `main`, and ends the process at once: taking torch apart takes most of a second, when all is written."""
    # Until a command runs: what is imported for it stays, and to look for garbage there takes a tenth of a help's time.
    gc.disable()
    try:
        with answering_ctrl_c():
            main()
        code = 0
    except KeyboardInterrupt:
        say_line()
        code = CODE
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        if isinstance(ended.code, str):
            sys.stderr.write(f"{ended.code}\n")
    if code == CODE and told_to_end():
        say_line()
    for stream in (sys.stdout, sys.stderr):
        # Whoever read it may have gone, as `head` does.
        with suppress(OSError):
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    script()
