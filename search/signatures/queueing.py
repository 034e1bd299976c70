"""`queue`, on the command line."""

from __future__ import annotations

from typing import Annotated

import typer

Results = Annotated[str | None, typer.Option(help="The folder that the queue lies in. Default: results.")]
Number = Annotated[int, typer.Argument(help="Of the entry, as `queue list` shows it.", metavar="ID")]
AnyNumber = Annotated[
    int | None, typer.Argument(help="Of one entry. Default: the whole queue.", metavar="[ID]")
]


def add(
    command: Annotated[
        list[str],
        typer.Argument(
            help="After --, a command that can be resumed, with its options: grow, hunt, ladder, rescue, bootstrap, "
            "sweep, evolve, train or study."
        ),
    ],
    priority: Annotated[int, typer.Option(help="What has more starts first.")] = 0,
    cpus: Annotated[
        float | None, typer.Option(help="What it needs. Default: its workers × cpus-per-worker.")
    ] = None,
    gpus: Annotated[
        float | None,
        typer.Option(
            help="A share of one GPU, or so many whole ones. Default: its workers × gpus-per-worker."
        ),
    ] = None,
    results: Results = None,
) -> None:
    """Add a command to the queue: `structnet queue add --priority 5 -- grow --dataset mnist --name first`."""
    from search.commands.queue.command import add as added
    from search.commands.queue.command import print_added

    print_added(added(command, results or "results", priority, cpus, gpus), results or "results")


def list_entries(results: Results = None) -> None:
    """All entries, the most important first."""
    from search.commands.queue.command import print_list

    print_list(results or "results")


def run(
    parallel: Annotated[int, typer.Option(help="Entries at once, where they fit.")] = 1,
    cpus: Annotated[float | None, typer.Option(help="CPUs to share out. Default: this machine's.")] = None,
    gpus: Annotated[int | None, typer.Option(help="GPUs to share out. Default: this machine's.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Wait for more when all is done.")] = False,
    results: Results = None,
) -> None:
    """Run the queue, the most important entries first; what does not fit yet may be overtaken by what does.

    Each entry is a process that writes to RESULTS/queue/ID.log. Ctrl-C stops what runs, to be resumed by the next
    run. Exit code 1 if an entry failed.
    """
    from search.commands.queue.command import run as run_queue

    run_queue(results or "results", parallel, cpus, gpus, watch)


def cancel(number: Number, results: Results = None) -> None:
    """Take an entry out of the queue; if it runs, it is stopped first."""
    _change(results, number, "cancel")


def retry(number: Number, results: Results = None) -> None:
    """Let an entry that failed or was cancelled wait again; it goes on from where it stopped."""
    _change(results, number, "retry")


def pause(number: AnyNumber = None, results: Results = None) -> None:
    """Start nothing new until `queue resume`; or hold one entry back, which is stopped first if it runs."""
    _change(results, number, "pause")


def resume(number: AnyNumber = None, results: Results = None) -> None:
    """Undo `queue pause`."""
    _change(results, number, "resume")


def _change(results: str | None, number: int | None, verb: str) -> None:
    from search.commands.queue.command import change

    change(results or "results", number, verb)
