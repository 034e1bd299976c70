"""`structnet query`: questions and SQL, where the rows go, damaged parts, and what compacting tells."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.table_cases import damage, epoch
from typer.testing import CliRunner

from search.cli import app
from search.commands.query.questions import QUESTIONS
from search.commands.query.run import print_table
from structnet.errors import UserError
from structnet.storage.tables import TableWriter, list_parts


def query(*words: str, results: str | Path) -> Any:
    """What came of the command."""
    return CliRunner().invoke(app, ["query", *words, "--results", str(results)])


def printed(*words: str, results: str | Path) -> str:
    done = query(*words, results=results)
    assert done.exit_code == 0, done.exception
    return str(done.stdout)


def refusal(*words: str, results: str | Path) -> str:
    error = query(*words, results=results).exception
    assert isinstance(error, UserError) and "\n" not in str(error)
    return str(error)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for name, decision in (("one", "adopted"), ("two", "a|b")):
        row = {"trial": "", "round": 1, "decision": decision, "gain": float("nan"), "architecture": [64, 10]}
        TableWriter(str(tmp_path / "results"), name).write("rounds", "round-1", [row])
    return tmp_path / "results"


SQL = "SELECT experiment, decision, gain, architecture FROM rounds ORDER BY experiment"


# Questions


def test_the_list_names_every_question_and_what_it_answers(tmp_path: Path) -> None:
    listed = printed("--list", results=tmp_path / "none")
    for name, question in QUESTIONS.items():
        assert any(line.split()[:1] == [name] and question.answers in line for line in listed.splitlines())
    assert json.loads(printed("--list", "--format", "json", results=tmp_path))[0]["question"] == "experiments"
    assert printed("champions", "--list", results=tmp_path).endswith(QUESTIONS["champions"].sql)


def test_a_question_is_asked_by_its_name_and_of_one_experiment(results: Path) -> None:
    assert [row["decision"] for row in json.loads(printed("growth", "--format=json", results=results))] == [
        "adopted",
        "a|b",
    ]
    for asked in ("growth", SQL):
        (row,) = json.loads(printed(asked, "--experiment", "two", "--format", "json", results=results))
        assert row["experiment"] == "two"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["champion"], "is it champions?"),
        (["growth", "--experiment", "tow"], "is it two?"),
        (["growth", "--format", "xlsx"], "format is 'xlsx'"),
        (["growth", "--format", "parquet"], "say with --output"),
        (["growth", "--output", "rows.xlsx"], "must be one of .txt, .csv, .json"),
        (["growth", "--output", "nowhere://x/rows.csv"], "output is 'nowhere://x/rows.csv'"),
        (["growth", "--output", f"{os.devnull}/rows.csv"], "no file can be written there"),
        ([SQL, "--list"], "leave it out"),
        ([], "see --list"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(words: list[str], reason: str, results: Path) -> None:
    assert reason in refusal(*words, results=results)


# Where the rows go


def test_rows_for_another_program_are_all_that_is_on_stdout(results: Path) -> None:
    rows = [
        {"experiment": "one", "decision": "adopted", "gain": None, "architecture": [64, 10]},
        {"experiment": "two", "decision": "a|b", "gain": None, "architecture": [64, 10]},
    ]
    assert json.loads(printed(SQL, "--format", "json", "--compact", results=results)) == rows
    done = query(SQL, "--json", "--format", "csv", results=results)
    assert json.loads(done.stdout)["rows"] == rows and done.stderr == ""
    assert printed(SQL, "--format", "csv", results=results).splitlines() == [
        '"experiment","decision","gain","architecture"',
        '"one","adopted",nan,"[64, 10]"',
        '"two","a|b",nan,"[64, 10]"',
    ]
    assert r"| two | a\|b | nan | \[64, 10\] |" in printed(SQL, "--format", "markdown", results=results)


@pytest.mark.parametrize("quiet", [[], ["--quiet"]])
def test_a_file_is_written_whole_by_the_format_of_its_ending(
    quiet: list[str], results: Path, tmp_path: Path
) -> None:
    file = tmp_path / "new folder" / "rows.parquet"
    told = printed(SQL, *quiet, "--output", str(file), results=results)
    assert told == ("" if quiet else f"2 rows: {file}\n")
    assert pq.read_table(file)["decision"].to_pylist() == ["adopted", "a|b"]
    printed("growth", "--experiment", "one", "--format", "json", "--output", str(file), results=results)
    assert [row["decision"] for row in json.loads(file.read_text())] == ["adopted"]
    assert [path.name for path in file.parent.iterdir()] == ["rows.parquet"]


def test_a_file_may_lie_in_a_store(results: Path) -> None:
    printed(SQL, "--output", "memory://rows/rows.md", results=results)
    assert fsspec.filesystem("memory").cat_file("/rows/rows.md").decode().startswith("| experiment |")


def test_a_folder_is_no_place_for_rows(results: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").mkdir()
    assert "no file can be written there" in refusal(
        SQL, "--output", str(tmp_path / "rows.csv"), results=results
    )


# Tables, damaged parts, compacting


def test_a_printed_table_shows_values_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(pa.table({"site": ["[red]x", None], "loss": [0.123456789, 2.0], "shape": [[784, 10], []]}))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["site", "loss", "shape"] in lines
    assert ["[red]x", "0.123457", "[784,", "10]"] in lines
    assert ["2", "[]"] in lines


def test_the_command_names_a_damaged_part_on_stderr_and_succeeds(tmp_path: Path) -> None:
    writer = TableWriter(str(tmp_path), "run")
    writer.write("epochs", "good", [epoch(0, 0.5)])
    damage(Path(writer.write("epochs", "bad-part", [epoch(n, n / 7) for n in range(1, 50)])), "flipped")
    done = CliRunner().invoke(app, ["query", "SELECT epoch, loss FROM epochs", "--results", str(tmp_path)])
    assert done.exit_code == 0
    assert [line.split() for line in done.stdout.splitlines() if "0.5" in line] == [["0", "0.5"]]
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("skipped: ") and "bad-part.parquet" in done.stderr


def test_compact_says_how_many_parts_became_how_many(tmp_path: Path) -> None:
    results = str(tmp_path)
    TableWriter(results, "2024").write("epochs", "net-0", [epoch(number) for number in range(4)])
    TableWriter(results, "2024").write("experiments", "run", [{"trial": "", "status": "finished"}])
    TableWriter(results, "2024").write("epochs", "net-1", [epoch(9)])
    TableWriter(results, "2025").write("experiments", "run", [{"trial": "", "status": "running"}])
    done = CliRunner().invoke(
        app, ["query", "SELECT count(*) FROM epochs", "--compact", "--results", results]
    )
    lines = done.stdout.splitlines()
    assert lines[0] == "2024 epochs: 2 parts became 1, 5 rows"
    assert lines[1] == "left alone: experiment '2025': a trial of it is running"
    assert lines[-2].split() == ["5"]
    assert len(list_parts(results, "epochs")) == 1
    done = CliRunner().invoke(app, ["query", "--compact", "--results", results])
    assert done.stdout.splitlines()[0] == "Nothing to merge."
