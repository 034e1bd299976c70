"""The options of `report`."""

from __future__ import annotations

from search.options import Options, argument, option, results_folder


class ReportOptions(Options):
    """The options of `report`."""

    name: str | None = argument(
        None, "An experiment; if left out, a page that compares all, and one of each."
    )
    open: bool = option(False, "Open the page in a browser.")
    live: bool = option(False, "Write the page anew while the experiment runs; it loads itself again.")
    results: str = results_folder()
