"""Parts of tables are whole or absent, and rows are unique by key."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from helpers.table_cases import DAMAGES, damage, epoch
from hypothesis import given
from hypothesis import strategies as st

from structnet.errors import UserError
from structnet.storage import atomic, tables
from structnet.storage.atomic import StoreFailed
from structnet.storage.sql import run_query
from structnet.storage.tables import KEYS, SCHEMAS, Part, TableWriter, check_name, list_parts, read_table


def example_row(table: str) -> dict[str, Any]:
    """One row with a value in every column."""
    values: dict[pa.DataType, Any] = {
        pa.string(): "x",
        pa.int64(): 3,
        pa.float64(): 0.5,
        pa.bool_(): True,
        pa.list_(pa.int64()): [784, 10],
        pa.list_(pa.float64()): [0.5, 1.25],
        pa.list_(pa.string()): ["age", "colour = red"],
        pa.list_(pa.list_(pa.int64())): [[28, 28], [1, 1]],
        pa.timestamp("us", tz="UTC"): datetime(2024, 1, 2, tzinfo=UTC),
    }
    return {field.name: values[field.type] for field in SCHEMAS[table]}


# Schemas


def test_the_tables_have_their_columns_in_order() -> None:
    counts = {name: len(schema) for name, schema in SCHEMAS.items()}
    assert counts == {
        "experiments": 36,
        "networks": 62,
        "epochs": 19,
        "candidates": 35,
        "rounds": 43,
        "fronts": 21,
        "confusions": 6,
        "mistakes": 9,
        "connectivity": 7,
        "decisions": 13,
        "head_scores": 7,
        "measurements": 6,
        "benchmarks": 8,
    }
    expected = (
        "trial network epoch parameters learning_rate train_loss loss accuracy seconds test_loss test_accuracy "
        "connections moved trend centre_ratio core_centre_ratio ring_ratio core_ring_ratio phase"
    )
    assert " ".join(SCHEMAS["epochs"].names) == expected
    assert SCHEMAS["rounds"].names[-16:] == [
        "triggered_by",
        "share_deciding",
        "credits_deciding",
        "forks_afforded",
        "bytes",
        "sides",
        "macs",
        "window",
        "flat",
        "link_sources",
        "link_targets",
        "link_connections",
        "link_possible",
        "input_reads",
        "group_saturated",
        "group_dead",
    ]
    for table, key in KEYS.items():
        assert set(key) <= set(SCHEMAS[table].names)
        assert "experiment" not in SCHEMAS[table].names


@pytest.mark.parametrize("table", SCHEMAS)
def test_every_table_reads_back_what_was_written(table: str, tmp_path: Path) -> None:
    row = example_row(table)
    TableWriter(str(tmp_path), "2024").write(table, "all", [row])
    assert read_table(str(tmp_path), table).to_pylist() == [{"experiment": "2024"} | row]
    assert run_query(str(tmp_path), f"FROM {table}").to_pylist() == [{"experiment": "2024"} | row]


# Names


@pytest.mark.parametrize("name", ["a", "2024", "run-1_b.2", "x" * 100, "a..b"])
def test_plain_names_pass(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "/x", "a\\b", "-a", "a b", "a\n", "é", "x" * 101]
)
def test_names_that_are_not_plain_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name is"):
        check_name(name)
    with pytest.raises(UserError):
        TableWriter(str(tmp_path), name)
    with pytest.raises(UserError):
        read_table(str(tmp_path), "epochs", name)


# Writing


def test_a_part_lies_where_its_key_says_without_the_experiment_in_it(tmp_path: Path) -> None:
    path = TableWriter(str(tmp_path), "run").write("epochs", "net-0", [epoch(1)])
    assert path == str(tmp_path / "tables/epochs/experiment=run/net-0.parquet")
    stored = pq.ParquetFile(path)
    assert stored.schema_arrow.names == SCHEMAS["epochs"].names
    assert stored.metadata.row_group(0).column(0).compression == "ZSTD"


def test_a_part_written_again_replaces_itself(tmp_path: Path) -> None:
    writer = TableWriter(str(tmp_path), "run")
    writer.write("epochs", "net-0", [epoch(1, 0.1), epoch(2, 0.2)])
    writer.write("epochs", "net-0", [epoch(1, 0.3)])
    assert read_table(str(tmp_path), "epochs")["loss"].to_pylist() == [0.3]


def test_a_write_that_dies_leaves_the_old_part_and_no_debris(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = TableWriter(str(tmp_path), "run")
    path = Path(writer.write("epochs", "net-0", [epoch(1, 0.1)]))

    def die(handle: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(atomic, "PAUSES", ())
    monkeypatch.setattr(atomic.os, "fsync", die)
    with pytest.raises(StoreFailed, match="no space left"):
        writer.write("epochs", "net-0", [epoch(1, 0.2)])
    assert read_table(str(tmp_path), "epochs")["loss"].to_pylist() == [0.1]
    assert [file.name for file in path.parent.iterdir()] == ["net-0.parquet"]


def test_a_part_appears_by_renaming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = TableWriter(str(tmp_path), "run")
    writer.write("epochs", "net-0", [epoch(1, 0.1)])

    def die(source: Path, target: Path) -> None:
        raise OSError("power cut")

    monkeypatch.setattr(atomic, "PAUSES", ())
    monkeypatch.setattr(Path, "replace", die)
    with pytest.raises(StoreFailed, match="power cut"):
        writer.write("epochs", "net-0", [epoch(1, 0.2)])
    assert read_table(str(tmp_path), "epochs")["loss"].to_pylist() == [0.1]


def test_a_half_written_temporary_file_is_no_part(tmp_path: Path) -> None:
    path = Path(TableWriter(str(tmp_path), "run").write("epochs", "net-0", [epoch(1)]))
    (path.parent / ".net-1.parquet.123.tmp").write_bytes(b"PAR1")
    assert read_table(str(tmp_path), "epochs").num_rows == 1
    assert run_query(str(tmp_path), "FROM epochs").num_rows == 1


CANDIDATE = example_row("candidates")


@pytest.mark.parametrize(
    ("table", "rows", "message"),
    [
        ("nosuch", [], "table is 'nosuch'"),
        ("epochs", [epoch(1) | {"lost": 1}], "no column 'lost'"),
        ("epochs", [{"trial": "", "network": "0"}], "has no 'epoch'"),
        ("epochs", [epoch(1) | {"trial": None}], "has no 'trial'"),
        ("epochs", [epoch(1), epoch(1)], "two rows with the key"),
        ("epochs", [epoch(1) | {"parameters": 1.5}], "'parameters' of epochs is 1.5"),
        ("epochs", [epoch(1) | {"parameters": True}], "'parameters' of epochs"),
        ("epochs", [epoch(1) | {"loss": "low"}], "'loss' of epochs"),
        ("epochs", [{"trial": "", "network": 0, "epoch": 1}], "'network' of epochs"),
        ("candidates", [CANDIDATE | {"won": None}], "has no 'won'"),
        ("candidates", [{k: v for k, v in CANDIDATE.items() if k != "control"}], "has no 'control'"),
        ("rounds", [{"trial": "", "round": 0, "architecture": [7.5, 2]}], "'architecture' of rounds"),
        ("experiments", [{"trial": "", "started_at": datetime(2024, 1, 1)}], "'started_at'"),
    ],
)
def test_rows_that_do_not_fit_are_errors_of_the_program(
    table: str, rows: list[dict[str, Any]], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        TableWriter(str(tmp_path), "run").write(table, "part", rows)
    assert not list(tmp_path.rglob("*.parquet"))


@pytest.mark.parametrize("part", ["", "../x", "a/b", ".hidden"])
def test_a_part_cannot_leave_its_folder(part: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="part is"):
        TableWriter(str(tmp_path), "run").write("epochs", part, [epoch(1)])


def test_a_results_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"results is .*cannot be written.*--results"):
        TableWriter(str(tmp_path / "file" / "results"), "run")
    with pytest.raises(UserError, match="fsspec URL"):
        TableWriter("nosuchprotocol://bucket", "run")


def test_an_object_store_holds_the_same_tables() -> None:
    results = "memory://test_tables"
    writer = TableWriter(results, "2024")
    writer.write("epochs", "b", [epoch(1, 0.2)])
    writer.write("epochs", "a", [epoch(1, 0.1), epoch(0)])
    assert read_table(results, "epochs")["loss"].to_pylist() == [None, 0.2]
    assert run_query(results, "SELECT loss FROM epochs ORDER BY epoch")["loss"].to_pylist() == [None, 0.2]


# Reading


def test_a_table_without_parts_is_empty_with_all_columns(tmp_path: Path) -> None:
    for rows in (read_table(str(tmp_path / "none"), "rounds"), run_query(str(tmp_path), "FROM rounds")):
        assert rows.num_rows == 0
        assert rows.column_names == ["experiment", *SCHEMAS["rounds"].names]


def test_rows_are_unique_by_key_and_the_last_part_by_name_wins(tmp_path: Path) -> None:
    for name in ("one", "two"):
        writer = TableWriter(str(tmp_path), name)
        writer.write("epochs", "b", [epoch(1, 0.2)])
        writer.write("epochs", "a", [epoch(2, 0.9), epoch(1, 0.1)])
    expected = [("one", 1, 0.2), ("one", 2, 0.9), ("two", 1, 0.2), ("two", 2, 0.9)]
    rows = read_table(str(tmp_path), "epochs").to_pylist()
    assert [(row["experiment"], row["epoch"], row["loss"]) for row in rows] == expected
    asked = run_query(str(tmp_path), "SELECT experiment, epoch, loss FROM epochs ORDER BY 1, 2").to_pylist()
    assert [tuple(row.values()) for row in asked] == expected
    assert read_table(str(tmp_path), "epochs", "two").num_rows == 2


@given(
    st.lists(
        st.dictionaries(st.integers(0, 5), st.floats(allow_nan=False), max_size=4), min_size=1, max_size=4
    )
)
def test_any_sequence_of_parts_reads_as_the_last_value_of_each_key(
    tmp_path_factory: pytest.TempPathFactory, parts: list[dict[int, float]]
) -> None:
    results = str(tmp_path_factory.mktemp("results"))
    writer = TableWriter(results, "run")
    expected: dict[int, float] = {}
    for number, losses in enumerate(parts):
        writer.write("epochs", f"part-{number}", [epoch(at, loss) for at, loss in losses.items()])
        expected |= losses
    rows = read_table(results, "epochs").to_pylist()
    assert [(row["epoch"], row["loss"]) for row in rows] == sorted(expected.items())


def write_foreign(tmp_path: Path, name: str, rows: pa.Table) -> Path:
    path = tmp_path / "tables/epochs/experiment=run" / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, path)
    return path


def test_many_parts_read_as_few_do(tmp_path: Path) -> None:
    """They are joined as they are read: of two rows with a key the later one stays, however far apart."""
    writer, count = TableWriter(str(tmp_path), "run"), 2 * tables.PARTS_TOGETHER + 3
    for number in range(count):
        writer.write("epochs", f"part-{number:04d}", [epoch(number % (count - 1), float(number))])
    rows = read_table(str(tmp_path), "epochs", "run").to_pylist()
    assert [row["epoch"] for row in rows] == list(range(count - 1))
    assert [row["loss"] for row in rows] == [float(count - 1), *map(float, range(1, count - 1))]


def test_a_store_that_cannot_be_read_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Away(MemoryFileSystem):
        cachable = False

        def find(self, *_: Any, **__: Any) -> Any:
            raise LookupError("no such bucket, says the store\nand more")

    monkeypatch.setattr(tables, "open_folder", lambda results: (Away(), "bucket"))
    with pytest.raises(
        UserError, match=r"^results is 's3://bucket', but cannot be read \(no such bucket, says the store\)"
    ):
        read_table("s3://bucket", "epochs")


def test_an_older_part_has_null_in_columns_that_came_later(tmp_path: Path) -> None:
    old = pa.table({"trial": [""], "network": ["0"], "epoch": pa.array([7], pa.int32()), "extra": [1]})
    write_foreign(tmp_path, "old", old)
    TableWriter(str(tmp_path), "run").write("epochs", "new", [epoch(8, 0.5)])
    for rows in (
        read_table(str(tmp_path), "epochs"),
        run_query(str(tmp_path), "FROM epochs ORDER BY epoch"),
    ):
        assert [(row["epoch"], row["loss"]) for row in rows.to_pylist()] == [(7, None), (8, 0.5)]
        assert rows.column_names == ["experiment", *SCHEMAS["epochs"].names]


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_part_is_refused_by_name_and_can_be_skipped(how: str, tmp_path: Path) -> None:
    writer = TableWriter(str(tmp_path), "run")
    writer.write("epochs", "good", [epoch(0, 0.5)])
    bad = Path(writer.write("epochs", "bad-part", [epoch(n, n / 7) for n in range(1, 50)]))
    damage(bad, how)
    with pytest.raises(UserError, match=r"bad-part\.parquet"):
        read_table(str(tmp_path), "epochs")
    with pytest.warns(UserWarning, match=r"skipped: .*bad-part\.parquet"):
        rows = read_table(str(tmp_path), "epochs", skip_damaged=True)
    assert rows["loss"].to_pylist() == [0.5]


def test_a_part_that_goes_after_it_was_listed_is_looked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = TableWriter(str(tmp_path), "run")
    writer.write("epochs", "a", [epoch(0, 0.5)])
    old = Path(writer.write("epochs", "b", [epoch(1, 0.25)]))

    def merge_after_listing(*which: str) -> list[Part]:
        parts = list_parts(*which)
        if old.exists():
            writer.write("epochs", "0", [epoch(1, 0.25)])
            old.unlink()
        return parts

    monkeypatch.setattr(tables, "list_parts", merge_after_listing)
    assert read_table(str(tmp_path), "epochs")["loss"].to_pylist() == [0.5, 0.25]
    old.symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"b\.parquet"):
        read_table(str(tmp_path), "epochs")


def test_parts_are_listed_by_experiment_and_name_and_nothing_else_is(tmp_path: Path) -> None:
    for name in ("b", "a"):
        TableWriter(str(tmp_path), name).write("epochs", "p", [epoch(1)])
    folder = tmp_path / "tables" / "epochs"
    (folder / "notes.parquet").write_bytes(b"")
    for deep in ("deep", "experiment=deep"):
        (folder / "experiment=a" / deep).mkdir()
        (folder / "experiment=a" / deep / "x.parquet").write_bytes(b"")
    found = [(part.experiment, part.name) for part in list_parts(str(tmp_path), "epochs")]
    assert found == [("a", "p"), ("b", "p")]
