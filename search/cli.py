"""The command `structnet`: whatever search.commands has."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

import typer

from search.commands.queue import COMMAND as QUEUE
from search.commands.registry import COMMANDS
from structnet.errors import UserError, WorkFailed


def command_line() -> typer.Typer:
    """All commands. The queue is about the others, so it is not among those it may have."""
    app = typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        help="Finds the smallest neural network that does the job, by growing it.",
    )
    for command in (*COMMANDS.values(), QUEUE):
        command.add_to(app)
    return app


app = command_line()


def main() -> None:
    """Runs a command; a mistake of the user is one line on stderr and exit code 2, work that failed code 1."""
    try:
        app()
    except (UserError, WorkFailed) as error:
        typer.echo(f"structnet: {error}", err=True)
        sys.exit(2 if isinstance(error, UserError) else 1)


def script() -> None:
    """As `main`, and ends the process at once: taking torch apart takes most of a second, when all is written."""
    try:
        main()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        if isinstance(ended.code, str):
            typer.echo(ended.code, err=True)
    for stream in (sys.stdout, sys.stderr):
        # Whoever read it may have gone, as `head` does.
        with suppress(OSError):
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    script()
