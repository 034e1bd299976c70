"""The labels of a table, as names of classes and their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from structnet.data.rows import LABEL, listed
from structnet.errors import UserError


def read_labels(rows: pa.Table, path: Path) -> pa.ChunkedArray:
    """The label column: int64, or text (booleans become the text true and false)."""
    if LABEL not in rows.column_names:
        raise UserError(
            f"{path} has no column {LABEL!r}, it has {listed(rows.column_names)}: add it or rename one"
        )
    labels = rows[LABEL]
    if pa.types.is_dictionary(labels.type):
        labels = labels.cast(labels.type.value_type)
    if labels.null_count:
        row = pc.index(pc.is_null(labels), True).as_py()
        raise UserError(
            f"row {row} of {path} has an empty {LABEL!r}: fill or remove the {labels.null_count} such rows"
        )
    if pa.types.is_integer(labels.type):
        return labels.cast(pa.int64())
    if _is_text(labels.type) or pa.types.is_boolean(labels.type):
        return labels.cast(pa.string())
    raise UserError(
        f"column {LABEL!r} of {path} is of type {labels.type}, but must be integers or strings: convert it"
    )


def class_names(labels: pa.ChunkedArray, path: Path) -> tuple[str, ...]:
    """The different labels as text, integers in numerical and text in alphabetical order."""
    names = tuple(str(name) for name in sorted(pc.unique(labels).to_pylist()))
    if len(names) < 2:
        raise UserError(
            f"{path} has only the class {names[0]!r}, but needs at least two: there is nothing to tell apart"
        )
    return names


def class_numbers(labels: pa.ChunkedArray, names: Sequence[str], path: Path) -> np.ndarray:
    """Each label's position in `names`, int64 (n,).

    Integer labels of a dataset whose classes all have names in words are class numbers already.
    """
    if pa.types.is_integer(labels.type) and not any(_is_integer(name) for name in names):
        names = [str(number) for number in range(len(names))]
    text = labels.cast(pa.string())
    numbers = pc.index_in(text, value_set=pa.array(names, pa.string()))
    if numbers.null_count:
        row = pc.index(pc.is_null(numbers), True).as_py()
        raise UserError(
            f"row {row} of {path} has the label {text[row].as_py()!r}, but the classes of the training data "
            f"are {listed(names)}: correct or remove it"
        )
    classes: np.ndarray = numbers.to_numpy().astype(np.int64)
    return classes


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_integer(text: str) -> bool:
    return text.removeprefix("-").isdecimal()
