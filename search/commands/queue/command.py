"""`structnet queue` and its options."""

from __future__ import annotations

from search.commands.registry import resumable
from search.options import Command, Group, Options, argument, option

WHERE = "The folder that the queue lies in."
RUN = "search.commands.queue.run"


class ListOptions(Options):
    """The options of `queue list`."""

    results: str = option("results", WHERE)


class AddOptions(ListOptions):
    """The options of `queue add`."""

    command: tuple[str, ...] = argument(
        ...,
        f"After --, a command that can be resumed, with its options: {', '.join(resumable())}.",
    )
    priority: int = option(0, "What has more starts first.")
    cpus: float | None = option(None, "What it needs.", shown="its workers × cpus-per-worker")
    gpus: float | None = option(
        None, "A share of one GPU, or so many whole ones.", shown="its workers × gpus-per-worker"
    )


class RunOptions(ListOptions):
    """The options of `queue run`."""

    parallel: int = option(1, "Entries at once, where they fit.")
    cpus: float | None = option(None, "CPUs to share out.", shown="this machine's")
    gpus: int | None = option(None, "GPUs to share out.", shown="this machine's")
    watch: bool = option(False, "Wait for more when all is done.")


class EntryOptions(ListOptions):
    """The options of what changes an entry."""

    number: int = argument(..., "Of the entry, as `queue list` shows it.", metavar="ID")


class QueueOptions(ListOptions):
    """The options of what changes an entry or the whole queue."""

    number: int | None = argument(None, "Of one entry. Default: the whole queue.", metavar="[ID]")


COMMAND = Group(
    "queue",
    "Experiments by priority, run one after the other or side by side.",
    (
        Command(
            "add",
            "Add a command to the queue: `structnet queue add --priority 5 -- grow --dataset mnist --name first`.",
            AddOptions,
            f"{RUN}:add",
            # What follows the first word of the command to be added is its own, with or without a `--` before it.
            settings={"allow_interspersed_args": False},
        ),
        Command("list", "All entries, the most important first.", ListOptions, f"{RUN}:list_entries"),
        Command(
            "run",
            "Run the queue, the most important entries first; what does not fit yet may be overtaken by what does.\n\n"
            "Each entry is a process that writes to RESULTS/queue/ID.log. Ctrl-C stops what runs, to be resumed by the "
            "next run. Exit code 1 if an entry failed.",
            RunOptions,
            f"{RUN}:run",
        ),
        Command(
            "cancel",
            "Take an entry out of the queue; if it runs, it is stopped first.",
            EntryOptions,
            f"{RUN}:cancel",
        ),
        Command(
            "retry",
            "Let an entry that failed or was cancelled wait again; it goes on from where it stopped.",
            EntryOptions,
            f"{RUN}:retry",
        ),
        Command(
            "pause",
            "Start nothing new until `queue resume`; or hold one entry back, which is stopped first if it runs.",
            QueueOptions,
            f"{RUN}:pause",
        ),
        Command("resume", "Undo `queue pause`.", QueueOptions, f"{RUN}:resume"),
    ),
)
