"""The options of `demo`."""

from __future__ import annotations

from search.options import Options, option, results_folder


class DemoOptions(Options):
    """The options of `demo`."""

    open: bool = option(False, "Open the report in a browser.")
    results: str = results_folder()
