"""New inputs for a network that has been trained, preprocessed exactly as its dataset was."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch

from structnet.data.columns import numbers, raw_values
from structnet.data.labels import known_labels, schema_names
from structnet.data.layouts import picture_files
from structnet.data.pictures import (
    ImageSource,
    decode_images,
    image_column,
    images_of_files,
    images_of_rows,
    is_picture,
)
from structnet.data.preprocessing import preprocess
from structnet.data.rows import LABEL, Rows, read_rows
from structnet.errors import UserError


class NewInputs(NamedTuple):
    """What a file or folder holds.

    inputs: float32 (n, *shape). labels: class numbers int64 (n,), -1 where a row has none, or None. keys: what names
    the rows: name of a column -> texts or numbers (n,). notes: what was skipped or decided, a sentence each.
    """

    inputs: torch.Tensor
    labels: torch.Tensor | None
    keys: dict[str, list[Any]]
    notes: list[str]


def read_inputs(path: str, preprocessing: dict[str, Any], key: str | None = None) -> NewInputs:
    """New inputs, preprocessed exactly as a dataset was.

    path: a Parquet or CSV file, a picture, or a folder of pictures (in order of their names). For pictures, a table may
    have an image column or as many numeric columns as a picture has values, in the raw units of the dataset. For
    columns, those of the training data are taken by name and others ignored. Labels are read when their column is
    there; -1 and empty cells are none. key: a column that names the rows, beside those that were left out of the
    training data. Pictures are converted between greyscale and colour, and resampled where those of the dataset were.
    Raises UserError when the file cannot be read or does not fit the preprocessing.
    """
    place = Path(path)
    if not place.exists():
        raise UserError(f"input is {path!r}, but there is no such file or folder: check the spelling")
    if place.is_dir() or is_picture(place):
        if key is not None:
            raise UserError(f"key is {key!r}, but {place} is no table: its files name the rows, leave it out")
        return _of_pictures(place, preprocessing)
    label = preprocessing.get("label", LABEL)
    rows = read_rows(place, label)
    names, table = preprocessing["class_names"], rows.table
    if preprocessing["kind"] == "table":
        values = raw_values(table, preprocessing["columns"], place)
    elif preprocessing["kind"] == "columns":
        values = numbers(table, place, preprocessing["columns"])
    elif (column := image_column(table)) is not None:
        values = _decode_for(images_of_rows(table, column, place), preprocessing, place)
    else:
        values = _pixels_of_columns(table, preprocessing, place)
    positions = schema_names(table, label) is not None or preprocessing.get("positions", False)
    known = known_labels(table, names, place, label, are_positions=positions)
    labels = None if known is None else torch.from_numpy(known)
    return NewInputs(
        preprocess(values, preprocessing), labels, _keys(rows, preprocessing, key, place), list(rows.notes)
    )


def _keys(rows: Rows, preprocessing: dict[str, Any], key: str | None, place: Path) -> dict[str, list[Any]]:
    table = rows.table
    if key is not None and key not in table.column_names:
        raise UserError(f"key is {key!r}, but {place} has no such column: name one of it, or leave it out")
    names = dict.fromkeys([*([key] if key else []), *rows.keys, *preprocessing.get("keys", [])])
    found = {name: table[name].to_pylist() for name in names if name in table.column_names}
    if not found and (column := image_column(table)) is not None:
        files = [row and row.get("path") for row in table[column].to_pylist()]
        return {"file": files} if all(files) else {}
    return found


def _of_pictures(place: Path, preprocessing: dict[str, Any]) -> NewInputs:
    if preprocessing["kind"] != "image":
        names = [
            column["name"] if isinstance(column, dict) else column for column in preprocessing["columns"]
        ]
        raise UserError(
            f"{place} is an image or a folder, but the network takes {len(names)} columns "
            f"({', '.join(names[:5])}, ...): give a Parquet or CSV file with them"
        )
    files, notes = picture_files(place) if place.is_dir() else ([place], [])
    if not files:
        raise UserError(
            f"{place} holds no image, but must hold files such as .png or .jpg: name another folder"
        )
    values = _decode_for(images_of_files(files), preprocessing, place)
    shown = [str(file.relative_to(place)) if place.is_dir() else file.name for file in files]
    return NewInputs(preprocess(values, preprocessing), None, {"file": shown}, notes)


def _decode_for(source: ImageSource, preprocessing: dict[str, Any], place: Path) -> np.ndarray:
    channels, height, width = preprocessing["shape"]
    pixels = decode_images(source, channels, (height, width) if preprocessing.get("resampled") else None)
    if pixels.shape[2:] != (height, width):
        raise UserError(
            f"{place} has images of {pixels.shape[2]}×{pixels.shape[3]} pixels, but the network takes "
            f"{height}×{width}: resize them first"
        )
    if preprocessing["full_scale"] == 255.0:
        return pixels
    # The dataset's raw values end elsewhere (digits: 16); white in a file must be white for the network.
    return pixels.astype(np.float32) * np.float32(preprocessing["full_scale"] / 255.0)


def _pixels_of_columns(rows: pa.Table, preprocessing: dict[str, Any], place: Path) -> np.ndarray:
    names = [name for name in rows.column_names if name != LABEL]
    shape = preprocessing["shape"]
    if len(names) != prod(shape):
        raise UserError(
            f"{place} has {len(names)} columns beside the label, but the network takes {prod(shape)} "
            f"values ({'×'.join(map(str, shape))}) or a column image or img: give one of them"
        )
    return numbers(rows, place, names).reshape(-1, *shape)
