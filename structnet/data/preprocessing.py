"""The preprocessing of a dataset as plain data, and the same preprocessing again for new inputs.

One dictionary says everything and goes through JSON unchanged, so that it can be stored beside a snapshot:

    input = (value - offset) / scale        offset and scale per channel of an image or per column of a table
"""

from __future__ import annotations

import hashlib
import json
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from structnet.data.files import (
    IMAGE_SUFFIXES,
    LABEL,
    ImageSource,
    class_numbers,
    decode_images,
    image_column,
    images_of_files,
    images_of_rows,
    number_columns,
    read_labels,
    read_rows,
)
from structnet.errors import UserError


def fingerprint(preprocessing: dict[str, Any]) -> str:
    """SHA-256 of the preprocessing as JSON with sorted keys, 64 hexadecimal digits."""
    text = json.dumps(preprocessing, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def preprocess(values: np.ndarray, preprocessing: dict[str, Any]) -> torch.Tensor:
    """Raw values (n, ...) to inputs float32 (n, ...).

    Pixels are computed in float32, columns in float64, because a column may have a large offset.
    """
    if preprocessing["kind"] == "columns":
        scaled = (values.astype(np.float64) - preprocessing["offset"]) / np.array(preprocessing["scale"])
        return torch.from_numpy(scaled.astype(np.float32))
    offset = torch.tensor(preprocessing["offset"], dtype=torch.float32).view(-1, 1, 1)
    scale = torch.tensor(preprocessing["scale"], dtype=torch.float32).view(-1, 1, 1)
    images = torch.from_numpy(values).to(torch.float32, copy=True)
    return images.sub_(offset).div_(scale)


def image_preprocessing(
    pixels: np.ndarray, names: tuple[str, ...], full_scale: float, standardise: bool
) -> dict[str, Any]:
    """Of images, uint8 (n, channels, height, width): by their full scale, or per channel to mean 0 and deviation 1."""
    channels = pixels.shape[1]
    offset, scale = [0.0] * channels, [full_scale] * channels
    if standardise:
        # A histogram of the 256 values gives mean and deviation exactly, without a float copy of the images.
        counts = np.stack([np.bincount(pixels[:, c].ravel(), minlength=256) for c in range(channels)])
        levels = np.arange(256)
        mean = counts @ levels / counts.sum(axis=1)
        variance = (counts * (levels - mean[:, None]) ** 2).sum(axis=1) / counts.sum(axis=1)
        offset, scale = mean.tolist(), _no_zeros(np.sqrt(variance))
    return {
        "kind": "image",
        "shape": list(pixels.shape[1:]),
        "scaling": "standardised" if standardise else "unit",
        "full_scale": full_scale,
        "offset": offset,
        "scale": scale,
        "class_names": list(names),
    }


def column_preprocessing(
    columns: list[str], offset: np.ndarray, scale: np.ndarray, names: tuple[str, ...], scaling: str
) -> dict[str, Any]:
    """Of columns of numbers: less an offset, divided by a scale, each (columns,); scaling: what it is called."""
    return {
        "kind": "columns",
        "shape": [len(columns)],
        "scaling": scaling,
        "columns": columns,
        "offset": offset.tolist(),
        "scale": _no_zeros(scale),
        "class_names": list(names),
    }


def _no_zeros(scale: np.ndarray) -> list[float]:
    """A constant channel or column is only shifted to 0."""
    return [float(one) for one in np.where(scale > 0, scale, 1.0)]


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
