"""The preprocessing of a dataset as plain data, and the same preprocessing again for new inputs.

One dictionary says everything and goes through JSON unchanged, so that it can be stored beside a snapshot:

    input = (value - offset) / scale        offset and scale per channel of an image or per column of a table
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import torch

from structnet.data.tables import Column, input_count, table_inputs


def fingerprint(preprocessing: dict[str, Any]) -> str:
    """SHA-256 of the preprocessing as JSON with sorted keys, 64 hexadecimal digits."""
    text = json.dumps(preprocessing, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def preprocess(values: np.ndarray, preprocessing: dict[str, Any]) -> torch.Tensor:
    """Raw values (n, ...) to inputs float32 (n, ...).

    Pixels are computed in float32, columns in float64, because a column may have a large offset.
    """
    if preprocessing["kind"] == "table":
        return torch.from_numpy(table_inputs(values.astype(np.float64), preprocessing["columns"]))
    if preprocessing["kind"] == "columns":
        scaled = (values.astype(np.float64) - preprocessing["offset"]) / np.array(preprocessing["scale"])
        return torch.from_numpy(scaled.astype(np.float32))
    offset = torch.tensor(preprocessing["offset"], dtype=torch.float32).view(-1, 1, 1)
    scale = torch.tensor(preprocessing["scale"], dtype=torch.float32).view(-1, 1, 1)
    images = torch.from_numpy(values).to(torch.float32, copy=True)
    return images.sub_(offset).div_(scale)


def image_preprocessing(
    pixels: np.ndarray, names: tuple[str, ...], full_scale: float, standardise: bool | None
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


def table_preprocessing(
    columns: list[Column], names: tuple[str, ...], standardise: bool, label: str, keys: list[str]
) -> dict[str, Any]:
    """Of a table: its columns (structnet.data.tables), the column of its labels, and columns that name its rows."""
    return {
        "kind": "table",
        "shape": [input_count(columns)],
        "scaling": "standardised" if standardise else "unit",
        "columns": columns,
        "label": label,
        "keys": keys,
        "class_names": list(names),
    }


def _no_zeros(scale: np.ndarray) -> list[float]:
    """A constant channel or column is only shifted to 0."""
    return [float(one) for one in np.where(scale > 0, scale, 1.0)]
