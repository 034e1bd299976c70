"""The labels of a table, as names of classes and their numbers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from structnet.data.rows import is_text, listed, texts_of
from structnet.errors import UserError

LEAST_OF_CLASS = 3  # rows, so that each split can have one
PLACEHOLDERS = ("-1", "", "?", "NA", "N/A", "nan", "NaN", "None", "null")


def read_labels(rows: pa.Table, path: Path, label: str) -> pa.ChunkedArray:
    """The label column: int64, or text (booleans become the text true and false).

    Raises UserError where it is missing, has empty rows, or holds numbers that are no classes.
    """
    labels = _label_column(rows, path, label)
    if labels.null_count:
        row = pc.index(pc.is_null(labels), True).as_py()
        raise UserError(
            f"row {row} of {path} has an empty {label!r}: fill or remove the {labels.null_count} such rows"
        )
    return labels


def _label_column(rows: pa.Table, path: Path, label: str) -> pa.ChunkedArray:
    """As `read_labels`, with null for a row without a label."""
    if label not in rows.column_names:
        raise UserError(
            f"{path} has no column {label!r}, it has {listed(rows.column_names)}: name the column of the labels with "
            "--label"
        )
    labels = rows[label]
    if pa.types.is_dictionary(labels.type):
        labels = labels.cast(labels.type.value_type)
    if pa.types.is_integer(labels.type) or pa.types.is_null(labels.type):
        return labels.cast(pa.int64())
    if is_text(labels.type) or pa.types.is_boolean(labels.type):
        return labels.cast(pa.string())
    if pa.types.is_floating(labels.type):
        return _whole(pc.if_else(pc.is_nan(labels), pa.scalar(None, labels.type), labels), path, label)
    raise UserError(
        f"column {label!r} of {path} is of type {labels.type}, but must be integers or strings: convert it"
    )


def _whole(labels: pa.ChunkedArray, path: Path, label: str) -> pa.ChunkedArray:
    """Labels that are whole numbers though their type allows for others, as it does where some rows are empty."""
    odd = pc.not_equal(labels, pc.round(labels))
    if pc.any(odd).as_py():
        value = labels[pc.index(odd, True).as_py()].as_py()
        raise UserError(
            f"column {label!r} of {path} holds numbers such as {value:g}: predicting numbers (regression) is not "
            "offered; make classes of them, such as low, middle and high"
        )
    return labels.cast(pa.int64())


def schema_names(rows: pa.Table, label: str) -> tuple[str, ...] | None:
    """The class names that the hub's schema in a Parquet file gives; its labels are positions in them."""
    stored = (rows.schema.metadata or {}).get(b"huggingface")
    if stored is None:
        return None
    try:
        names = json.loads(stored)["info"]["features"][label]["names"]
    except (ValueError, KeyError, TypeError):
        return None
    return tuple(map(str, names)) if isinstance(names, list) and names else None


def class_names(labels: pa.ChunkedArray, path: Path, label: str) -> tuple[str, ...]:
    """The different labels as text, integers in numerical and text in alphabetical order.

    Raises UserError for a single class, and for so many that they must be numbers to be predicted or names of rows.
    """
    different = sorted(pc.unique(labels).to_pylist())
    if len(different) < 2:
        raise UserError(
            f"{path} has only the class {str(different[0])!r}, but needs at least two: there is nothing to tell apart"
        )
    if 2 * len(different) > len(labels) > 2 * LEAST_OF_CLASS:
        kind = "predicting numbers (regression) is not offered; make classes of them, such as low, middle and high"
        if not pa.types.is_integer(labels.type):
            kind = "it names the rows; name the column of the classes with --label"
        raise UserError(
            f"column {label!r} of {path} has {len(different):,} different values in {len(labels):,} rows: {kind}"
        )
    return tuple(map(str, different))


def class_numbers(
    labels: pa.ChunkedArray, names: Sequence[str], path: Path, *, are_positions: bool = False
) -> np.ndarray:
    """Each label's position in `names`, int64 (n,). are_positions: whether integers are positions already.

    Raises UserError for a label that is not among them.
    """
    if pa.types.is_integer(labels.type) and are_positions:
        names = [str(number) for number in range(len(names))]
    text = labels.cast(pa.string())
    numbers = pc.index_in(text, value_set=pa.array(names, pa.string()))
    if numbers.null_count:
        row = pc.index(pc.is_null(numbers), True).as_py()
        others = sorted(set(pc.unique(text).to_pylist()) - set(names))
        raise UserError(
            f"row {row} of {path} has the label {text[row].as_py()!r}, but the classes of the training data "
            f"are {listed(names)}: correct or remove what is not among them ({listed(others)})"
        )
    classes: np.ndarray = numbers.to_numpy().astype(np.int64)
    return classes


def known_labels(
    rows: pa.Table, names: Sequence[str], path: Path, label: str, *, are_positions: bool = False
) -> np.ndarray | None:
    """Each label's position in `names`, int64 (n,), -1 where there is a placeholder; None where no row has a label.

    Raises UserError for a label that is neither.
    """
    if label not in rows.column_names:
        return None
    if not pa.types.is_null(rows.schema.field(label).type):
        texts = texts_of(_label_column(rows, path, label))
        known = [str(number) for number in range(len(names))] if are_positions else list(names)
        there = [text is not None and (text in known or text not in PLACEHOLDERS) for text in texts]
        if any(there):
            numbers = np.full(len(texts), -1, np.int64)
            labels = _label_column(rows, path, label).filter(pa.array(there))
            numbers[there] = class_numbers(labels, names, path, are_positions=are_positions)
            return numbers
    return None


def check_class_sizes(numbers: np.ndarray, names: Sequence[str], path: Path) -> None:
    """Raises UserError where a class has too few rows to be in every split."""
    counts = Counter(numbers.tolist())
    rare = [
        f"{names[number]!r} ({count})" for number, count in sorted(counts.items()) if count < LEAST_OF_CLASS
    ]
    if rare:
        shown = ", ".join(rare[:10]) + (f" and {len(rare) - 10} more" if len(rare) > 10 else "")
        raise UserError(
            f"{path} has classes of fewer than {LEAST_OF_CLASS} rows, too rare to be in every split: {shown}; add "
            "rows, join such classes, or remove them"
        )
