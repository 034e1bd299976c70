"""`structnet query`: how rows are printed, what it says of damaged parts, and what compacting tells."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from helpers.table_cases import damage, epoch
from typer.testing import CliRunner

from search.cli import app
from search.commands.query.run import print_table
from structnet.errors import UserError
from structnet.storage.tables import TableWriter, list_parts


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


def test_the_command_needs_a_statement_or_compact(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["query", "--results", str(tmp_path)])
    assert isinstance(done.exception, UserError) and "\n" not in str(done.exception)


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
