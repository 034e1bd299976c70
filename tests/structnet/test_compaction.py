"""Compaction: fewer parts, the same rows, whatever happens on the way."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.table_cases import damage, epoch
from hypothesis import given
from hypothesis import strategies as st

from structnet.errors import UserError
from structnet.storage import compaction
from structnet.storage.compaction import Merged, compact
from structnet.storage.sql import run_query
from structnet.storage.tables import Part, TableWriter, list_parts, read_part, read_table


def ended(results: str, experiment: str = "run", *statuses: str) -> TableWriter:
    """A writer for an experiment whose trials have these statuses, one part each."""
    writer = TableWriter(results, experiment)
    for number, status in enumerate(statuses or ["finished"]):
        trial = "" if number == 0 else str(number)
        writer.write("experiments", trial or "run", [{"trial": trial, "status": status}])
    return writer


def names(results: str, table: str = "epochs") -> list[str]:
    return [part.name for part in list_parts(results, table)]


@pytest.fixture(params=["folder", "object store"])
def results(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return str(tmp_path)
    fsspec.filesystem("memory").store.clear()
    return "memory://test_compaction"


def test_the_parts_of_each_table_become_one_with_the_same_rows(results: str) -> None:
    for name in ("one", "two"):
        writer = ended(results, name, "finished", "failed")
        for number in (10, 9, 1):
            writer.write("epochs", f"net-{number}", [epoch(number, number / 7), epoch(0, number / 3)])
        writer.write("rounds", "round-0000", [{"trial": "", "round": 0, "architecture": [4, 2]}])
    before = {table: read_table(results, table) for table in ("epochs", "rounds", "experiments")}
    report = compact(results)
    assert report.merged == [
        Merged("one", "epochs", 3, 1, 4),
        Merged("one", "experiments", 2, 1, 2),
        Merged("two", "epochs", 3, 1, 4),
        Merged("two", "experiments", 2, 1, 2),
    ]
    assert report.left_alone == report.damaged == []
    assert names(results) == ["+merged-000001"] * 2
    for table, rows in before.items():
        assert read_table(results, table).equals(rows)
        assert run_query(results, f"FROM {table}").sort_by([("experiment", "ascending")]).num_rows == len(
            rows
        )
    assert run_query(results, "FROM epochs ORDER BY ALL").equals(before["epochs"])
    assert compact(results).merged == []


def test_a_merged_part_is_sorted_by_key_and_has_the_columns_of_its_table(tmp_path: Path) -> None:
    writer = ended(str(tmp_path))
    for number in (3, 1, 2):
        writer.write("epochs", f"net-{number}", [epoch(number)])
    compact(str(tmp_path))
    stored = pq.ParquetFile(tmp_path / "tables/epochs/experiment=run/+merged-000001.parquet")
    assert stored.read()["epoch"].to_pylist() == [1, 2, 3]
    assert stored.schema_arrow.names[:4] == ["trial", "network", "epoch", "parameters"]
    assert stored.metadata.row_group(0).column(0).compression == "ZSTD"


def test_one_experiment_and_one_table_can_be_chosen(results: str) -> None:
    for name in ("one", "two"):
        writer = ended(results, name, "finished", "finished")
        for number in range(2):
            writer.write("epochs", f"net-{number}", [epoch(number)])
    assert compact(results, "two", "epochs").merged == [Merged("two", "epochs", 2, 1, 2)]
    assert len(names(results)) == 3 and len(names(results, "experiments")) == 4


# What is left alone


@pytest.mark.parametrize("status", ["running", "interrupted", None])
def test_an_experiment_that_has_not_ended_is_left_alone_and_named(status: str | None, tmp_path: Path) -> None:
    results = str(tmp_path)
    writer = TableWriter(results, "open")
    if status:
        ended(results, "open", "finished", status)
    for number in range(2):
        writer.write("epochs", f"net-{number}", [epoch(number)])
    before = sorted(tmp_path.rglob("*"))
    report = compact(results)
    assert report.merged == []
    assert len(report.left_alone) == 1
    assert "experiment 'open'" in report.left_alone[0]
    assert (status or "no row in the table experiments") in report.left_alone[0]
    assert sorted(tmp_path.rglob("*")) == before


def test_an_experiment_whose_trials_cannot_all_be_read_is_left_alone(tmp_path: Path) -> None:
    writer = ended(str(tmp_path), "run", "finished", "finished")
    for number in range(2):
        writer.write("epochs", f"net-{number}", [epoch(number)])
    damage(tmp_path / "tables/experiments/experiment=run/1.parquet", "truncated")
    report = compact(str(tmp_path))
    assert report.merged == [] and "1.parquet" in report.left_alone[0]


@pytest.mark.parametrize("how", ["truncated", "flipped", "one bit"])
def test_a_damaged_part_stays_and_is_named_and_the_others_are_merged(how: str, tmp_path: Path) -> None:
    results = str(tmp_path)
    writer = ended(results)
    for number in (0, 1):
        writer.write("epochs", f"net-{number}", [epoch(number, 0.5)])
    bad = Path(writer.write("epochs", "bad", [epoch(n, n / 7) for n in range(2, 50)]))
    damage(bad, how)
    bytes_before = bad.read_bytes()
    for merged in ([Merged("run", "epochs", 2, 1, 2)], []):
        report = compact(results)
        assert report.merged == merged
        assert len(report.damaged) == 1 and "bad.parquet" in report.damaged[0]
        assert names(results) == ["+merged-000001", "bad"]
    assert bad.read_bytes() == bytes_before


def test_parts_of_a_later_version_are_left_alone_with_what_is_new_in_them(tmp_path: Path) -> None:
    writer = ended(str(tmp_path))
    path = Path(writer.write("epochs", "net-0", [epoch(0)]))
    writer.write("epochs", "net-1", [epoch(1)])
    pq.write_table(pq.ParquetFile(path).read().append_column("new", pa.array([1])), path)
    report = compact(str(tmp_path))
    assert report.merged == [] and "'new'" in report.left_alone[0]
    assert names(str(tmp_path)) == ["net-0", "net-1"]


def test_parts_of_an_earlier_version_have_null_in_columns_that_came_later(tmp_path: Path) -> None:
    writer = ended(str(tmp_path))
    keys = {"trial": "", "round": 1, "heat": 1, "candidate": 0}
    flags = dict.fromkeys(("control", "affordable", "eligible", "survived", "won", "audit"), True)
    path = Path(writer.write("candidates", "round-0001", [keys | flags]))
    pq.write_table(pq.ParquetFile(path).read().drop_columns("won"), path)
    writer.write("candidates", "round-0002", [keys | flags | {"round": 2}])
    compact(str(tmp_path))
    assert read_table(str(tmp_path), "candidates")["won"].to_pylist() == [None, True]


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        compact(str(tmp_path / "resutls"))
    with pytest.raises(UserError, match="experiment is 'rnu'"):
        compact(str(tmp_path), "rnu")
    with pytest.raises(ValueError, match="table is 'epcohs'"):
        compact(str(tmp_path), table="epcohs")


# Large tables


def test_large_tables_become_several_parts_and_full_ones_are_not_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "_ROWS_AT_MOST", 4)
    results = str(tmp_path)
    writer = ended(results, "run", "failed")
    for number in range(5):
        writer.write("epochs", f"net-{number}", [epoch(2 * number), epoch(2 * number + 1)])
    before = read_table(results, "epochs")
    assert compact(results).merged == [Merged("run", "epochs", 5, 3, 10)]
    assert names(results) == ["+merged-000001", "+merged-000002", "+merged-000003"]
    assert read_table(results, "epochs").equals(before)
    writer.write("epochs", "net-5", [epoch(10)])
    assert compact(results).merged == [Merged("run", "epochs", 4, 3, 11)]
    assert names(results) == ["+merged-000001", "+merged-000002", "+merged-000004"]


# Whatever happens on the way


class Stopped(BaseException):
    """The process dies here."""


class DyingFiles:
    """A file system that works for so many writes and removals."""

    def __init__(self, fs: Any, changes: int) -> None:
        self.fs, self.left = fs, changes

    def __getattr__(self, name: str) -> Any:
        if name in ("rm_file", "pipe_file"):
            self.left -= 1
            if self.left < 0:
                raise Stopped
        return getattr(self.fs, name)


PARTS = st.lists(
    st.tuples(
        st.sampled_from("abcde"),
        st.dictionaries(st.integers(0, 6), st.integers(0, 99), min_size=1, max_size=4),
    ),
    min_size=2,
    max_size=6,
)


@given(st.lists(st.tuples(PARTS, st.integers(0, 12)), min_size=1, max_size=3), st.sampled_from([3, 5, 100]))
def test_readers_see_the_same_rows_wherever_compaction_stops(
    sessions: list[tuple[list[tuple[str, dict[int, int]]], int]], at_most: int
) -> None:
    """Parts are written, compaction dies after some changes, the experiment goes on; in the end it is compacted."""
    results = "memory://test_compaction_stops"
    files = fsspec.filesystem("memory")
    files.store.clear()
    writer = ended(results, "run", "failed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compaction, "_ROWS_AT_MOST", at_most)
        for parts, changes in sessions:
            for name, losses in parts:
                writer.write("epochs", name, [epoch(at, loss) for at, loss in losses.items()])
            before = read_table(results, "epochs")
            patch.setattr(
                compaction,
                "open_folder",
                lambda results, changes=changes: (DyingFiles(files, changes), "/test_compaction_stops"),
            )
            for _ in range(2):
                with suppress(Stopped):
                    compact(results)
                assert read_table(results, "epochs").equals(before)
        patch.undo()
        before = read_table(results, "epochs")
        compact(results)
        assert read_table(results, "epochs").equals(before)
        assert len(names(results)) == 1


def test_what_a_resumed_experiment_writes_again_counts(results: str) -> None:
    writer = ended(results, "run", "failed")
    for name in ("a", "b"):
        writer.write("epochs", name, [epoch(0, 0.1)])
    compact(results)
    writer.write("epochs", "a", [epoch(0, 0.2)])
    assert read_table(results, "epochs")["loss"].to_pylist() == [0.2]
    assert run_query(results, "FROM epochs")["loss"].to_pylist() == [0.2]
    assert compact(results).merged == [Merged("run", "epochs", 2, 1, 1)]
    assert read_table(results, "epochs")["loss"].to_pylist() == [0.2]


def test_a_part_written_while_the_others_are_read_stops_the_merging(
    results: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = ended(results)
    for name in ("a", "b"):
        writer.write("epochs", name, [epoch(0, 0.1)])

    def read_and_write(fs: Any, table: str, part: Part) -> pa.Table:
        rows = read_part(fs, table, part)
        if part.name == "a" and table == "epochs":
            writer.write("epochs", "a", [epoch(0, 0.1), epoch(1, 0.2)])
        return rows

    monkeypatch.setattr(compaction, "read_part", read_and_write)
    report = compact(results)
    assert report.merged == [] and "written to" in report.left_alone[0]
    assert names(results) == ["a", "b"]
    assert read_table(results, "epochs").num_rows == 2


def test_a_part_written_again_before_its_removal_stays(results: str, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = ended(results)
    for name in ("a", "b", "c"):
        writer.write("epochs", name, [epoch(0, 0.1)])
    store = compaction.store_part

    def store_and_write(fs: Any, path: str, rows: pa.Table) -> None:
        store(fs, path, rows)
        writer.write("epochs", "b", [epoch(0, 0.1), epoch(1, 0.2)])

    monkeypatch.setattr(compaction, "store_part", store_and_write)
    assert compact(results).merged == [Merged("run", "epochs", 3, 3, 1)]
    assert names(results) == ["+merged-000001", "b", "c"]
    assert read_table(results, "epochs")["loss"].to_pylist() == [0.1, 0.2]
