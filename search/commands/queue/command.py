"""`structnet queue` and its options."""

from __future__ import annotations

from search.commands.registry import resumable
from search.options import Options, argument, option

WHERE = "The folder that the queue lies in."


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
