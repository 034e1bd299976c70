"""A dataset as networks take it: three splits, and how they were made from raw values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import torch

from structnet.data.preprocessing import fingerprint, image_preprocessing, preprocess
from structnet.errors import UserError
from structnet.seeds import stream

SPLITS = ("train", "validation", "test")

# Split -> raw values, uint8 (n, channels, height, width) or float64 (n, columns), and class numbers (n,).
RawSplits = dict[str, tuple[np.ndarray, np.ndarray]]

_LEAST_VALIDATION = 300
_MOST_REPEATS = 100


@dataclass(frozen=True, eq=False)
class Scaling:
    """What makes inputs of stored pixels: (pixel - offset) / scale, float32 (channels, 1, 1) each."""

    offset: torch.Tensor
    scale: torch.Tensor

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """uint8 (..., channels, height, width) as inputs, float32, on their device."""
        inputs = pixels.to(torch.float32, copy=True)
        return inputs.sub_(self.offset.to(inputs.device)).div_(self.scale.to(inputs.device))

    def to(self, device: torch.device | str) -> Scaling:
        """The scaling on a device, so that nothing has to be sent there for every batch."""
        return Scaling(self.offset.to(device), self.scale.to(device))


@dataclass(frozen=True, eq=False)
class Split:
    """Images and `labels`, int64 (n,), class numbers.

    stored: the images as they lie in memory: float32 as a network takes them, (n, channels, height, width) or
    (n, columns), or uint8 pixels, a quarter of that, with the scaling that makes inputs of them.
    """

    stored: torch.Tensor
    labels: torch.Tensor
    scaling: Scaling | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def images(self) -> torch.Tensor:
        """All images as a network takes them: float32, kept once they have been asked for."""
        return self.inputs(self.stored)

    def inputs(self, stored: torch.Tensor) -> torch.Tensor:
        """Some of the stored images as a network takes them."""
        return stored if self.scaling is None else self.scaling(stored)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one image."""
        return tuple(self.stored.shape[1:])

    @cached_property
    def label_range(self) -> tuple[int, int]:
        """The least and the greatest class number; (0, 0) of a split without images."""
        if not len(self.labels):
            return 0, 0
        least, greatest = torch.aminmax(self.labels)
        return int(least), int(greatest)

    @property
    def device(self) -> torch.device:
        """Where images and labels lie."""
        return self.labels.device

    def at(self, positions: np.ndarray) -> Split:
        """The images and labels at these positions, in their order, as a split of their own."""
        where = torch.from_numpy(positions).to(self.device)
        return Split(self.stored[where], self.labels[where], self.scaling)

    def part(self, start: int, stop: int) -> Split:
        """The images from one position to before another, as a view."""
        return Split(self.stored[start:stop], self.labels[start:stop], self.scaling)

    def to(self, device: torch.device | str) -> Split:
        """The split on a device."""
        scaling = self.scaling and self.scaling.to(device)
        return Split(self.stored.to(device), self.labels.to(device), scaling)

    def relabelled(self, labels: torch.Tensor) -> Split:
        """The same images with other labels."""
        return replace(self, labels=labels)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Three splits as a network takes them, and how they were made from the raw data.

    notes: what was left out or decided on the way, a sentence each.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: int
    class_names: tuple[str, ...]
    preprocessing: dict[str, Any]
    notes: tuple[str, ...] = ()

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input, without the batch."""
        return self.train.shape

    @property
    def input_units(self) -> int:
        """Numbers per input: the size of a network's input group."""
        return prod(self.input_shape)

    def reduced(self, images: int) -> Dataset:
        """With so many training images, the first ones, and a tenth of that to validate, at least 300; test is whole.

        Raises UserError for more images than there are.
        """
        if not 1 <= images <= len(self.train):
            raise UserError(
                f"images is {images:,}, but must be from 1 to {len(self.train):,}, the training images of {self.name}"
            )
        judged = min(len(self.validation), max(_LEAST_VALIDATION, images // 10))
        return replace(self, train=self.train.part(0, images), validation=self.validation.part(0, judged))

    def balanced(self) -> Dataset:
        """With the training rows of rare classes repeated, so that each class has about as many as the commonest.

        A row comes at most a hundred times. That is what weights of the classes come to, in whole numbers.
        """
        counts = np.bincount(self.train.labels.numpy(), minlength=self.classes)
        times = np.clip(np.rint(counts.max() / np.maximum(counts, 1)), 1, _MOST_REPEATS).astype(np.int64)
        rows = np.repeat(np.arange(len(self.train)), times[self.train.labels.numpy()])
        return replace(self, train=self.train.at(rows))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the preprocessing as JSON with sorted keys, 64 hexadecimal digits."""
        return fingerprint(self.preprocessing)


def images_dataset(
    name: str,
    raw: RawSplits,
    names: tuple[str, ...],
    full_scale: float,
    standardise: bool | None,
) -> Dataset:
    """A dataset of raw images: pixels in [0, 1] by their full scale, or standardised per channel."""
    return dataset_of(name, raw, image_preprocessing(raw["train"][0], names, full_scale, standardise))


def dataset_of(
    name: str, raw: RawSplits, preprocessing: dict[str, Any], notes: tuple[str, ...] = ()
) -> Dataset:
    """A dataset of raw values, preprocessed; its classes are those that the preprocessing names."""
    splits = {split: _split_of(*raw[split], preprocessing) for split in SPLITS}
    names = tuple(preprocessing["class_names"])
    return Dataset(
        name, **splits, classes=len(names), class_names=names, preprocessing=preprocessing, notes=notes
    )


def _split_of(values: np.ndarray, labels: np.ndarray, preprocessing: dict[str, Any]) -> Split:
    numbers = torch.tensor(labels, dtype=torch.int64)
    if values.dtype != np.uint8 or preprocessing["kind"] != "image":
        return Split(preprocess(values, preprocessing), numbers)
    return Split(torch.from_numpy(np.ascontiguousarray(values)), numbers, scaling_of(preprocessing))


def raw_splits(data: Dataset) -> RawSplits:
    """The raw values of a dataset of pictures, or of columns that are only shifted and scaled, to float32."""
    raw: RawSplits = {}
    for name in SPLITS:
        split: Split = getattr(data, name)
        values = split.stored.cpu().numpy()
        if split.scaling is None:
            scale, offset = (np.array(data.preprocessing[part]) for part in ("scale", "offset"))
            values = values.astype(np.float64) * scale + offset
        raw[name] = (values, split.labels.cpu().numpy())
    return raw


def scaling_of(preprocessing: dict[str, Any]) -> Scaling:
    """The scaling that the preprocessing of images says."""
    offset, scale = (torch.tensor(preprocessing[name], dtype=torch.float32) for name in ("offset", "scale"))
    return Scaling(offset.view(-1, 1, 1), scale.view(-1, 1, 1))


def fixed_order(count: int) -> np.ndarray:
    """The one shuffle of a dataset of this size, whatever the seed of an experiment."""
    return stream(0, "splits").permutation(count)


def validation_size(count: int) -> int:
    """The last 10 % of the training images, at least 300; a quarter where that would be more than half."""
    size = max(_LEAST_VALIDATION, count // 10)
    return size if 2 * size <= count else count // 4
