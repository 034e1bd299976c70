"""`structnet demo`: `grow` on the digits that come with scikit-learn, as a newcomer would call it."""

from __future__ import annotations

from search.commands.demo.command import DemoOptions
from search.commands.registry import resumable
from search.report.browser import show
from search.session.console import Console
from search.session.experiment import default_name

TARGET = 0.95


def run(options: DemoOptions) -> None:
    """Runs the command."""
    name = default_name("demo", "digits")
    place = "" if options.results == "results" else f" --results {options.results}"
    console = Console()
    console.say(f"structnet grow --target-accuracy {TARGET} --name {name}{place}")
    resumable()["grow"].run({"target_accuracy": TARGET, "name": name, "results": options.results})
    page = f"{options.results}/reports/{name}/index.html"
    if options.open:
        show(page)
    else:
        console.say(f"Open {page} in a browser; structnet demo --open does so.")
