"""`structnet report`: writes pages from the tables, of what has ended and of what still runs."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from search.commands.report.command import ReportOptions
from search.report.browser import show
from search.report.folder import outdated, write_folder
from search.report.records import Records
from search.report.reports import REFRESH_SECONDS, is_alive, write_report
from search.session.console import Console, outcome
from search.session.waiting import counted
from structnet.errors import UserError


def run(options: ReportOptions) -> None:
    """Runs the command."""
    console = Console()
    if options.live and not options.name:
        raise UserError("live needs the name of the experiment that runs: structnet report NAME --live")
    path = _one(options.name, options, console) if options.name else _all(options.results, console)
    console.say(f"Report: {path}")
    outcome(report=path)
    if options.open and not options.live:
        show(path)


def _one(name: str, options: ReportOptions, console: Console) -> str:
    path = write_report(options.results, name, live=options.live)
    write_folder(options.results)
    if options.live:
        if options.open:
            show(path)
        _follow(name, path, options, console)
    return path


def _follow(name: str, path: str, options: ReportOptions, console: Console) -> None:
    """Writes the page again and again while the experiment runs, and a last time when it has ended."""
    console.say(f"{path} is written anew every {REFRESH_SECONDS} s while {name} runs; Ctrl-C ends that")
    while is_alive(Records(options.results, name), datetime.now(UTC)):
        time.sleep(REFRESH_SECONDS)
        write_report(options.results, name, live=True)
    write_report(options.results, name)


def _all(results: str, console: Console) -> str:
    """The page of the folder, and those of experiments that have none, or an older one than their tables."""
    for name in counted(outdated(results), "reports", console):
        write_report(results, name)
    return write_folder(results)
