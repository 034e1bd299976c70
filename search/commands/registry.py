"""The commands that work on networks, results and benchmarks, by name. A new one is a room here and an entry."""

from __future__ import annotations

from typing import Any

from search.commands import (
    bench,
    bootstrap,
    evolve,
    export,
    grow,
    heads,
    hunt,
    importing,
    ladder,
    paths,
    pick,
    predict,
    query,
    rescue,
    status,
    study,
    sweep,
    topology,
    train,
    validate,
)
from search.options import Command, Group

COMMANDS: dict[str, Command[Any] | Group] = {
    room.COMMAND.name: room.COMMAND
    for room in (
        grow,
        validate,
        hunt,
        ladder,
        rescue,
        bootstrap,
        sweep,
        evolve,
        topology,
        paths,
        heads,
        train,
        study,
        pick,
        predict,
        export,
        importing,
        query,
        status,
        bench,
    )
}


def resumable() -> dict[str, Command[Any]]:
    """Those that write an experiment and go on with it."""
    return {
        name: command
        for name, command in COMMANDS.items()
        if isinstance(command, Command) and command.goes_on and "resume" in command.options.model_fields
    }
