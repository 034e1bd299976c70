"""New inputs for a network that has been trained, preprocessed exactly as its dataset was."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from structnet.data.labels import class_numbers, read_labels
from structnet.data.pictures import (
    IMAGE_SUFFIXES,
    ImageSource,
    decode_images,
    image_column,
    images_of_files,
    images_of_rows,
)
from structnet.data.preprocessing import preprocess
from structnet.data.rows import LABEL, number_columns, read_rows
from structnet.errors import UserError


def read_inputs(path: str, preprocessing: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """New inputs, preprocessed exactly as a dataset was: float32 (n, *shape), and labels int64 (n,) or None.

    path: a Parquet or CSV file, one PNG or JPEG file, or a folder of such images (in order of their names).
    For images, a table may have an image column or as many numeric columns as the image has values, in the
    raw units of the dataset. For columns, those of the training data are taken by name and others ignored.
    Labels are read when there is a `label` column. Images are converted between greyscale and colour, never
    resized.
    Raises UserError when the file cannot be read or does not fit the preprocessing.
    """
    place = Path(path)
    if not place.exists():
        raise UserError(f"input is {path!r}, but there is no such file or folder: check the spelling")
    if place.is_dir() or place.suffix.lower() in IMAGE_SUFFIXES:
        return _read_image_files(place, preprocessing), None
    rows = read_rows(place)
    if preprocessing["kind"] == "columns":
        _, values = number_columns(rows, place, preprocessing["columns"])
    elif (column := image_column(rows)) is not None:
        values = _decode_for(images_of_rows(rows, column, place), preprocessing, place)
    else:
        values = _pixels_of_columns(rows, preprocessing, place)
    labels = None
    if LABEL in rows.column_names:
        text = read_labels(rows, place)
        labels = torch.from_numpy(class_numbers(text, preprocessing["class_names"], place))
    return preprocess(values, preprocessing), labels


def _read_image_files(place: Path, preprocessing: dict[str, Any]) -> torch.Tensor:
    if preprocessing["kind"] != "image":
        columns = ", ".join(preprocessing["columns"][:5])
        raise UserError(
            f"{place} is an image or a folder, but the network takes {len(preprocessing['columns'])} "
            f"columns ({columns}, ...): give a Parquet or CSV file with them"
        )
    files = [place]
    if place.is_dir():
        files = sorted(file for file in place.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise UserError(
            f"{place} holds no image, but must hold files that end in .png, .jpg or .jpeg: "
            "name another folder"
        )
    return preprocess(_decode_for(images_of_files(files), preprocessing, place), preprocessing)


def _decode_for(source: ImageSource, preprocessing: dict[str, Any], place: Path) -> np.ndarray:
    channels, height, width = preprocessing["shape"]
    pixels = decode_images(source, channels)
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
    columns, values = number_columns(rows, place)
    shape = preprocessing["shape"]
    if len(columns) != prod(shape):
        raise UserError(
            f"{place} has {len(columns)} columns beside the label, but the network takes {prod(shape)} "
            f"values ({'×'.join(map(str, shape))}) or a column image or img: give one of them"
        )
    return values.reshape(-1, *shape)
