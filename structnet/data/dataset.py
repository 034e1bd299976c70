"""A dataset as networks take it: three splits, and how they were made from raw values."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch

from structnet.data.preprocessing import fingerprint, image_preprocessing, preprocess
from structnet.seeds import stream

SPLITS = ("train", "validation", "test")

# Split -> raw values, uint8 (n, channels, height, width) or float64 (n, columns), and class numbers (n,).
RawSplits = dict[str, tuple[np.ndarray, np.ndarray]]

_LEAST_VALIDATION = 300


@dataclass(frozen=True, eq=False)
class Split:
    """`images` float32 (n, channels, height, width) or (n, columns); `labels` int64 (n,), class numbers."""

    images: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def at(self, positions: np.ndarray) -> Split:
        """The images and labels at these positions, in their order, as a split of their own."""
        where = torch.from_numpy(positions).to(self.labels.device)
        return Split(self.images[where], self.labels[where])


@dataclass(frozen=True, eq=False)
class Dataset:
    """Three splits as a network takes them, and how they were made from the raw data."""

    name: str
    train: Split
    validation: Split
    test: Split
    classes: int
    class_names: tuple[str, ...]
    preprocessing: dict[str, Any]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input, without the batch."""
        return tuple(self.train.images.shape[1:])

    @property
    def input_units(self) -> int:
        """Numbers per input: the size of a network's input group."""
        return prod(self.input_shape)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the preprocessing as JSON with sorted keys, 64 hexadecimal digits."""
        return fingerprint(self.preprocessing)


def images_dataset(
    name: str,
    raw: RawSplits,
    names: tuple[str, ...],
    full_scale: float,
    standardise: bool,
) -> Dataset:
    """A dataset of raw images: pixels in [0, 1] by their full scale, or standardised per channel."""
    return dataset_of(name, raw, image_preprocessing(raw["train"][0], names, full_scale, standardise))


def dataset_of(name: str, raw: RawSplits, preprocessing: dict[str, Any]) -> Dataset:
    """A dataset of raw values, preprocessed; its classes are those that the preprocessing names."""
    splits = {}
    for split in SPLITS:
        values, labels = raw[split]
        splits[split] = Split(preprocess(values, preprocessing), torch.tensor(labels, dtype=torch.int64))
    names = tuple(preprocessing["class_names"])
    return Dataset(name, **splits, classes=len(names), class_names=names, preprocessing=preprocessing)


def fixed_order(count: int) -> np.ndarray:
    """The one shuffle of a dataset of this size, whatever the seed of an experiment."""
    return stream(0, "splits").permutation(count)


def validation_size(count: int) -> int:
    """The last 10 % of the training images, at least 300; a quarter where that would be more than half."""
    size = max(_LEAST_VALIDATION, count // 10)
    return size if 2 * size <= count else count // 4
