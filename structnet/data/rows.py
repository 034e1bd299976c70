"""The rows of a table file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from structnet.errors import UserError

LABEL = "label"
TABLE_SUFFIXES = (".parquet", ".csv")


def read_rows(path: Path) -> pa.Table:
    """All rows of a Parquet or CSV file."""
    import pyarrow.csv
    import pyarrow.parquet

    suffix = path.suffix.lower()
    if suffix not in TABLE_SUFFIXES:
        raise UserError(
            f"{path} ends in {suffix!r}, but must end in .parquet or .csv: convert the file to one of them"
        )
    if not path.is_file():
        raise UserError(f"{path} is not a file: name a Parquet or CSV file")
    try:
        if suffix == ".csv":
            rows = pyarrow.csv.read_csv(path)
        else:
            with pyarrow.parquet.ParquetFile(path) as file:
                rows = file.read()
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{path} cannot be read ({first_line(error)}): write it again as {suffix[1:]}"
        ) from error
    if rows.num_rows == 0:
        raise UserError(f"{path} has no rows, but needs at least one: is it the right file?")
    repeated = sorted({name for name in rows.column_names if rows.column_names.count(name) > 1})
    if repeated:
        raise UserError(
            f"{path} has more than one column {repeated[0]!r}: give every column a name of its own"
        )
    return rows


def first_line(error: Exception) -> str:
    """Of an error's message, or its type if it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


# Numbers


def number_columns(
    rows: pa.Table, path: Path, columns: Sequence[str] | None = None
) -> tuple[list[str], np.ndarray]:
    """The names and the values (n, columns) float64 of `columns`, or of every column but the label.

    Raises UserError when a column is missing, is not numeric, or holds an empty, NaN or infinite value.
    """
    names = list(columns) if columns is not None else [name for name in rows.column_names if name != LABEL]
    missing = [name for name in names if name not in rows.column_names]
    if missing:
        raise UserError(f"{path} has no column {missing[0]!r}: it must have {listed(names)}")
    if not names:
        raise UserError(f"{path} has no column beside {LABEL!r}: add an image column or numeric columns")
    values = np.empty((rows.num_rows, len(names)), np.float64)
    for at, name in enumerate(names):
        kind = rows.schema.field(name).type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
            raise UserError(
                f"column {name!r} of {path} is of type {kind}, but must be numeric (or "
                "image or img as a struct of bytes and path): remove it or code it as numbers"
            )
        numbers = pc.cast(rows[name], pa.float64(), safe=False)
        values[:, at] = pc.fill_null(numbers, float("nan")).to_numpy()
        bad = np.flatnonzero(~np.isfinite(values[:, at]))
        if len(bad):
            raise UserError(
                f"column {name!r} of {path} is {values[bad[0], at]} in row {bad[0]} (empty counts as nan), "
                f"but must be finite: fill or remove the {len(bad)} such rows"
            )
    return names, values


def listed(names: Sequence[str]) -> str:
    """Names as an error shows them: at most ten."""
    shown = ", ".join(repr(name) for name in names[:10])
    return shown if len(names) <= 10 else f"{shown} and {len(names) - 10} more"
