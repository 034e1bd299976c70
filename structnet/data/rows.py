"""The rows of a table file, as they come: any separator, encoding and decimal sign.

Files are read by pandas and pyarrow; what they are told follows from the first lines of a file.
"""

from __future__ import annotations

import csv
import io
import json
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from structnet.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

LABEL = "label"
CSV_SUFFIXES = (".csv", ".tsv")
TABLE_SUFFIXES = (".parquet", *CSV_SUFFIXES)
# What a cell without a value looks like, as pandas takes it; a label "NA" or "None" is a label.
NOTHING = ("", "NA", "N/A", "n/a", "NaN", "nan", "-nan", "NULL", "null", "None", "<NA>", "#N/A", "?")
_SEPARATORS = ",;\t|"
_LINES_LOOKED_AT = 50
_LEAST_ROWS_COUNTED = 20


class Rows(NamedTuple):
    """Rows of a file. keys: names of columns that are no inputs: they name or count the rows. notes: on the reading."""

    table: pa.Table
    keys: tuple[str, ...]
    notes: tuple[str, ...]


def read_rows(path: Path, label: str = LABEL) -> Rows:
    """All rows of a Parquet, CSV or TSV file; label: the column whose texts are never taken for missing values.

    Raises UserError for a file that cannot be read, has no rows, or has two columns of one name.
    """
    if path.suffix.lower() not in TABLE_SUFFIXES:
        raise UserError(
            f"{path} ends in {path.suffix.lower()!r}, but must end in .parquet, .csv or .tsv: convert the file to one "
            "of them"
        )
    if not path.is_file():
        raise UserError(f"{path} is not a file: name a Parquet or CSV file")
    try:
        found = _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_csv(path, label)
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise UserError(
            f"{path} cannot be read ({first_line(error)}): write it again as {path.suffix.lower()[1:]}"
        ) from error
    if found.table.num_rows == 0:
        raise UserError(f"{path} has no rows, but needs at least one: is it the right file?")
    names = found.table.column_names
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(
            f"{path} has more than one column {repeated[0]!r}: give every column a name of its own"
        )
    return found


def joined_rows(paths: Sequence[Path], label: str = LABEL) -> Rows:
    """The rows of several files, one after the other. Raises UserError also where their columns differ."""
    parts = [read_rows(path, label) for path in paths]
    first = parts[0]
    for path, part in zip(paths, parts):
        if set(part.table.column_names) != set(first.table.column_names):
            raise UserError(
                f"{path} has the columns {listed(part.table.column_names)}, but {paths[0].name} has "
                f"{listed(first.table.column_names)}: give all parts of a split the same columns"
            )
    try:
        table = pa.concat_tables([part.table for part in parts], promote_options="permissive")
    except pa.ArrowException as error:
        raise UserError(
            f"{paths[0]} and its other parts do not fit each other ({first_line(error)}): write them with one schema"
        ) from error
    notes = dict.fromkeys(note for part in parts for note in part.notes)
    return Rows(table, first.keys, tuple(notes))


def _read_parquet(path: Path) -> Rows:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        table = file.read()
    written = json.loads((table.schema.metadata or {}).get(b"pandas", b"{}"))
    index = [name for name in written.get("index_columns", []) if isinstance(name, str)]
    keys = tuple(name for name in index if name in table.column_names)
    return Rows(table, keys, ())


def _read_csv(path: Path, label: str) -> Rows:
    """Raises ValueError, of pandas too, for what is no table."""
    import pandas as pd

    text, encoding = _decoded(path.read_bytes())
    notes = () if encoding == "utf-8" else (f"{path.name} is read as {encoding}.",)
    separator, decimal = _format_of(text)
    header = next(csv.reader(io.StringIO(text), delimiter=separator), [])
    if not any(name.strip() for name in header):
        raise ValueError("its first line has no names of columns")
    names = [name.strip() or f"unnamed column {at}" for at, name in enumerate(header, 1)]
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            frame = pd.read_csv(
                io.StringIO(text),
                sep=separator,
                decimal=decimal,
                names=range(len(names)),
                header=0,
                keep_default_na=False,
                na_values={at: [""] if name == label else list(NOTHING) for at, name in enumerate(names)},
                skipinitialspace=True,
                low_memory=False,
                index_col=False,
            )
        except pd.errors.ParserWarning as warning:
            raise ValueError("some of its lines have more cells than the first") from warning
    keys = () if header[0].strip() else (names[0],)
    return Rows(_arrow(frame, names), keys, notes)


def _arrow(frame: pd.DataFrame, names: list[str]) -> pa.Table:
    """The columns of a frame under these names; what is mixed becomes text."""
    columns = []
    for at in range(len(names)):
        values = frame.iloc[:, at]
        if values.dtype == object:
            texts = [None if value != value or value is None else str(value) for value in values]
            columns.append(pa.array(texts, pa.string()))
        else:
            columns.append(pa.Array.from_pandas(values))
    return pa.table([pa.chunked_array([column]) for column in columns], names=names)


def _decoded(data: bytes) -> tuple[str, str]:
    """The text of a file and the encoding that it has: UTF-8, UTF-16 by its mark, or the one of Windows."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16"), "utf-16"
    try:
        return data.decode("utf-8-sig"), "utf-8"
    except UnicodeDecodeError:
        try:
            return data.decode("cp1252"), "cp1252"
        except UnicodeDecodeError:
            return data.decode("latin-1"), "latin-1"


def _format_of(text: str) -> tuple[str, str]:
    """The separator that divides the first lines into most fields, and the decimal sign that goes with it."""
    lines = list(_first_lines(text))
    best, fields = ",", 1
    for separator in _SEPARATORS:
        counts = [len(row) for row in csv.reader(lines, delimiter=separator) if row]
        if counts and min(counts) > fields:
            best, fields = separator, min(counts)
    cells = [cell.strip() for row in csv.reader(lines[1:], delimiter=best) for cell in row]
    has_comma = any(re.fullmatch(r"[+-]?\d+,\d+(?:[eE][+-]?\d+)?", cell) for cell in cells)
    has_point = any(re.fullmatch(r"[+-]?\d*\.\d+(?:[eE][+-]?\d+)?", cell) for cell in cells)
    return best, "," if best != "," and has_comma and not has_point else "."


def _first_lines(text: str) -> list[str]:
    return [line for line in io.StringIO(text[:200_000]).readlines()[:_LINES_LOOKED_AT] if line.strip()]


def counting_columns(rows: pa.Table, label: str) -> list[str]:
    """Columns that number the rows, in whatever order: whole numbers, no gaps, none twice; of at least 20 rows."""
    found = []
    for name in rows.column_names:
        if name == label or rows.num_rows < _LEAST_ROWS_COUNTED or rows[name].null_count:
            continue
        if pa.types.is_integer(rows.schema.field(name).type):
            ends = pc.min_max(rows[name]).as_py()
            is_dense = ends["max"] - ends["min"] == rows.num_rows - 1
            if is_dense and pc.count_distinct(rows[name]).as_py() == rows.num_rows:
                found.append(name)
    return found


def first_line(error: Exception) -> str:
    """Of an error's message, or its type if it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def listed(names: Sequence[str]) -> str:
    """Names as an error shows them: at most ten."""
    shown = ", ".join(repr(name) for name in names[:10])
    return shown if len(names) <= 10 else f"{shown} and {len(names) - 10} more"


def is_number(kind: pa.DataType) -> bool:
    """Whether a column of this type holds numbers."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds texts."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def numbers_of(column: pa.ChunkedArray) -> np.ndarray:
    """A column of numbers as float64 (n,), NaN where there is none."""
    values: np.ndarray = pc.fill_null(pc.cast(column, pa.float64(), safe=False), float("nan")).to_numpy()
    return values


def as_texts(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of texts, booleans or categories as texts."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.cast(pa.string())


def texts_of(column: pa.ChunkedArray) -> list[str | None]:
    """As `as_texts`, as a list, None where there is none."""
    texts: list[str | None] = as_texts(column).to_pylist()
    return texts
