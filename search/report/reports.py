"""Writes reports: RESULTS/reports/NAME/index.html of an experiment, RESULTS/reports/index.html of them all."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import fsspec

from search.report.blocks import Block, Cards, Commands, Folded, Link, Page, Section, Story, Table, Text
from search.report.files import picture_of
from search.report.page import html_of
from search.report.records import Records
from search.report.standing import unreadable
from search.report.stories import story_of
from structnet.errors import UserError
from structnet.storage.atomic import write_whole
from structnet.storage.sql import check_experiment

REFRESH_SECONDS = 5


def write_report(results: str, name: str, *, live: bool = False) -> str:
    """Writes the page of an experiment, and its charts beside it as SVG and PNG; the path of the page.

    live: whether the page loads itself again while the experiment runs; then no charts are written beside it. Raises
    UserError if there is no experiment of this name, StoreFailed where nothing can be written.
    """
    check_experiment(results, name, ["experiments"])
    records = Records(results, name)
    if not records.runs:
        raise UserError(unreadable(name))
    story, now = story_of(records), datetime.now(UTC)
    refresh = REFRESH_SECONDS if live and is_alive(records, now) else None
    page = page_of(records, story, now, refresh)
    folder = f"{results}/reports/{name}"
    files, place = fsspec.url_to_fs(folder)
    pages = {f"{place}/index.html": page}
    for file, sections in story.pages.items():
        pages[f"{place}/{file}"] = Page(
            name, file.removesuffix(".html"), sections, up=Link(name, "index.html")
        )
    written = {path: html_of(each).encode() for path, each in pages.items()}
    if not live:
        for each in pages.values():
            for chart in each.charts:
                written[f"{place}/{chart.name}.svg"] = chart.svg
                written[f"{place}/{chart.name}.png"] = picture_of(chart.specification, "png")
    write_whole(files, written)
    return f"{folder}/index.html"


def is_alive(records: Records, now: datetime) -> bool:
    """Whether an experiment runs, and has shown so of late."""
    return records.status == "running" and not (records.standing and records.standing.silence(now))


def page_of(records: Records, story: Story, now: datetime, refresh: int | None = None) -> Page:
    """The page around a story: what was run and how it stands above, what to do next and how it was made below."""
    blocks: list[Block] = [Text(row["error"], "warning") for row in records.runs if row["error"]]
    if records.standing and records.standing.silence(now):
        blocks.append(Text(f"It has been {records.standing.advice(now)}.", "warning"))
    if story.lead:
        blocks.append(Text(story.lead, "lead"))
    if story.cards:
        blocks.append(Cards(story.cards))
    sections = [*story.sections]
    if story.commands:
        sections.append(Section("What to do next", [Commands(story.commands)]))
    sections.append(Section("How this was made", _made(records)))
    return Page(
        records.name,
        subtitle_of(records),
        sections,
        blocks,
        refresh,
        Link("all experiments", "../index.html"),
    )


def subtitle_of(records: Records) -> str:
    """Command, dataset, how it stands, when it began and how long it took."""
    rows = records.runs
    began = min((row["started_at"] for row in rows if row["started_at"]), default=None)
    seconds = sum(row["seconds"] or 0.0 for row in rows)
    parts = [f"structnet {records.command}", f"on {records.dataset}", records.status]
    if began is not None:
        parts.append(f"began {began.astimezone(UTC):%Y-%m-%d %H:%M} UTC")
    parts.append(f"took {duration(seconds)}")
    return " · ".join(part for part in parts if part)


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"


def _made(records: Records) -> list[Block]:
    rows = records.runs
    versions = json.loads(rows[0]["versions"] or "{}")
    options = Table(
        ("option", "value"), [(name, _said(value)) for name, value in sorted(records.config.items())]
    )
    made = Table(("library", "version"), [(name, str(version)) for name, version in versions.items()])
    questions = (
        "Every number here is in the tables; these are questions to ask them:",
        f"structnet query --list{records.where}",
    )
    seeds = ", ".join(dict.fromkeys(str(row["rng_seed"]) for row in rows if row["rng_seed"] is not None))
    found: list[Block] = [Text(f"rng_seed {seeds}.")] if seeds else []
    return [*found, Commands([questions]), Folded("All options", [options]), Folded("Versions", [made])]


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value) if not isinstance(value, dict | list) else json.dumps(value)
