"""Table files as they come: separators, encodings, decimal signs, missing values, and columns that are no data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from structnet.data.rows import counting_columns, joined_rows, read_rows
from structnet.errors import UserError

ROWS = {"a": [1.5, -2.0, 3.25], "b": ["x", "y, z", "x"], "label": ["one", "two", "one"]}


def written(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("decimal", [".", ","])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_a_table_is_read_as_pandas_wrote_it(
    separator: str, decimal: str, encoding: str, tmp_path: Path
) -> None:
    file = tmp_path / "rows.csv"
    frame = pd.DataFrame({**ROWS, "größe": [1, 2, 3]})
    frame.to_csv(file, sep=separator, decimal=decimal, encoding=encoding, index=False)
    rows = read_rows(file)
    if (separator, decimal) == (",", ","):
        # A comma cannot be both: pandas has put such numbers in quotes, and they stay texts.
        assert rows.table["a"].to_pylist() == ["1,5", "-2,0", "3,25"]
    else:
        assert rows.table.to_pydict() == frame.to_dict(orient="list")
    assert rows.keys == ()
    assert rows.notes == ((f"rows.csv is read as {encoding}.",) if encoding in ("utf-16", "cp1252") else ())


def test_a_tsv_file_is_a_table(tmp_path: Path) -> None:
    assert read_rows(written(tmp_path / "rows.tsv", "a\tlabel\n1\tx\n")).table.to_pydict() == {
        "a": [1],
        "label": ["x"],
    }


@pytest.mark.parametrize("word", ["", "NA", "nan", "null", "?", "None"])
def test_what_is_missing_is_missing_but_in_a_label(word: str, tmp_path: Path) -> None:
    file = written(tmp_path / "rows.csv", f"a,b,label\n1,{word},{word}\n{word},x,NA\n")
    table = read_rows(file).table
    assert table["a"].to_pylist() == [1.0, None]
    assert table["b"].to_pylist() == [None, "x"]
    assert table["label"].to_pylist() == [word or None, "NA"]


def test_columns_of_one_kind_of_words_are_booleans_and_mixed_ones_texts(tmp_path: Path) -> None:
    file = written(tmp_path / "rows.csv", "yes,mixed,gaps\ntrue,1,True\nfalse,x,\ntrue,2.5,False\n")
    table = read_rows(file).table
    assert table["yes"].to_pylist() == [True, False, True]
    assert table["mixed"].to_pylist() == ["1", "x", "2.5"]
    assert [value and str(value) for value in table["gaps"].to_pylist()] == ["True", None, "False"]


def test_a_type_that_changes_late_is_that_of_the_whole_column(tmp_path: Path) -> None:
    file = written(tmp_path / "rows.csv", "a,label\n" + "1,x\n" * 300_000 + "late,x\n")
    values = read_rows(file).table["a"]
    assert pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
    assert (values[0].as_py(), values[-1].as_py()) == ("1", "late")


def test_the_unnamed_first_column_of_a_csv_file_is_an_index(tmp_path: Path) -> None:
    pd.DataFrame(ROWS).to_csv(tmp_path / "rows.csv")
    rows = read_rows(tmp_path / "rows.csv")
    assert rows.keys == ("unnamed column 1",)
    assert rows.table["unnamed column 1"].to_pylist() == [0, 1, 2]


def test_the_index_that_pandas_records_in_parquet_is_one(tmp_path: Path) -> None:
    frame = pd.DataFrame(ROWS, index=pd.Index([7, 5, 6]))
    frame.to_parquet(tmp_path / "rows.parquet")
    assert read_rows(tmp_path / "rows.parquet").keys == ("__index_level_0__",)
    frame.rename_axis("who").to_parquet(tmp_path / "named.parquet")
    assert read_rows(tmp_path / "named.parquet").keys == ("who",)
    frame.to_parquet(tmp_path / "none.parquet", index=False)
    assert read_rows(tmp_path / "none.parquet").keys == ()


def test_a_separator_at_the_end_of_each_line_makes_an_empty_column(tmp_path: Path) -> None:
    table = read_rows(written(tmp_path / "rows.csv", "a,label,\n1,x,\n2,y,\n")).table
    assert table.column_names == ["a", "label", "unnamed column 3"]
    assert table["unnamed column 3"].null_count == 2


@pytest.mark.parametrize("lines", ["1,x\n1,2,3\n", "1,x\n1,x,,\n", "1,2,3\n1,2,3\n"])
def test_lines_with_more_cells_than_the_first_are_refused(lines: str, tmp_path: Path) -> None:
    file = written(tmp_path / "rows.csv", f"a,label\n{lines}")
    with pytest.raises(UserError, match=r"rows\.csv cannot be read") as error:
        read_rows(file)
    assert "\n" not in str(error.value)


def test_the_parts_of_a_split_are_joined_in_their_order(tmp_path: Path) -> None:
    files = [tmp_path / f"{part}.parquet" for part in (0, 1)]
    pq.write_table(pa.table({"a": [1, 2], "label": ["x", "y"]}), files[0])
    pq.write_table(pa.table({"label": ["z"], "a": [2.5]}), files[1])
    assert joined_rows(files).table.to_pydict() == {"a": [1.0, 2.0, 2.5], "label": ["x", "y", "z"]}
    pq.write_table(pa.table({"b": [1], "label": ["z"]}), files[1])
    with pytest.raises(
        UserError, match=r"1.parquet has the columns 'b', 'label', but 0.parquet has 'a', 'label'"
    ):
        joined_rows(files)
    pq.write_table(pa.table({"a": [[1]], "label": ["z"]}), files[1])
    with pytest.raises(UserError, match="do not fit each other"):
        joined_rows(files)


COUNTING: dict[str, tuple[list[Any], bool]] = {
    "from 0": (list(range(30)), True),
    "from 1000, backwards": (list(range(1030, 1000, -1)), True),
    "shuffled": (np.random.default_rng(0).permutation(30).tolist(), True),
    "one twice": ([*range(29), 0], False),
    "a gap": ([*range(29), 30], False),
    "one twice in place of another": ([0, 0, *range(2, 30)], False),
    "few rows": (list(range(19)), False),
    "real numbers": ([float(at) for at in range(30)], False),
    "a hole": ([*range(29), None], False),
}


@pytest.mark.parametrize("case", COUNTING)
def test_columns_that_number_the_rows_are_found(case: str) -> None:
    values, counts = COUNTING[case]
    table = pa.table({"n": values, "label": values})
    assert counting_columns(table, "label") == (["n"] if counts else [])


@given(
    st.lists(
        st.tuples(
            st.floats(-1e6, 1e6, allow_subnormal=False),
            st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=8),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_any_numbers_and_texts_come_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[float, str]]
) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    numbers, texts = zip(*rows)
    pd.DataFrame({"a": numbers, "label": [f"class {text}" for text in texts]}).to_csv(path, index=False)
    table = read_rows(path).table
    assert np.allclose(table["a"].to_numpy(), numbers, rtol=1e-12)
    assert table["label"].to_pylist() == [f"class {text}" for text in texts]
