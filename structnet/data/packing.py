"""A dataset as plain arrays, so that all processes of a machine can share one copy of it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from structnet.data.dataset import SPLITS, Dataset, Split


def pack(data: Dataset) -> dict[str, np.ndarray]:
    """The images and labels of every split."""
    packed = {}
    for name in SPLITS:
        split = getattr(data, name)
        packed[f"{name}_images"] = split.images.cpu().numpy()
        packed[f"{name}_labels"] = split.labels.cpu().numpy()
    return packed


def description(data: Dataset) -> dict[str, Any]:
    """What a dataset has beside its splits, as plain values."""
    return {name: getattr(data, name) for name in ("name", "classes", "class_names", "preprocessing")}


def unpack(packed: Mapping[str, np.ndarray], device: str = "cpu") -> dict[str, Split]:
    """The splits of a packed dataset, on a CPU without a copy."""
    with warnings.catch_warnings():
        # Shared arrays are read-only; nothing here writes to the images.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return {
            split: Split(
                torch.from_numpy(packed[f"{split}_images"]).to(device),
                torch.from_numpy(packed[f"{split}_labels"]).to(device),
            )
            for split in SPLITS
        }
