"""The options of `status`."""

from __future__ import annotations

from search.options import Options, argument, option, results_folder


class StatusOptions(Options):
    """The options of `status`."""

    name: str | None = argument(None, "An experiment to show in detail; all of them in a table if left out.")
    watch: float | None = option(None, "Look again every so many seconds, until it has ended.")
    results: str = results_folder()
