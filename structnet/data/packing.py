"""A dataset as plain arrays, so that all processes of a machine can share one copy of it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from structnet.data.dataset import SPLITS, Dataset, Scaling, Split


def pack(data: Dataset) -> dict[str, np.ndarray]:
    """The images and labels of every split, and what makes inputs of images that are stored as pixels."""
    packed = {}
    for name in SPLITS:
        split: Split = getattr(data, name)
        packed[f"{name}_images"] = split.stored.cpu().numpy()
        packed[f"{name}_labels"] = split.labels.cpu().numpy()
        if split.scaling is not None:
            packed[f"{name}_offset"] = split.scaling.offset.numpy()
            packed[f"{name}_scale"] = split.scaling.scale.numpy()
    return packed


def description(data: Dataset) -> dict[str, Any]:
    """What a dataset has beside its splits, as plain values."""
    return {name: getattr(data, name) for name in ("name", "classes", "class_names", "preprocessing")}


def unpack(packed: Mapping[str, np.ndarray], device: str = "cpu") -> dict[str, Split]:
    """The splits of a packed dataset, on a CPU without a copy."""
    with warnings.catch_warnings():
        # Shared arrays are read-only; nothing here writes to the images.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return {name: _unpacked(packed, name).to(device) for name in SPLITS}


def _unpacked(packed: Mapping[str, np.ndarray], name: str) -> Split:
    scaling = None
    if f"{name}_scale" in packed:
        scaling = Scaling(*(torch.from_numpy(packed[f"{name}_{part}"]) for part in ("offset", "scale")))
    return Split(
        torch.from_numpy(packed[f"{name}_images"]), torch.from_numpy(packed[f"{name}_labels"]), scaling
    )
