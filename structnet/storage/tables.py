"""The Parquet tables of results: their schemas, a writer of whole parts, and a reader.

A part lies at RESULTS/tables/TABLE/experiment=NAME/PART.parquet, where RESULTS is a folder or an fsspec URL.
The experiment is not a column of a part: it comes from the folder, always as text. A part is named after the
key of what it holds, so a retry replaces what it wrote before. Columns may be added to a schema, never
renamed or retyped; parts from before have null there.
"""

from __future__ import annotations

import re
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from datetime import datetime
from numbers import Integral, Real
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from structnet.errors import UserError
from structnet.storage.atomic import is_local, write_whole
from structnet.storage.schemas import BOOL, INT, INTS, KEYS, SCHEMAS, SIDES, TEXT

__all__ = ["KEYS", "SCHEMAS", "Part", "TableWriter", "check_name", "list_parts", "read_table"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_LONGEST_NAME = 100
_LONGEST_PART = 200
_ROWS_IN_GROUP = 131_072
# A column of a few rows takes several times the memory of its values: so many parts are joined as they are read.
PARTS_TOGETHER = 64
# Of reading parts that change meanwhile, with pauses that add up to a few seconds.
ATTEMPTS = 10


def check_name(name: str) -> str:
    """The name of an experiment, unchanged; UserError unless it is plain and stays in the results folder."""
    if not _NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
        raise UserError(
            f"name is {name!r}, but must be at most {_LONGEST_NAME} letters, digits, dots, dashes and "
            "underscores, starting with a letter or digit: choose another"
        )
    return name


class TableWriter:
    """Writes parts of the tables of one experiment.

    results: a folder (made when missing) or an fsspec URL. Raises UserError when the name is not allowed, or
    when the folder cannot be written to.
    """

    def __init__(self, results: str, experiment: str) -> None:
        self.results = results
        self.experiment = check_name(experiment)
        self._fs, self._root = open_folder(results)
        if is_local(self._fs):
            _check_writable(Path(self._root), results)

    def write(self, table: str, part: str, rows: Sequence[dict[str, Any]]) -> str:
        """Writes `rows` as one part, whole or not at all, in the place of a part of that name; its path.

        part: derived from the key of what it holds, such as "round-0003". Columns a row does not have are
        null.
        Raises ValueError when the table or a column is unknown, a key or boolean is missing, a key is there
        twice, or a value does not fit its column, and UserError when the part cannot be stored.
        """
        if not _NAME.fullmatch(part) or len(part) > _LONGEST_PART:
            raise ValueError(f"part is {part!r}, but must be a plain name such as 'round-0003'")
        path = f"{self._root}/tables/{table}/experiment={self.experiment}/{part}.parquet"
        store_part(self._fs, path, _to_arrow(table, rows))
        return path


def store_part(fs: Any, path: str, rows: pa.Table) -> None:
    """Writes a part whole or not at all, in the place of what is there; StoreFailed when it cannot be stored."""
    sink = pa.BufferOutputStream()
    # zstd alone lets flipped bits through.
    pq.write_table(rows, sink, compression="zstd", row_group_size=_ROWS_IN_GROUP, write_page_checksum=True)
    write_whole(fs, {path: sink.getvalue().to_pybytes()})


class Part(NamedTuple):
    """One file of a table; `name` is its file name without the ending, `stamp` changes when the file does."""

    path: str
    experiment: str
    name: str
    stamp: str


def list_parts(results: str, table: str, experiment: str | None = None) -> list[Part]:
    """The parts of a table, or of one experiment in it, in the order of experiment and name."""
    _check_table(table)
    fs, root = open_folder(results)
    folder = f"{root}/tables/{table}"
    below = folder if experiment is None else f"{folder}/experiment={check_name(experiment)}"
    fs.invalidate_cache()
    try:
        found = fs.find(below, detail=True)
    except Exception as error:  # what the library of an object store raises is its own affair
        raise UserError(
            f"results is {results!r}, but cannot be read ({first_line(error)}): see that it is there, can be reached "
            "and may be read"
        ) from error
    parts = []
    for path, info in found.items():
        place, above, file = path.rsplit("/", 2)
        in_experiment = place == folder and above.startswith("experiment=")
        if in_experiment and file.endswith(".parquet") and not file.startswith("."):
            name = file.removesuffix(".parquet")
            parts.append(Part(path, above.removeprefix("experiment="), name, str(info)))
    return sorted(parts, key=lambda part: (part.experiment, part.name))


def read_table(
    results: str, table: str, experiment: str | None = None, *, skip_damaged: bool = False
) -> pa.Table:
    """All rows of a table, or of one experiment in it: a text column `experiment` and those of its schema.

    Rows are unique by experiment and key (of two, the one in the last part by name stays) and sorted by them.
    A table without parts is empty. Raises UserError naming a part that is damaged or is no part of this
    table; with `skip_damaged` a warning names it and the rest is read.
    """
    fs, _ = open_folder(results)
    for attempt in range(ATTEMPTS):
        time.sleep(attempt * 0.1)
        tables, bad = [], []
        parts = list_parts(results, table, experiment)
        for part in parts:
            try:
                tables.append(read_part(fs, table, part))
            except UserError as error:
                bad.append(error)
            if len(tables) == PARTS_TOGETHER:
                tables = [pa.concat_tables(tables).combine_chunks()]
        # A part that goes after it was listed was merged into another: read that.
        gone = any(isinstance(error.__cause__, FileNotFoundError) for error in bad)
        if not gone or list_parts(results, table, experiment) == parts:
            break
    for refused in bad:
        if not skip_damaged:
            raise refused
        warnings.warn(f"skipped: {refused}", stacklevel=2)
    if not tables:
        return with_experiment(SCHEMAS[table]).empty_table()
    rows = unique(pa.concat_tables(tables), ["experiment", *KEYS[table]])
    del tables
    pa.default_memory_pool().release_unused()  # which it would keep: twice what the rows take
    return rows


def read_part(fs: Any, table: str, part: Part) -> pa.Table:
    """The rows of one part in the schema of its table, with the experiment; UserError naming a bad part."""
    try:
        with (
            fs.open(part.path, "rb") as handle,
            pq.ParquetFile(handle, page_checksum_verification=True) as file,
        ):
            stored = file.read()
    except (OSError, pa.ArrowException) as error:
        raise damaged(part, first_line(error)) from error
    missing = missing_keys(table, stored.schema)
    if missing:
        raise damaged(part, f"it has no column {missing[0]!r}")
    columns = [pa.array([part.experiment] * stored.num_rows, TEXT)]
    for field in SCHEMAS[table]:
        if field.name not in stored.column_names:
            columns.append(pa.nulls(stored.num_rows, field.type))
            continue
        try:
            columns.append(stored[field.name].cast(field.type))
        except pa.ArrowException as error:
            raise damaged(part, f"column {field.name!r}: {first_line(error)}") from error
    return pa.table(columns, schema=with_experiment(SCHEMAS[table]))


def missing_keys(table: str, stored: pa.Schema) -> list[str]:
    """The key columns that a part does not have: then it is no part of this table."""
    return [name for name in KEYS[table] if name not in stored.names]


def damaged(part: Part, reason: str) -> UserError:
    return UserError(
        f"{part.path} is not a whole part of its table ({reason}): move it away or restore it from a copy"
    )


def with_experiment(schema: pa.Schema) -> pa.Schema:
    """The schema a reader sees: the experiment first, and null allowed, for columns that older parts lack."""
    return pa.schema([("experiment", TEXT), *((field.name, field.type) for field in schema)])


def unique(rows: pa.Table, key: list[str]) -> pa.Table:
    """The rows sorted by key, each key once: of two rows the later one stays."""
    numbered = rows.append_column("row number", pa.array(np.arange(rows.num_rows)))
    last = numbered.group_by(key, use_threads=False).aggregate([("row number", "max")])
    return rows.take(last.sort_by([(name, "ascending") for name in key])["row number_max"])


def open_folder(results: str) -> tuple[Any, str]:
    """The fsspec file system and the path on it of a results folder or URL."""
    import fsspec

    try:
        fs, root = fsspec.url_to_fs(results)
    except (ValueError, ImportError, OSError) as error:
        raise UserError(
            f"results is {results!r}, but must be a folder or an fsspec URL such as s3://bucket/folder "
            f"({first_line(error)}): correct it or install what it needs"
        ) from error
    return fs, root.rstrip("/")


def first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _check_table(table: str) -> None:
    if table not in SCHEMAS:
        raise ValueError(f"table is {table!r}, but must be one of {', '.join(SCHEMAS)}")


def _check_writable(root: Path, results: str) -> None:
    try:
        (root / "tables").mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root / "tables"):
            pass
    except OSError as error:
        raise UserError(
            f"results is {results!r}, but that folder cannot be written to ({error.strerror}): "
            "choose another with --results"
        ) from error


def _to_arrow(table: str, rows: Sequence[dict[str, Any]]) -> pa.Table:
    _check_table(table)
    schema, key = SCHEMAS[table], KEYS[table]
    seen = set()
    for row in rows:
        unknown = sorted(set(row) - set(schema.names))
        if unknown:
            raise ValueError(f"{table} has no column {unknown[0]!r}: it has {', '.join(schema.names)}")
        needed = [name for name in schema.names if name in key or schema.field(name).type == BOOL]
        for name in needed:
            if row.get(name) is None:
                raise ValueError(f"a row of {table} has no {name!r}: keys and booleans are never null")
        identity = tuple(row[name] for name in key)
        if identity in seen:
            raise ValueError(f"{table} has two rows with the key {dict(zip(key, identity))}")
        seen.add(identity)
    columns = [_column(table, field, [row.get(field.name) for row in rows]) for field in schema]
    return pa.table(columns, schema=schema)


def _column(table: str, field: pa.Field, values: list[Any]) -> pa.Array:
    for value in values:
        # Arrow would cut fractions off, and take a time without zone for UTC.
        fraction = any(isinstance(part, Real) and not isinstance(part, Integral) for part in _parts(value))
        local_time = isinstance(value, datetime) and value.tzinfo is None
        if (fraction and field.type in (INT, INTS, SIDES)) or local_time:
            raise ValueError(f"{field.name!r} of {table} is {value!r}, but must be of type {field.type}")
    try:
        return pa.array(values, field.type)
    except (pa.ArrowException, OverflowError) as error:
        raise ValueError(
            f"{field.name!r} of {table} must be of type {field.type}: {first_line(error)}"
        ) from error


def _parts(value: Any) -> Iterator[Any]:
    """The values in lists of any depth."""
    if not isinstance(value, (list, tuple)):
        yield value
        return
    for part in value:
        yield from _parts(part)
