"""What `grow` writes of its final network's answers: confusions and mistakes on validation images, once."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pytest

import search.commands.grow.run as grow
from search.commands.grow import fitting
from search.commands.grow.command import GrowOptions
from search.session.console import Console
from search.session.experiment import Experiment
from structnet.data.dataset import Dataset
from structnet.data.datasets import load_dataset
from structnet.storage.tables import list_parts, read_table
from tournament.workers.pool import InlinePool

SMALL = {
    "architecture": "64-16-10",
    "epochs": 3,
    "rounds": 0,
    "max_parameters": 200,
    "batch_size": 32,
    "opponents": False,
}


def run(data: Dataset, results: Path, trial: str, **given: Any) -> None:
    options = fitting.fitted_to(GrowOptions(results=str(results), name="first", **{**SMALL, **given}), data)
    experiment, pool = Experiment("grow", options), InlinePool(data)
    try:
        grow.grow_one(options, data, experiment, pool, 0, trial, Console(file=StringIO(), width=200))
    finally:
        pool.close()


def rows_of(results: Path, table: str) -> list[dict[str, Any]]:
    return read_table(str(results), table, "first").to_pylist()


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


@pytest.fixture(scope="module")
def grown(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("answers")
    run(digits, folder, "")
    return folder


def test_confusions_are_of_all_validation_images_and_agree_with_the_accuracy(
    grown: Path, digits: Dataset
) -> None:
    (experiment,), rows = rows_of(grown, "experiments"), rows_of(grown, "confusions")
    assert sum(row["images"] for row in rows) == len(digits.validation)
    right = sum(row["images"] for row in rows if row["truth"] == row["said"])
    assert right / len(digits.validation) == experiment["accuracy"]
    assert 0 < right < len(digits.validation) and min(row["images"] for row in rows) > 0
    for number in range(10):
        of_class = [row for row in rows if row["truth"] == number]
        assert sum(row["images"] for row in of_class) == int((digits.validation.labels == number).sum())
        assert {row["truth_name"] for row in of_class} == {digits.class_names[number]}


def test_mistakes_are_among_the_confusions_with_their_images(grown: Path, digits: Dataset) -> None:
    rows = rows_of(grown, "mistakes")
    wrong = {(row["truth"], row["said"]) for row in rows_of(grown, "confusions")}
    assert len(rows) == 24 and len({row["image"] for row in rows}) == 24
    for row in rows:
        assert row["truth"] != row["said"] and (row["truth"], row["said"]) in wrong
        assert row["truth"] == digits.validation.labels[row["image"]]
        assert row["values"] == digits.validation.images[row["image"]].flatten().tolist()
        assert row["shape"] == [1, 8, 8] and 0.1 < row["confidence"] <= 1


def test_a_run_that_dies_at_its_end_writes_them_once(
    digits: Dataset, grown: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(grow, "final_columns", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(digits, tmp_path, "")
    before = {table: rows_of(tmp_path, table) for table in ("confusions", "mistakes")}
    run(digits, tmp_path, "", resume=True)
    for table, rows in before.items():
        assert rows_of(tmp_path, table) == rows == rows_of(grown, table)
        assert [part.name for part in list_parts(str(tmp_path), table)] == ["run"]


def test_repetitions_have_parts_of_their_own(digits: Dataset, tmp_path: Path) -> None:
    for trial in ("seed-0000", "seed-0001"):
        run(digits, tmp_path, trial, repeats=2, resume=True)
    rows = rows_of(tmp_path, "confusions")
    for trial in ("seed-0000", "seed-0001"):
        assert sum(row["images"] for row in rows if row["trial"] == trial) == len(digits.validation)
        assert {row["trial"] for row in rows_of(tmp_path, "mistakes")} == {"seed-0000", "seed-0001"}
