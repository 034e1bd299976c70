"""SQL over the tables: it can only read, rows are unique, and a damaged part is named and left out."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from helpers.table_cases import DAMAGES, damage, epoch
from hypothesis import given
from hypothesis import strategies as st

from structnet.errors import UserError
from structnet.storage import sql
from structnet.storage.schemas import SCHEMAS
from structnet.storage.sql import run_query
from structnet.storage.tables import TableWriter, read_table


@pytest.fixture
def results(tmp_path: Path) -> str:
    writer = TableWriter(str(tmp_path), "2024")
    writer.write("epochs", "net-0", [epoch(number, number / 4) for number in range(4)])
    writer.write("experiments", "run", [{"trial": "", "started_at": datetime(2024, 5, 6, 7, tzinfo=UTC)}])
    return str(tmp_path)


def test_an_experiment_named_like_a_number_stays_text(results: str) -> None:
    rows = run_query(results, "SELECT DISTINCT experiment FROM epochs WHERE experiment = '2024'")
    assert rows.schema.field("experiment").type == pa.string()
    assert rows.to_pylist() == [{"experiment": "2024"}]


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("SELECT max(loss) FROM epochs;", 1),
        ("-- why\nWITH low AS (FROM epochs WHERE loss < 0.3) SELECT * FROM low", 2),
        ("DESCRIBE epochs", 1 + len(SCHEMAS["epochs"])),
        ("SHOW TABLES", len(SCHEMAS)),
        ("SUMMARIZE epochs", 1 + len(SCHEMAS["epochs"])),
        ("EXPLAIN SELECT * FROM epochs", 1),
        ("SELECT * FROM epochs JOIN experiments USING (experiment, trial)", 4),
    ],
)
def test_statements_that_read_are_answered(sql: str, rows: int, results: str) -> None:
    assert run_query(results, sql).num_rows == rows


def test_times_are_in_utc(results: str) -> None:
    assert run_query(results, "SELECT CAST(started_at AS VARCHAR) AS at FROM experiments")[
        "at"
    ].to_pylist() == ["2024-05-06 07:00:00+00"]


@pytest.mark.parametrize(
    "sql",
    [
        "COPY epochs TO '{0}/stolen.csv'",
        "COPY (SELECT 1) TO '{0}/tables/stolen.csv'",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{0}/tables/stolen.csv'",
        "EXPORT DATABASE '{0}/stolen'",
        "CREATE TABLE stolen AS SELECT 1",
        "CREATE OR REPLACE VIEW epochs AS SELECT 1",
        "DROP VIEW epochs",
        "INSERT INTO epochs VALUES (1)",
        "ATTACH '{0}/stolen.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "PRAGMA database_list",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM read_text('{0}/secret')",
        "SELECT * FROM read_parquet('{0}/tables/epochs/experiment=2024/net-0.parquet')",
        "SELECT * FROM read_parquet('https://example.com/x.parquet')",
        "SELECT * FROM fragments",
        "SELECT 1; SELECT 2",
        "SELECT 1; COPY (SELECT 1) TO '{0}/stolen.csv'",
        "",
        "SELEC 1",
        "SELECT nothing FROM epochs",
    ],
)
def test_everything_else_is_refused_in_one_line(sql: str, results: str) -> None:
    (Path(results) / "secret").write_text("secret")
    before = sorted(Path(results).rglob("*"))
    with pytest.raises(UserError) as error:
        run_query(results, sql.format(results))
    assert "\n" not in str(error.value)
    assert sorted(Path(results).rglob("*")) == before


def test_no_extension_is_fetched_to_name_the_tables(results: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """DuckDB would go to the network for what reads such a file, before anybody asks it for rows."""
    import duckdb

    made: list[dict[str, Any]] = []
    connect = duckdb.connect
    monkeypatch.setattr(duckdb, "connect", lambda **how: made.append(how) or connect(**how))
    with pytest.raises(UserError):
        run_query(results, "SELECT * FROM read_parquet('https://example.com/x.parquet')")
    assert made[0] == {"config": {"enable_external_access": False}}


def test_a_results_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        run_query(str(tmp_path / "resutls"), "SHOW TABLES")


# One row for each key


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.dictionaries(st.integers(0, 5), st.floats(0, 1), max_size=4)),
        min_size=1,
        max_size=5,
    )
)
def test_rows_are_those_of_the_reader_however_parts_overlap(
    tmp_path_factory: pytest.TempPathFactory, parts: list[tuple[str, dict[int, float]]]
) -> None:
    results = str(tmp_path_factory.mktemp("results"))
    for number, (experiment, losses) in enumerate(parts):
        rows = [epoch(at, loss) for at, loss in losses.items()]
        TableWriter(results, experiment).write("epochs", f"part-{number}", rows)
    expected = read_table(results, "epochs")
    assert run_query(results, "FROM epochs ORDER BY experiment, epoch").equals(expected)
    # A name that is put together while the statement runs is not seen before.
    hidden = "SELECT * FROM query_table('ep' || 'ochs') ORDER BY experiment, epoch"
    assert run_query(results, hidden).equals(expected)


# Damaged parts


@pytest.fixture
def damaged(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a good and a bad part of `epochs`, and a `rounds` with a column `candidates`."""

    def write(how: str) -> Path:
        writer = TableWriter(str(tmp_path), "run")
        writer.write("epochs", "good", [epoch(0, 0.5)])
        writer.write("rounds", "0", [{"trial": "", "round": 0, "candidates": 3}])
        bad = Path(writer.write("epochs", "bad-part", [epoch(n, n / 7) for n in range(1, 50)]))
        damage(bad, how)
        return tmp_path

    return write


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_part_is_named_and_the_rest_is_answered(how: str, damaged: Callable[[str], Path]) -> None:
    results = str(damaged(how))
    with pytest.warns(UserWarning, match=r"skipped: .*bad-part\.parquet is not a whole part") as caught:
        rows = run_query(results, "SELECT count(*) AS n, sum(loss) AS loss, max(epoch) AS epoch FROM epochs")
    assert rows.to_pylist() == [{"n": 1, "loss": 0.5, "epoch": 0}]
    assert len(caught) == 1 and "\n" not in str(caught[0].message)


@pytest.mark.parametrize("how", ["truncated", "one bit"])
def test_a_statement_without_the_damaged_table_says_nothing_of_it(
    how: str, damaged: Callable[[str], Path]
) -> None:
    results = str(damaged(how))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run_query(results, "SELECT candidates AS epochs FROM rounds").num_rows == 1
        assert run_query(results, "SHOW TABLES").num_rows == len(SCHEMAS)


def test_a_mistake_in_a_statement_does_not_blame_the_parts(results: str) -> None:
    with pytest.raises(UserError, match=r"DuckDB refuses the statement .*why not"):
        run_query(results, "SELECT error('why not') FROM epochs")


@pytest.mark.parametrize("after", ["list_parts", "_bad_footers"])
@pytest.mark.parametrize("name", ["a", "b"])
def test_parts_that_change_while_they_are_read_are_read_again(
    name: str, after: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After it was listed, or its footer was read, a part is replaced by one of its or another name."""
    writer = TableWriter(str(tmp_path), "run")
    old = Path(writer.write("epochs", "b", [epoch(n, n / 7) for n in range(300)]))
    unchanged = getattr(sql, after)
    to_come = [name]

    def change_after(*arguments: Any) -> Any:
        found = unchanged(*arguments)
        if found or after == "_bad_footers":
            for name in to_come:
                old.unlink()
                writer.write("epochs", name, [epoch(1, 0.25)])
            to_come.clear()
        return found

    monkeypatch.setattr(sql, after, change_after)
    assert run_query(str(tmp_path), "SELECT loss FROM epochs").to_pylist() == [{"loss": 0.25}]
    assert not to_come
