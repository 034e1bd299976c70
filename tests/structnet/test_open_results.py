"""`structnet.open_results`: relations, frames and Arrow tables of what is there now, and nothing is ever written."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest
from helpers.table_cases import damage, epoch

import structnet
from structnet.errors import UserError
from structnet.storage.results import Results
from structnet.storage.schemas import SCHEMAS
from structnet.storage.tables import TableWriter, read_table, with_experiment

BIG = 2**53 + 1  # no real number


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("one", "two"):
        writer = TableWriter(str(tmp_path), name)
        writer.write("epochs", "part", [epoch(number, number / 4) for number in range(3)])
        rows = [
            {"trial": "", "round": 0, "parameters": BIG, "architecture": [64, 10]},
            {"trial": "", "round": 1},
        ]
        writer.write("rounds", "part", rows)
    return tmp_path


@pytest.fixture
def results(folder: Path) -> Results:
    return structnet.open_results(folder)


def test_a_relation_is_the_table_as_it_is(results: Results, folder: Path) -> None:
    expected = read_table(str(folder), "rounds")
    for relation in (results.rounds, results.table("rounds"), results.sql("FROM rounds")):
        assert relation.order("experiment, round").to_arrow_table().equals(expected)
    assert results.rounds.filter("round = 1").aggregate("count(*)").fetchall() == [(2,)]
    assert results.table("rounds", "two").project("experiment, round").fetchall() == [("two", 0), ("two", 1)]
    assert results.sql("SELECT count(*) FROM epochs", "two").fetchall() == [(3,)]


def test_every_table_is_there_even_if_empty(results: Results) -> None:
    for table, schema in SCHEMAS.items():
        assert results.table(table).columns == ["experiment", *schema.names]
        assert results.arrow(table).schema == with_experiment(schema)
    assert {"rounds", "table"} <= set(dir(results))


def test_arrow_and_pandas_have_the_same_rows_sorted(results: Results, folder: Path) -> None:
    rows = results.arrow("rounds", "two")
    assert rows.equals(read_table(str(folder), "rounds", "two"))
    frame = results.frame("rounds", "two")
    assert [*frame["round"]] == [0, 1] and [*frame["experiment"]] == ["two", "two"]
    assert frame["parameters"].dtype == pd.Int64Dtype()
    assert frame["parameters"][0] == BIG and frame["parameters"][1] is pd.NA
    assert [*frame["architecture"][0]] == [64, 10]
    assert len(results.frame("rounds")) == 4


def test_each_call_sees_what_a_running_experiment_has_written_since(results: Results, folder: Path) -> None:
    before = results.rounds
    TableWriter(str(folder), "three").write("rounds", "part", [{"trial": "", "round": 7}])
    assert results.experiments() == ["one", "three", "two"]
    assert len(results.frame("rounds")) == results.rounds.count("*").fetchall()[0][0] == 5
    assert before.count("*").fetchall() == [(4,)]


def test_a_relation_outlives_the_results_it_came_from(folder: Path) -> None:
    relation = structnet.open_results(str(folder)).rounds
    assert relation.count("*").fetchall() == [(4,)]


@pytest.mark.parametrize(
    "write",
    [
        lambda relation, path: relation.write_csv(f"{path}/stolen.csv"),
        lambda relation, path: relation.to_parquet(f"{path}/stolen.parquet"),
        lambda relation, path: relation.query("rows", f"COPY rows TO '{path}/tables/stolen.csv'"),
        lambda relation, path: relation.query("rows", f"ATTACH '{path}/stolen.db'"),
        lambda relation, path: relation.query("rows", "SET enable_external_access = true"),
        lambda relation, path: relation.query("rows", f"FROM read_text('{path}/secret')"),
        lambda relation, path: relation.query("rows", f"FROM '{path}/secret.csv'"),
    ],
)
def test_a_relation_can_neither_write_nor_read_other_files(
    write: Callable[[duckdb.DuckDBPyRelation, Path], Any], results: Results, folder: Path
) -> None:
    (folder / "secret").write_text("secret")
    (folder / "secret.csv").write_text("a,b\n1,2\n")
    before = sorted(folder.rglob("*"))
    with pytest.raises(duckdb.Error):
        made = write(results.rounds, folder)
        made.fetchall()
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("ask", "reason"),
    [
        (lambda results: results.table("round"), "must be one of experiments, networks"),
        (lambda results: results.frame("round"), "must be one of experiments, networks"),
        (lambda results: results.frame("rounds", "tow"), "is it two"),
        (lambda results: results.table("rounds", "xyz"), "structnet status"),
        (lambda results: results.sql("SELECT 1", "../two"), "letters, digits"),
        (lambda results: results.sql("COPY rounds TO 'x.csv'"), "can only be read"),
        (lambda results: results.sql("SELECT nothing FROM rounds"), "DuckDB refuses"),
        (lambda results: structnet.open_results(f"{results.path}/none"), "no such folder"),
    ],
)
def test_what_is_not_there_is_refused_in_one_line(
    ask: Callable[[Results], Any], reason: str, results: Results
) -> None:
    with pytest.raises(UserError) as error:
        ask(results)
    assert reason in str(error.value) and "\n" not in str(error.value)


def test_an_attribute_that_is_no_table_is_none(results: Results) -> None:
    with pytest.raises(AttributeError, match="no table 'round'"):
        _ = results.round
    assert results.frame("rounds", "one").equals(results.frame("rounds", "one"))


def test_an_experiment_without_rows_in_a_table_is_empty_there(results: Results) -> None:
    assert results.arrow("networks", "one").num_rows == len(results.frame("networks", "one")) == 0
    assert results.table("networks", "one").fetchall() == []


@pytest.mark.parametrize("form", ["relation", "arrow", "frame"])
def test_a_damaged_part_is_named_and_the_rest_is_there(form: str, results: Results, folder: Path) -> None:
    damage(Path(TableWriter(str(folder), "two").write("epochs", "bad", [epoch(9)])), "no footer")
    with pytest.warns(UserWarning, match=r"skipped: .*bad\.parquet") as caught:
        if form == "relation":
            assert results.epochs.count("*").fetchall() == [(6,)]
        else:
            assert len(getattr(results, form)("epochs")) == 6
    assert len(caught) == 1


def test_what_a_part_is_damaged_by_inside_is_raised_when_it_is_read(results: Results, folder: Path) -> None:
    part = TableWriter(str(folder), "two").write("epochs", "bad", [epoch(n, n / 7) for n in range(50)])
    damage(Path(part), "one bit")
    relation = results.epochs.aggregate("sum(loss)")
    with pytest.raises(duckdb.Error):
        relation.fetchall()


def test_torch_is_not_loaded_for_it(folder: Path) -> None:
    code = "import sys, structnet; structnet.open_results(sys.argv[1]).frame('rounds'); print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
