"""The page of a results folder: all experiments side by side, to be compared, filtered and sorted."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import fsspec

from search.report.blocks import Block, Card, Cards, Chart, Column, Link, Page, Section, Side, Table, Text
from search.report.charts import Axis, points
from search.report.page import html_of
from search.report.records import Rows
from search.report.standing import silence_of
from structnet.storage.atomic import write_whole
from structnet.storage.tables import open_folder, read_table

PARAMETERS = Axis("parameters", "Parameters", log=True)
BYTES = Axis("bytes", "Bytes", log=True)
COST = Axis("cost", "Parameter-steps, forks included", log=True)
ACCURACY = Axis("accuracy", "Test accuracy", format=".0%")


def write_folder(results: str) -> str:
    """Writes RESULTS/reports/index.html from the table `experiments`; its path. Raises StoreFailed where it cannot."""
    rows = read_table(results, "experiments", skip_damaged=True).to_pylist()
    place = f"{results}/reports/index.html"
    files, path = fsspec.url_to_fs(place)
    page = page_of(results, rows, _pages(results), datetime.now(UTC))
    write_whole(files, {path: html_of(page).encode()})
    return place


def outdated(results: str) -> list[str]:
    """The experiments without a page, or with one that is older than their last row, the last begun first."""
    pages = _pages(results)
    rows = read_table(results, "experiments", skip_damaged=True).to_pylist()
    found: dict[str, datetime] = {}
    for row in sorted(rows, key=_began, reverse=True):
        alive = row["heartbeat_at"] or datetime.min.replace(tzinfo=UTC)
        found[row["experiment"]] = max(alive, found.get(row["experiment"], alive))
    return [name for name, alive in found.items() if name not in pages or pages[name] < alive]


def _pages(results: str) -> dict[str, datetime]:
    """Of the experiments that have a page, when it was written."""
    files, root = open_folder(results)
    files.invalidate_cache()
    found = {}
    for path in files.glob(f"{root}/reports/*/index.html"):
        at = files.modified(path)
        found[path.rsplit("/", 2)[1]] = at if at.tzinfo else at.replace(tzinfo=UTC)
    return found


def _began(row: dict[str, Any]) -> datetime:
    began: datetime | None = row["started_at"]
    return began or datetime.min.replace(tzinfo=UTC)


def page_of(results: str, rows: Rows, pages: Any, now: datetime) -> Page:
    """rows: of the table `experiments`. pages: the names of experiments that have a page."""
    beats: dict[str, datetime] = {}  # whatever writes of an experiment shows that it lives
    for row in rows:
        if beat := row["heartbeat_at"]:
            beats[row["experiment"]] = max(beat, beats.get(row["experiment"], beat))
    rows = [
        row | {"status": "silent"} if silence_of(row["status"], beats.get(row["experiment"]), now) else row
        for row in rows
    ]
    names = {row["experiment"] for row in rows}
    going = sum(row["status"] == "running" for row in rows)
    tested = [row for row in rows if row["test_accuracy"] is not None and row["parameters"]]
    cards = [Card("Experiments", f"{len(names):,}", f"{len(rows):,} runs"), Card("Running", f"{going:,}")]
    cards.append(Card("Failed", f"{sum(row['status'] == 'failed' for row in rows):,}"))
    if not rows:
        return Page(
            "All experiments",
            results,
            [],
            [Text("There is none here yet: structnet demo makes one.", "lead")],
        )
    sections = [Section("Compared", _charts(tested))] if tested else []
    return Page(
        "All experiments",
        f"of the results folder {results}",
        [*sections, Section("Every run", [_runs(rows, pages)])],
        [Cards(cards)],
    )


def _charts(tested: Rows) -> list[Block]:
    found = [
        {
            "experiment": row["experiment"],
            "rng_seed": row["rng_seed"],
            "dataset": row["dataset"],
            "parameters": row["parameters"],
            "bytes": row["bytes"],
            "cost": row["parameter_steps_all"],
            "accuracy": row["test_accuracy"],
        }
        for row in tested
    ]
    more = [Axis("experiment", kind="nominal"), Axis("rng_seed", kind="ordinal")]
    charts = []
    for axis, name, title in (
        (PARAMETERS, "size", "Accuracy against parameters"),
        (BYTES, "bytes", "Accuracy against bytes"),
        (COST, "cost", "Accuracy against the cost of training"),
    ):
        known = [row for row in found if row[axis.field]]
        if known:
            text = f"A point for each of {len(known)} runs, which were measured on test."
            charts.append(Chart(points(known, axis, ACCURACY, "dataset", more=more), name, title, text))
    return [Side([[chart] for chart in charts])]


def _runs(rows: Rows, pages: Any) -> Table:
    columns = [
        Column("experiment"),
        Column("run"),
        Column("command"),
        Column("dataset"),
        Column("how it stands"),
        Column("parameters"),
        Column("bytes"),
        Column("validation", ".2%"),
        Column("test", ".2%"),
        Column("million parameter-steps", ",.2f"),
        Column("seconds", ",.0f"),
        Column("began, UTC"),
    ]
    cells = []
    for row in sorted(rows, key=_began, reverse=True):
        name, cost = row["experiment"], row["parameter_steps_all"]
        began = row["started_at"]
        cells.append(
            [
                Link(name, f"{name}/index.html") if name in pages else name,
                row["trial"],
                row["command"],
                row["dataset"],
                row["status"],
                row["parameters"],
                row["bytes"],
                row["accuracy"],
                row["test_accuracy"],
                None if cost is None else cost / 1e6,
                row["seconds"],
                f"{began.astimezone(UTC):%Y-%m-%d %H:%M}" if began else "",
            ]
        )
    return Table(columns, cells)
