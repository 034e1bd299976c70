"""The forms that rows of a query take: other programs read from each what was in the tables."""

from __future__ import annotations

import html
import io
import json
import math
import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from pyarrow import csv

from search.commands.query.formats import ENDINGS, encode, format_of
from structnet.errors import UserError
from structnet.storage.schemas import INTS, REALS, TIME
from structnet.storage.sql import run_query

NASTY = [
    *[
        "",
        " ",
        "a|b",
        "l1\nl2",
        "r\r\nn",
        'say "x", y',
        "tab\there",
        "null",
        "NaN",
        "<script>alert(1)</script>",
    ],
    *[
        "&lt;",
        "\\|",
        "`code`",
        "*bold*",
        "_it_",
        "64-32-10_d0.3_s0",
        "[a](b)",
        "~~x~~",
        "é→Σ",
        "'",
        "=1+1",
        "__x__",
    ],
]
SCHEMA = pa.schema(
    [("text", pa.string()), ("number", pa.int64()), ("real", pa.float64()), ("yes", pa.bool_())]
    + [("at", TIME), ("shape", INTS), ("weights", REALS)]
)
TEXTS = st.sampled_from(NASTY) | st.text(
    st.characters(blacklist_categories=["Cs", "Cc"], max_codepoint=0xFFFF)
)
TIMES = st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1)).map(
    lambda at: at.replace(tzinfo=UTC, fold=0)
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "text": st.none() | TEXTS,
            "number": st.none() | st.integers(-(2**63), 2**63 - 1),
            "real": st.none() | st.floats(),
            "yes": st.booleans(),
            "at": st.none() | TIMES,
            "shape": st.none() | st.lists(st.none() | st.integers(-9, 2**53), max_size=3),
            "weights": st.none() | st.lists(st.none() | st.floats(), max_size=3),
        }
    ),
    max_size=4,
)


def without_nan(value: Any) -> Any:
    """What no text has a number for is missing there."""
    if isinstance(value, list):
        return [without_nan(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_csv(data: bytes, **types: pa.DataType) -> list[dict[str, Any]]:
    return csv.read_csv(
        io.BytesIO(data),
        parse_options=csv.ParseOptions(newlines_in_values=True),
        convert_options=csv.ConvertOptions(
            column_types=types, strings_can_be_null=True, quoted_strings_can_be_null=False, null_values=[""]
        ),
    ).to_pylist()


@given(ROWS)
def test_parquet_gives_the_rows_back(rows: list[dict[str, Any]]) -> None:
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    found = pq.read_table(io.BytesIO(encode(table, "parquet")))
    assert found.schema == SCHEMA and repr(found.to_pylist()) == repr(table.to_pylist())


@given(ROWS)
def test_json_is_valid_and_gives_all_back_but_what_is_no_number(rows: list[dict[str, Any]]) -> None:
    def refuse(text: str) -> None:
        raise AssertionError(f"{text} is no JSON")

    text = encode(pa.Table.from_pylist(rows, schema=SCHEMA), "json").decode()
    found = json.loads(text, parse_constant=refuse)
    assert len(text.split("\n")) == len(rows) + 3 and text.endswith("\n]\n")
    for row in found:
        row["at"] = row["at"] and datetime.fromisoformat(row["at"])
    assert found == [{name: without_nan(value) for name, value in row.items()} for row in rows]


@given(ROWS)
def test_csv_gives_all_back_with_lists_as_json(rows: list[dict[str, Any]]) -> None:
    data = encode(pa.Table.from_pylist(rows, schema=SCHEMA), "csv")
    texts = dict.fromkeys(("text", "at", "shape", "weights"), pa.string())
    found = read_csv(data, **texts, number=pa.int64(), real=pa.float64(), yes=pa.bool_())
    for row in found:
        row["at"] = row["at"] and datetime.fromisoformat(row["at"])
        row |= {name: row[name] and json.loads(row[name]) for name in ("shape", "weights")}
    exact = [{**row, "weights": without_nan(row["weights"])} for row in rows]
    assert repr(found) == repr([{name: row[name] for name in SCHEMA.names} for row in exact])


@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=3), TEXTS)
def test_markdown_shows_texts_as_they_are(pairs: list[tuple[str, str]], heading: str) -> None:
    table = pa.table({heading: [one for one, _ in pairs], "n\n|": [other for _, other in pairs]})
    page = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    cells = re.findall(
        r"<t[hd](?: [^>]*)?>(.*?)</t[hd]>", page.render(encode(table, "markdown").decode()), re.DOTALL
    )
    shown = [html.unescape(re.sub(r"<br ?/?>", "\n", cell)) for cell in cells]
    texts = [heading, "n\n|", *(text for pair in pairs for text in pair)]
    assert [text.strip() for text in shown] == [
        re.sub(r"\r\n?", "\n", text.strip(" \t\n\r")).strip() for text in texts
    ]


def test_markdown_sets_numbers_to_the_right_and_leaves_out_what_is_missing() -> None:
    table = pa.table({"name": ["a_b", None], "loss": [0.123456789, None], "shape": [[1, 2], None]})
    assert encode(table, "markdown").decode().splitlines() == [
        "| name | loss | shape |",
        "| --- | --: | --- |",
        r"| a_b | 0.123457 | \[1, 2\] |",
        "|  |  |  |",
    ]


def test_a_file_may_have_the_table_of_the_terminal() -> None:
    text = encode(pa.table({"site": ["[red]x", "é"], "loss": [0.5, 2.0]}), "table").decode()
    assert [line.split() for line in text.splitlines()][3:5] == [["[red]x", "0.5"], ["é", "2"]]


def test_what_sql_makes_beside_columns_of_tables_has_a_form_too(tmp_path: Path) -> None:
    sql = """
        SELECT sum(n) AS huge, 1.5::DECIMAL(4, 2) AS price, DATE '2024-05-06' AS day, {'a': 1, 'b': [0.5]} AS pair,
            'x'::BLOB AS bytes, NULL AS nothing, TIMESTAMP '2024-05-06 07:00' AS local, 'up'::ENUM ('up') AS way
        FROM range(5) AS numbers (n)
    """
    rows = run_query(str(tmp_path), sql)
    (found,) = json.loads(encode(rows, "json"))
    assert found == {
        "huge": 10,
        "price": 1.5,
        "day": "2024-05-06",
        "pair": {"a": 1, "b": [0.5]},
        "bytes": "b'x'",
        "nothing": None,
        "local": "2024-05-06T07:00:00",
        "way": "up",
    }
    (read,) = read_csv(encode(rows, "csv"))
    assert (read["huge"], read["price"], read["pair"], read["way"]) == (10, 1.5, '{"a": 1, "b": [0.5]}', "up")
    assert read["day"] == date(2024, 5, 6) and read["nothing"] is None
    assert pq.read_table(io.BytesIO(encode(rows, "parquet"))).num_rows == 1


def test_two_columns_of_one_name_are_told_apart(tmp_path: Path) -> None:
    rows = run_query(str(tmp_path), "SELECT 1 AS a, 2 AS a_2, 3 AS a")
    assert json.loads(encode(rows, "json")) == [{"a": 1, "a_2": 2, "a_3": 3}]
    assert pq.read_table(io.BytesIO(encode(rows, "parquet"))).to_pylist() == [{"a": 1, "a_2": 2, "a_3": 3}]


def test_a_type_that_parquet_does_not_have_is_named(tmp_path: Path) -> None:
    rows = run_query(str(tmp_path), "SELECT INTERVAL 90 SECOND AS took")
    with pytest.raises(UserError, match="CAST") as error:
        encode(rows, "parquet")
    assert "\n" not in str(error.value)
    assert "90" in encode(rows, "csv").decode() and "90" in encode(rows, "json").decode()


@pytest.mark.parametrize(("ending", "form"), ENDINGS.items())
def test_the_ending_of_a_file_says_its_format(ending: str, form: str) -> None:
    assert format_of(f"s3://bucket/rows{ending.upper()}") == form


@pytest.mark.parametrize("output", ["rows", "rows.xlsx", "folder.csv/rows", ".csv"])
def test_an_ending_that_says_nothing_is_refused(output: str) -> None:
    with pytest.raises(UserError, match=r"must be one of \.txt, \.csv"):
        format_of(output)


def test_seconds_between_times_are_readable(tmp_path: Path) -> None:
    rows = run_query(
        str(tmp_path), "SELECT epoch(TIMESTAMP '2024-05-06 07:00' - TIMESTAMP '2024-05-06 06:59') AS s"
    )
    assert json.loads(encode(rows, "json")) == [{"s": timedelta(minutes=1).total_seconds()}]


def test_a_long_list_is_cut_in_a_table_and_nowhere_else() -> None:
    rows = pa.table({"reads": [[*range(784)], [1.5, None], None]}, schema=pa.schema([("reads", REALS)]))
    table = encode(rows, "table").decode()
    assert "[0, 1, 2, 3, 4, 5, … of 784]" in table and "[1.5, None]" in table
    assert json.loads(encode(rows, "json"))[0]["reads"] == [*range(784)]
    assert "783" in encode(rows, "markdown").decode() and "783" in encode(rows, "csv").decode()
