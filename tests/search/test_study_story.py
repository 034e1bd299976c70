"""The story of a study: its verdict from the tables, what stands there before there is one, and every chart."""

from __future__ import annotations

import json
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from helpers.chart_cases import panels_of, rows_drawn
from helpers.report_cases import NASTY, write_run
from helpers.story_cases import Told, told
from helpers.study_rows import rows_for_study

from search.commands.study.comparison import draw_arms, draw_errors, draw_panels
from search.commands.study.registry import STUDIES
from search.commands.study.study import Row, Study
from search.commands.study.work import TABLE
from search.report.charts import specification
from search.report.files import picture_of
from structnet.data.dataset import Dataset
from structnet.data.datasets import load_dataset

QUOTED = "\"double\" 'single' & <b>"


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


def write(
    results: Path, rows: list[Row], study: str = "rates", status: str = "finished", **config: Any
) -> None:
    """The experiment `first`, with these rows."""
    told_options = json.dumps({"dataset": "mnist", "study": study, "quick": False, **config})
    writer = write_run(results, "first", command="study", dataset="mnist", status=status, config=told_options)
    if rows:
        columns = [{"trial": f"{row.arm}-{row.rng_seed}", **row._asdict()} for row in rows]
        writer.write(TABLE, "rows", columns)


def rate_rows(leads: dict[str, float], seeds: int = 5) -> list[Row]:
    """Of every arm 90 % and this lead, with a wobble of its own."""
    return [
        Row(arm, seed, quantity, 0, 0.9 + lead + 0.001 * seed * (1 + place))
        for place, (arm, lead) in enumerate(leads.items())
        for seed in range(seeds)
        for quantity in ("accuracy", "test_accuracy", "parameters", "parameter_steps_all")
    ]


AHEAD = {"none": 0.0, "age": 0.05}


def warned(found: Told) -> list[str]:
    """Texts that say what a verdict is not worth."""
    blocks = [block for section in found.story.sections for block in section.blocks]
    return [block.text for block in blocks if getattr(block, "tone", "") == "warning"]  # type: ignore[attr-defined]


# Charts


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_every_study_draws_what_it_measured(study: Study, digits: Dataset) -> None:
    rows = rows_for_study(study, digits)
    chart = study.draw(rows)
    assert rows_drawn(chart)
    drawn = picture_of(specification(chart), "svg").decode()
    assert drawn.startswith("<svg") and 'class="mark-' in drawn
    assert study.seen and study.reading.endswith(".")


def test_names_are_texts_in_every_form_of_chart() -> None:
    rows = [Row(arm, seed, "accuracy", 0, 0.9 + seed / 100) for arm in (NASTY, QUOTED) for seed in (0, 1)]
    panels = {NASTY: rows, QUOTED: rows}
    for chart in (
        draw_arms(rows, "accuracy", NASTY),
        draw_panels(panels, "accuracy", QUOTED),
        draw_errors({arm: [(1, [0.9]), (2, [0.95])] for arm in (NASTY, QUOTED)}, NASTY),
    ):
        drawn = picture_of(specification(chart), "svg").decode()
        assert "<script" not in drawn and "<b>" not in drawn
        assert NASTY in unescape(drawn) and QUOTED in unescape(drawn)


def test_one_panel_alone_is_as_wide_as_the_page_and_many_arms_stand_below_each_other() -> None:
    def panels(arms: int) -> dict[str, list[Row]]:
        rows = [Row(f"arm {arm}", 0, "accuracy", 0, 0.9) for arm in range(arms)]
        return {"one": rows, "two": rows}

    assert panels_of(draw_panels({"one": panels(2)["one"]}, "accuracy", "x")) == ["one"]
    assert "concat" not in specification(draw_panels({"one": panels(2)["one"]}, "accuracy", "x"))
    columns = [specification(draw_panels(panels(arms), "accuracy", "x"))["columns"] for arms in (3, 8, 20)]
    assert columns == [3, 2, 1]


# The story


def test_a_verdict_is_told_with_its_numbers(tmp_path: Path) -> None:
    write(tmp_path, rate_rows(AHEAD))
    found = told(tmp_path)
    assert found.story.lead == "The claim holds. age: +5.20 (+5.00 to +5.40) points against none."
    assert "Brackets hold 95 % intervals" in found.text
    assert [card.value for card in found.story.cards][:2] == ["yes", "5"]
    assert STUDIES["rates"].question in found.text and STUDIES["rates"].claim in found.text
    assert list(found.charts) == ["rates"]
    assert "90.20 ± 0.16" in found.text  # the mean of none, with its spread
    assert not warned(found)
    lines = [line for _, line in found.story.commands]
    assert lines[0] == f"structnet study rates --dataset mnist --rng-seed 5 --results {tmp_path}"
    assert "from measurements where experiment = 'first'" in lines[1]


@pytest.mark.parametrize(
    ("seeds", "quick", "said"),
    [(5, True, "Made with --quick"), (4, False, "There are 4 rng_seeds, and a claim has at least 5")],
)
def test_an_anecdote_is_called_one(tmp_path: Path, seeds: int, quick: bool, said: str) -> None:
    write(tmp_path, rate_rows(AHEAD, seeds), quick=quick)
    found = told(tmp_path, drawn=False)
    (warning,) = warned(found)
    assert warning.startswith(said) and "anecdote" in warning
    assert found.story.commands[0][1].startswith("structnet study rates --dataset mnist --results")


def test_while_it_runs_there_is_no_verdict_but_what_is_measured(tmp_path: Path) -> None:
    write(tmp_path, rate_rows(AHEAD, 2), status="running")
    found = told(tmp_path)
    assert found.story.lead == "No verdict yet. Tasks measured so far: 4."
    assert not [card for card in found.story.cards if "claim" in card.label]
    assert "Not all of it is measured yet" in found.text
    assert list(found.charts) == ["rates"]


@pytest.mark.parametrize("study", STUDIES)
def test_nothing_measured_and_rows_that_no_judge_can_judge_are_no_errors(tmp_path: Path, study: str) -> None:
    write(tmp_path / "none", [], study, "running")
    assert told(tmp_path / "none", drawn=False).story.lead == "Nothing is measured yet."
    write(tmp_path / "few", [Row("some", 0, "seconds", 0, 90.0)], study, "interrupted")
    found = told(tmp_path / "few", drawn=False)
    assert found.story.lead == "No verdict yet. Tasks measured so far: 1."
    assert ("Work", "90 s") in [(card.label, card.value) for card in found.story.cards]


def test_a_study_of_another_version_shows_what_it_measured(tmp_path: Path) -> None:
    write(tmp_path, rate_rows(AHEAD), "of yesterday")
    found = told(tmp_path)
    assert found.story.lead.startswith("This version has no study of this name")
    assert "Every number" in found.text and "test_accuracy" in found.text


def test_names_of_arms_are_texts_on_the_page(tmp_path: Path) -> None:
    write(tmp_path, rate_rows({"none": 0.0, NASTY: 0.05, QUOTED: 0.1}))
    found = told(tmp_path)
    assert f"{NASTY}: +5." in found.text
    assert NASTY in found.text and QUOTED in found.text
