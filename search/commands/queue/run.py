"""`structnet queue`: adding entries, listing them, changing them, and running them."""

from __future__ import annotations

import math
import os
import sys
from datetime import datetime
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from search.command import Command
from search.commands.queue.command import AddOptions, EntryOptions, ListOptions, QueueOptions, RunOptions
from search.commands.queue.runner import Machine, Runner
from search.commands.queue.store import Entry, folder_of, open_store
from search.commands.registry import resumable
from search.line import WRONG_USE, parser_of, said_in_a_line
from search.options import CommonOptions, checked, read_config
from search.session.console import Console, outcome
from search.session.experiment import default_name
from structnet.errors import UserError
from structnet.storage.tables import check_name, list_parts

COLUMNS = (
    "id",
    "priority",
    "status",
    "command",
    "name",
    "cpus",
    "attempts",
    "added",
    "started",
    "ended",
    "exit",
)


def add(options: AddOptions) -> None:
    """Adds an entry, and says how to start it."""
    entry = added(list(options.command), options.results, options.priority, options.cpus, options.gpus)
    outcome(entry=vars(entry))
    print_added(entry, options.results)


def list_entries(options: ListOptions) -> None:
    """Prints all entries."""
    print_list(options.results)


def cancel(options: EntryOptions) -> None:
    """Takes an entry out."""
    change(options.results, options.number, "cancel")


def retry(options: EntryOptions) -> None:
    """Lets an entry wait again."""
    change(options.results, options.number, "retry")


def pause(options: QueueOptions) -> None:
    """Holds an entry or the queue back."""
    change(options.results, options.number, "pause")


def resume(options: QueueOptions) -> None:
    """Undoes `pause`."""
    change(options.results, options.number, "resume")


def added(
    arguments: list[str],
    results: str,
    priority: int = 0,
    cpus: float | None = None,
    gpus: float | None = None,
) -> Entry:
    """Stores a command after a look at its options; it is not run.

    arguments: the command and its options; cpus, gpus: what it needs, by default that of its workers.
    Raises UserError for a command that is not known or cannot be resumed, for options it does not have, and for
    the name of an experiment that exists.
    """
    what, options = parse(arguments)
    needs = options.workers * options.cpus_per_worker, options.workers * options.gpus_per_worker
    cpus, gpus = (need if given is None else given for given, need in zip((cpus, gpus), needs))
    for option, value in (("cpus", cpus), ("gpus", gpus)):
        if not 0 <= value < math.inf:
            raise UserError(f"{option} is {value}, but must be 0 or more: it is what the entry keeps busy")
    folder_of(results)
    if options.name and not options.resume and list_parts(results, "experiments", check_name(options.name)):
        raise UserError(
            f"experiment '{options.name}' already exists in {results!r}: add it with --resume, or choose another "
            "--name"
        )
    stem = default_name(arguments[0], what)
    return open_store(results, create=True).add(
        arguments, lambda number: check_name(options.name or f"{stem}-{number}"), priority, cpus, gpus
    )


def parse(arguments: list[str]) -> tuple[str, CommonOptions]:
    """What a command is about - its dataset, or the name of a study - and the options common to all commands.

    Raises UserError unless it is a command that can be resumed, with options that it has.
    """
    command, *rest = arguments or [""]
    commands = resumable()
    if command not in commands:
        raise UserError(f"the command is '{command}', but must be one of {', '.join(commands)}")
    given = _options_on_line(commands[command], rest)
    if given.get("results"):
        raise UserError(
            f"results is '{given['results']}' for the entry, but it writes where its queue lies: give --results "
            "to `structnet queue add`, before the command"
        )
    if command == "study":
        from search.commands.study.run import study_named

        study_named(given["study"])
    written = read_config(given["config"]) if given.get("config") else {}
    told = {**written, **{name: value for name, value in given.items() if value is not None}}
    common = {name: told[name] for name in CommonOptions.model_fields if name in told and name != "results"}
    options = checked(CommonOptions, common)
    return given.get("study") or options.dataset, options


def _options_on_line(command: Command, rest: list[str]) -> dict[str, Any]:
    """The options of a command as its own parser reads them, None where not given; UserError where it refuses."""
    try:
        return dict(parser_of(command).make_context(f"structnet {command.name}", list(rest)).params)
    except WRONG_USE as error:
        raise UserError(
            f"the options of {command.name} are wrong ({said_in_a_line(error)}): see structnet {command.name} --help"
        ) from error


def print_added(entry: Entry, results: str) -> None:
    """What was added, and how to start it."""
    Console().say(
        f"Entry {entry.id}: {entry.command} as {entry.name}, priority {entry.priority}, needs {_amount(entry)}. "
        f"Start it with: {_again(results)}"
    )


def print_list(results: str) -> None:
    """The table of entries, the most important first, and why entries failed."""
    store = open_store(results)
    entries = store.entries()
    table = Table(box=box.SIMPLE_HEAD)
    for heading in COLUMNS:
        number = heading in ("id", "priority", "cpus", "attempts", "exit")
        table.add_column(
            heading, justify="right" if number else "left", no_wrap=heading != "name", overflow="fold"
        )
    for entry in entries:
        table.add_row(*(Text(cell) for cell in cells(entry)))
    outcome(entries=[vars(entry) for entry in entries], paused=store.paused)
    console = Console(asked=True)
    console.show(table)
    for entry in entries:
        if entry.error:
            line = f"{entry.id} {entry.command} {entry.name} failed: {entry.error}"
            console.say(line, markup=False)
    if store.paused:
        console.say("The queue is paused: `structnet queue resume` lets entries start.")


def cells(entry: Entry) -> list[str]:
    """A row of the table of entries as text."""
    coming = entry.wanted and ("stopping" if entry.wanted == "waiting" else f"to be {entry.wanted}")
    return [
        str(entry.id),
        str(entry.priority),
        coming or entry.status,
        entry.command,
        entry.name,
        f"{entry.cpus:g}" + (f" + {entry.gpus:g} GPU" if entry.gpus else ""),
        str(entry.attempts),
        *(_when(time) for time in (entry.added_at, entry.started_at, entry.ended_at)),
        "" if entry.exit_code is None else str(entry.exit_code),
    ]


def change(results: str, number: int | None, verb: str) -> None:
    """Cancels, pauses, resumes or retries an entry; without a number, pauses or resumes the queue."""
    store = open_store(results)
    if number is None:
        store.pause_all(verb == "pause")
        outcome(paused=store.paused)
        said = (
            "Nothing new starts until `structnet queue resume`"
            if verb == "pause"
            else "Entries may start again"
        )
    else:
        entry = store.ask(number, verb)
        outcome(entry=vars(entry))
        said = f"Entry {number} is {entry.status}"
        if entry.wanted:
            said = f"Entry {number} is stopped by what runs the queue, or by the next `structnet queue run`"
    Console().say(f"{said}.")


def run(options: RunOptions) -> None:
    """Runs the queue; exit code 1 if an entry failed, 130 after Ctrl-C."""
    results, parallel, cpus, gpus = options.results, options.parallel, options.cpus, options.gpus
    for option, value, least in (("parallel", parallel, 1), ("cpus", cpus, 0), ("gpus", gpus, 0)):
        if value is not None and not least <= value < math.inf:
            raise UserError(f"{option} is {value}, but must be at least {least}")
    console = Console()
    machine = Machine(cpus_here() if cpus is None else cpus, gpus, parallel)

    def say(line: str) -> None:
        console.say(f"{datetime.now():%H:%M:%S} {line}", markup=False)

    runner = Runner(results, machine, watch=options.watch, say=say)
    console.say(f"Running the queue in {results}: at most {parallel} at once, on {machine.cpus:g} CPUs")
    outcome(lambda: {"ended": dict(runner.ends), "paused": runner.store.paused})
    whole = runner.run()
    if not whole:
        said = f"interrupted; what ran waits to be resumed. Go on with: {_again(results)}"
        console.say(said)
        sys.exit(130)
    for entry in runner.unfit():
        say(f"{entry.id} {entry.command} {entry.name} waits: it needs {_amount(entry)}, more than there is")
    if runner.store.paused:
        say("the queue is paused: `structnet queue resume` lets entries start")
    counts = ", ".join(f"{count} {status}" for status, count in sorted(runner.ends.items()))
    console.say(f"Nothing is left to run: {counts or 'nothing was started'}")
    if runner.ends["failed"]:
        sys.exit(1)


def cpus_here() -> int:
    """How many CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _again(results: str) -> str:
    """The line that runs the queue of this folder."""
    return "structnet queue run" + ("" if results == "results" else f" --results {results}")


def _amount(entry: Entry) -> str:
    return f"{entry.cpus:g} CPUs" + (f" and {entry.gpus:g} GPUs" if entry.gpus else "")


def _when(time: datetime | None) -> str:
    return "" if time is None else f"{time.astimezone():%m-%d %H:%M}"
