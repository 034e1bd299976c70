"""The commands, by name. A new one is a room here and an entry."""

from __future__ import annotations

from search.command import Command, Group
from search.commands import (
    bench,
    bootstrap,
    demo,
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
    queue,
    report,
    rescue,
    status,
    study,
    sweep,
    topology,
    train,
    validate,
)

COMMANDS: dict[str, Command | Group] = {
    room.COMMAND.name: room.COMMAND
    for room in (
        demo,
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
        report,
        query,
        status,
        queue,
        bench,
    )
}


def resumable() -> dict[str, Command]:
    """Those that write an experiment and go on with it."""
    return {
        name: command
        for name, command in COMMANDS.items()
        if isinstance(command, Command) and command.goes_on
    }
