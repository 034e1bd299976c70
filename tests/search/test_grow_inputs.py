"""Where a network reads its input: of a table by the names of its columns."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.report_cases import NASTY, round_row, write_run
from helpers.story_cases import told, values_of

from structnet.data.datasets import load_dataset
from structnet.data.tables import input_names
from structnet.storage.tables import read_table

NAMES = ["age", NASTY, "colour = red"]


def table_run(results: Path, names: list[str] | None, reads: list[int]) -> None:
    rounds = [
        round_row(number, architecture=[len(reads), 4, 2], input_reads=[count * number for count in reads])
        for number in (0, 1, 2)
    ]
    run = write_run(results, "first", dataset="people.csv", input_names=names, snapshot=rounds[1]["snapshot"])
    run.write("rounds", "rounds", rounds)


def test_a_table_is_told_by_its_columns(tmp_path: Path) -> None:
    table_run(tmp_path, NAMES, [1, 0, 3])
    found = told(tmp_path)
    assert "It reads 2 of 3 inputs, most often colour = red (3), age (1)." in found.text
    assert f"Not read: {NASTY}." in found.text
    assert "It reads 0 of 3 inputs." in found.text
    assert values_of(found.charts["inputs"], "input") == ["colour = red", "age", NASTY]
    assert values_of(found.charts["inputs"], "connections") == [3, 1, 0]  # of round 1, which was taken


@pytest.mark.parametrize(("names", "reads"), [(None, [1, 2, 3]), (NAMES, [1, 2])])
def test_without_names_that_fit_nothing_is_said(
    names: list[str] | None, reads: list[int], tmp_path: Path
) -> None:
    table_run(tmp_path, names, reads)
    found = told(tmp_path)
    assert "It reads" not in found.text and "inputs" not in found.charts


def test_many_columns_are_cut(tmp_path: Path) -> None:
    table_run(tmp_path, [f"column {place}" for place in range(50)], [0] * 8 + [1] * 42)
    found = told(tmp_path)
    assert "and 3 more." in found.text
    assert len(values_of(found.charts["inputs"], "input")) == 40
    assert "The first 40 of 50." in found.text


def test_names_of_inputs() -> None:
    number = {"kind": "number", "missing": False}
    columns = [
        {**number, "name": "age"},
        {**number, "name": "pay", "missing": True},
        {
            "name": "sex",
            "kind": "category",
            "categories": ["f", "m"],
            "other": False,
            "missing": False,
            "binary": True,
        },
        {
            "name": "hue",
            "kind": "category",
            "categories": ["r", "g"],
            "other": True,
            "missing": True,
            "binary": False,
        },
    ]
    assert input_names({"kind": "table", "columns": columns}) == [
        "age",
        "pay",
        "pay missing",
        "sex = m",
        "hue = r",
        "hue = g",
        "hue = another",
        "hue missing",
    ]
    assert input_names({"kind": "columns", "columns": ["a", "b"]}) == ["a", "b"]
    assert input_names({"kind": "image", "shape": [1, 2, 2]}) is None


@pytest.mark.parametrize("name", ["wine", "breast_cancer"])
def test_there_is_a_name_for_every_input(name: str) -> None:
    data = load_dataset(name)
    names = input_names(data.preprocessing)
    assert names is not None and len(names) == data.input_units


def test_an_experiment_keeps_them(tmp_path: Path) -> None:
    from search.options import CommonOptions
    from search.session.experiment import Experiment

    data = load_dataset("wine")
    options = CommonOptions(dataset="wine", results=str(tmp_path), name="first")
    Experiment("grow", options, {}, data=data).start("", 0)
    (row,) = read_table(str(tmp_path), "experiments", "first").to_pylist()
    assert row["input_names"] == input_names(data.preprocessing) and "alcohol" in row["input_names"]
