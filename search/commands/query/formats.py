"""Rows of a query as text or bytes, in forms that other programs read."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from structnet.errors import UserError
from structnet.storage.tables import first_line

ENDINGS = {
    ".txt": "table",
    ".csv": "csv",
    ".json": "json",
    ".md": "markdown",
    ".markdown": "markdown",
    ".parquet": "parquet",
}
# What Markdown takes for something else in a cell; of underscores, those that do not stand within a word.
_MARKS = re.compile(r"[\\`*\[\]<>|~&$]|(?<![^\W_])_|_(?![^\W_])")
LONG, BEGINNING = 12, 6  # values of a list in a table


def format_of(output: str) -> str:
    """The format that the ending of a file stands for; UserError for one that stands for none."""
    ending = PurePosixPath(output).suffix.lower()
    if ending not in ENDINGS:
        raise UserError(
            f"output is {output!r}, but its ending must be one of {', '.join(ENDINGS)}: name it so, or give --format"
        )
    return ENDINGS[ending]


def encode(rows: pa.Table, form: str) -> bytes:
    """The rows as csv, json, markdown, parquet or table; texts are UTF-8.

    Raises UserError for a column whose type the format does not have.
    """
    return _ENCODERS[form](rows)


def shown(value: Any) -> str:
    """A value as people read it: nothing where it is missing, numbers to six digits."""
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _cut(value: Any) -> str:
    """As `shown`, but of a long list its beginning: a table is for looking, the other forms have it whole."""
    if not isinstance(value, list) or len(value) <= LONG:
        return shown(value)
    return f"[{', '.join(map(shown, value[:BEGINNING]))}, … of {len(value):,}]"


def is_number(kind: pa.DataType) -> bool:
    """Whether values of this type stand to the right of a column."""
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def table_of_rows(rows: pa.Table) -> Any:
    """The rows as a table of Rich."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=box.SIMPLE_HEAD)
    for field in rows.schema:
        grid.add_column(Text(field.name), justify="right" if is_number(field.type) else "left")
    for values in _each(rows):
        grid.add_row(*(Text(_cut(value)) for value in values))
    return grid


def _table(rows: pa.Table) -> bytes:
    from search.session.console import Console

    text = io.StringIO()
    Console(file=text, width=1_000_000).print(table_of_rows(rows))
    return "".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines()).encode()


def _csv(rows: pa.Table) -> bytes:
    """Texts are quoted, so that an empty one is not a missing one; lists are JSON."""
    from pyarrow import csv

    plain = pa.table([_plain(column) for column in rows.columns], names=rows.column_names)
    text = io.BytesIO()
    csv.write_csv(plain, text)
    return text.getvalue()


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column with values that CSV has a form for."""
    kind = column.type
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    if number or pa.types.is_string(kind):
        return column
    texts = (None if value is None else _as_text(value) for value in column.to_pylist())
    return pa.chunked_array([pa.array(texts, pa.string())])


def _as_text(value: Any) -> str:
    made = _jsonable(value)
    return made if isinstance(made, str) else json.dumps(made, ensure_ascii=False, allow_nan=False)


def records(rows: pa.Table) -> list[dict[str, Any]]:
    """The rows as objects of JSON; NaN and infinities are null."""
    names = _unlike(rows.column_names)
    return [dict(zip(names, map(_jsonable, values))) for values in _each(rows)]


def _json(rows: pa.Table) -> bytes:
    """A list of objects, each on a line of its own."""
    lines = [json.dumps(row, ensure_ascii=False, allow_nan=False) for row in records(rows)]
    return ("[" + ",".join(f"\n{line}" for line in lines) + "\n]\n").encode()


def _jsonable(value: Any) -> Any:
    """The value in what JSON has: NaN and infinities are null, times are ISO 8601, anything else is text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(name): _jsonable(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(part) for part in value]
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _markdown(rows: pa.Table) -> bytes:
    """A table of GitHub's Markdown, in which texts are shown as they are."""
    rules = ["--:" if is_number(field.type) else "---" for field in rows.schema]
    lines = [map(_cell, rows.column_names), rules, *(map(_cell, values) for values in _each(rows))]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines).encode()


def _cell(value: Any) -> str:
    text = _MARKS.sub(lambda found: rf"\{found[0]}", shown(value))
    return re.sub(r"\r\n|[\r\n]", "<br>", text)


def _parquet(rows: pa.Table) -> bytes:
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    try:
        pq.write_table(rows.rename_columns(_unlike(rows.column_names)), sink, compression="zstd")
    except pa.ArrowException as error:
        raise UserError(
            f"the rows do not fit Parquet ({first_line(error)}): CAST that column in the statement, or leave it out"
        ) from error
    return sink.getvalue()


def _each(rows: pa.Table) -> Iterator[tuple[Any, ...]]:
    """The rows as tuples."""
    return zip(*(column.to_pylist() for column in rows.columns))


def _unlike(names: list[str]) -> list[str]:
    """The names, of which a second one alike gets a number, as an object has a name once."""
    found: list[str] = []
    for name in names:
        number, new = 2, name
        while new in found:
            number, new = number + 1, f"{name}_{number}"
        found.append(new)
    return found


_ENCODERS: dict[str, Callable[[pa.Table], bytes]] = {
    "table": _table,
    "csv": _csv,
    "json": _json,
    "markdown": _markdown,
    "parquet": _parquet,
}
