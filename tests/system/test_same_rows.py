"""The comparison of two results folders: what it takes for the same, and what it finds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers import same_rows

from structnet.storage.tables import TableWriter

RUN = {"trial": "", "command": "grow", "status": "finished", "accuracy": 0.5, "parameters": 10}


def written(folder: Path, rounds: int = 3, **changed: Any) -> str:
    """A results folder with an experiment and the rows of its rounds."""
    writer = TableWriter(str(folder), "first")
    row = RUN | {"seconds": 1.0, "config": json.dumps({"epochs": 3, "results": str(folder)})} | changed
    writer.write("experiments", "run", [row])
    # The second part has the row of the first round once more, as a resume may leave it.
    rows = [{"trial": "", "round": number, "accuracy": 0.1 * number} for number in range(rounds)]
    writer.write("rounds", "round-0000", rows)
    writer.write("rounds", "round-0001", rows[:1])
    return str(folder)


def test_times_workers_and_places_are_no_difference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = written(tmp_path / "one", accuracy=float("nan"))
    after = written(tmp_path / "two", accuracy=float("nan"), seconds=2.0, snapshot="elsewhere")
    assert same_rows.main([before, after]) == 0
    assert capsys.readouterr().out.strip() == "2 tables compared, 0 differ"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"accuracy": 0.6}, "experiments of first: row 0: accuracy was 0.5, is 0.6"),
        ({"accuracy": None}, "accuracy was 0.5, is None"),
        ({"config": '{"epochs": 4}'}, "config was {'epochs': 3}, is {'epochs': 4}"),
        ({"data_fingerprint": "{}"}, "data_fingerprint was None, is '{}'"),
        ({"rounds": 2}, "rounds of first: 3 rows were there, 2 are"),
    ],
)
def test_the_first_difference_is_told(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    before, after = written(tmp_path / "one"), written(tmp_path / "two", **changed)
    (found,) = same_rows.differences(before, after)
    assert message in found


def test_an_experiment_that_is_missing_is_named(tmp_path: Path) -> None:
    before = written(tmp_path / "one")
    TableWriter(before, "second").write("experiments", "run", [RUN])
    assert list(same_rows.differences(before, written(tmp_path / "two"))) == [
        f"experiments of second: missing in {tmp_path / 'two'}"
    ]


def test_the_script_says_so_with_its_exit_code(tmp_path: Path) -> None:
    before, after = written(tmp_path / "one"), written(tmp_path / "two", accuracy=0.6)
    done = subprocess.run(
        [sys.executable, same_rows.__file__, before, after], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.endswith("2 tables compared, 1 differ\n")


def test_folders_without_tables_are_a_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert same_rows.main([str(tmp_path), str(tmp_path)]) == 2
    assert "there are no tables in" in capsys.readouterr().err
