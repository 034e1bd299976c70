"""Datasets with fixed splits: validation and test do not depend on any random seed of an experiment."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch

from structnet.data import files as table_data
from structnet.data.preprocessing import (
    column_preprocessing,
    fingerprint,
    image_preprocessing,
    preprocess,
    read_inputs,
)
from structnet.data.teacher import teacher_splits
from structnet.errors import UserError
from structnet.seeds import stream

_IDX = "the four uncompressed files (train-images-idx3-ubyte, ...)"
# Name -> class in torchvision, folder below data_dir, what must lie there.
TORCHVISION = {
    "mnist": ("MNIST", "MNIST/raw", _IDX),
    "fashion_mnist": ("FashionMNIST", "FashionMNIST/raw", _IDX),
    "kmnist": ("KMNIST", "KMNIST/raw", _IDX),
    "cifar10": (
        "CIFAR10",
        "cifar-10-batches-py",
        "the original batches (data_batch_1, ..., test_batch, batches.meta)",
    ),
    "cifar100": ("CIFAR100", "cifar-100-python", "the original files (train, test, meta)"),
}
__all__ = ["DATASETS", "Dataset", "Split", "fingerprint", "load_dataset", "read_inputs"]

DATASETS = ("digits", *TORCHVISION, "teacher")
SPLITS = ("train", "validation", "test")

# Split -> raw values, uint8 (n, channels, height, width) or float64 (n, columns), and class numbers (n,).
RawSplits = dict[str, tuple[np.ndarray, np.ndarray]]

_LEAST_VALIDATION = 300
_LEAST_ROWS = 10


@dataclass(frozen=True, eq=False)
class Split:
    """`images` float32 (n, channels, height, width) or (n, columns); `labels` int64 (n,), class numbers."""

    images: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)


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


def load_dataset(
    name_or_path: str, *, data_dir: str | None = None, standardise: bool = False, teacher_seed: int = 0
) -> Dataset:
    """A dataset by name (`DATASETS`), or from a Parquet or CSV file, or a folder with one for each split.

    Inputs are in [0, 1]: images by their full scale, numeric columns by the smallest and largest value of the
    training split (validation and test may reach beyond). With `standardise` they get mean 0 and standard
    deviation 1 over the training split instead, per channel or per column. The `teacher` is standard normal
    and left as it is.

    Validation is the last 10 % of the training images, at least 300; where that would be more than half of
    them, a quarter. `digits` is split 60/20/20. A path without a test file gives up its last 20 % for it.
    `digits` and a path whose splits are made here are shuffled first, always in the same order.

    data_dir: the folder of the torchvision datasets, "data" when None; nothing is downloaded.
    Raises UserError when the name is unknown, files are missing or damaged, or their content does not fit.
    """
    if name_or_path == "digits":
        return _images_dataset("digits", _digits(), tuple("0123456789"), 16.0, standardise)
    if name_or_path == "teacher":
        return _teacher(teacher_seed, standardise)
    if name_or_path in TORCHVISION:
        splits, names = _torchvision(name_or_path, Path(data_dir or "data"))
        return _images_dataset(name_or_path, splits, names, 255.0, standardise)
    path = Path(name_or_path)
    if not path.exists():
        raise UserError(
            f"dataset is {name_or_path!r}, but must be one of {', '.join(DATASETS)} or an existing Parquet "
            "or CSV file or folder: check the spelling"
        )
    return _from_path(path, standardise)


# Datasets by name


def _images_dataset(
    name: str,
    raw: RawSplits,
    names: tuple[str, ...],
    full_scale: float,
    standardise: bool,
) -> Dataset:
    return _dataset(name, raw, image_preprocessing(raw["train"][0], names, full_scale, standardise))


def _dataset(name: str, raw: RawSplits, preprocessing: dict[str, Any]) -> Dataset:
    splits = {}
    for split in SPLITS:
        values, labels = raw[split]
        splits[split] = Split(preprocess(values, preprocessing), torch.tensor(labels, dtype=torch.int64))
    names = tuple(preprocessing["class_names"])
    return Dataset(name, **splits, classes=len(names), class_names=names, preprocessing=preprocessing)


def _digits() -> RawSplits:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    order = _fixed_order(len(bunch.target))
    pixels = bunch.images.astype(np.uint8)[order, None]
    labels = bunch.target[order]
    first, second = len(order) * 60 // 100, len(order) * 80 // 100
    parts = {"train": slice(0, first), "validation": slice(first, second), "test": slice(second, None)}
    return {split: (pixels[part], labels[part]) for split, part in parts.items()}


def _teacher(teacher_seed: int, standardise: bool) -> Dataset:
    raw = teacher_splits(teacher_seed)
    inputs = raw["train"][0]
    columns = [f"input_{i}" for i in range(inputs.shape[1])]
    names = ("0", "1", "2", "3")
    if standardise:
        mean, deviation = inputs.mean(axis=0, dtype=np.float64), inputs.std(axis=0, dtype=np.float64)
        return _dataset("teacher", raw, column_preprocessing(columns, mean, deviation, names, "standardised"))
    zero, one = np.zeros(len(columns)), np.ones(len(columns))
    return _dataset("teacher", raw, column_preprocessing(columns, zero, one, names, "none"))


def _torchvision(name: str, root: Path) -> tuple[RawSplits, tuple[str, ...]]:
    from torchvision import datasets

    kind, folder, content = TORCHVISION[name]
    try:
        # CIFAR's files are pickles; the loader opens them only after their checksums have been found right.
        train = getattr(datasets, kind)(str(root), train=True, download=False)
        test = getattr(datasets, kind)(str(root), train=False, download=False)
    except Exception as error:
        raise UserError(
            f"{name} was not found whole in {root / folder} ({table_data.first_line(error)}): put {content} "
            "there, or say where they are with data_dir; images in Parquet files are a dataset by the path of their "
            "folder"
        ) from error
    pixels, labels = _channels_first(train.data), np.asarray(train.targets)
    names = tuple(train.classes) if name not in ("mnist", "kmnist") else tuple("0123456789")
    last = len(labels) - _validation_size(len(labels))
    raw = {
        "train": (pixels[:last], labels[:last]),
        "validation": (pixels[last:], labels[last:]),
        "test": (_channels_first(test.data), np.asarray(test.targets)),
    }
    return raw, names


def _channels_first(pixels: Any) -> np.ndarray:
    array = np.asarray(pixels)
    return array[:, None] if array.ndim == 3 else np.ascontiguousarray(array.transpose(0, 3, 1, 2))


# Datasets from files


def _from_path(path: Path, standardise: bool) -> Dataset:
    files = table_data.read_dataset(path)
    raw = _with_all_splits(files.splits, path)
    if files.columns is None:
        return _images_dataset(str(path), raw, files.class_names, 255.0, standardise)
    train = raw["train"][0]
    if standardise:
        offset, scale, scaling = train.mean(axis=0), train.std(axis=0), "standardised"
    else:
        offset, scale, scaling = train.min(axis=0), np.ptp(train, axis=0), "unit"
    return _dataset(
        str(path), raw, column_preprocessing(files.columns, offset, scale, files.class_names, scaling)
    )


def _with_all_splits(given: RawSplits, path: Path) -> RawSplits:
    """Takes the splits that are missing from the end of the training rows, in their fixed order."""
    values, labels = given["train"]
    if len(given) == len(SPLITS):
        return given
    if len(labels) < _LEAST_ROWS:
        raise UserError(
            f"{path} has {len(labels)} training rows, but needs at least {_LEAST_ROWS} to be split: add "
            "rows, or files for validation and test"
        )
    order = _fixed_order(len(labels))
    parts = {}
    if "test" not in given:
        at = len(order) - len(order) // 5
        order, parts["test"] = order[:at], order[at:]
    if "validation" not in given:
        at = len(order) - _validation_size(len(order))
        order, parts["validation"] = order[:at], order[at:]
    parts["train"] = order
    return given | {split: (values[rows], labels[rows]) for split, rows in parts.items()}


def _fixed_order(count: int) -> np.ndarray:
    """The one shuffle of a dataset of this size, whatever the seed of an experiment."""
    return stream(0, "splits").permutation(count)


def _validation_size(count: int) -> int:
    """The last 10 % of the training images, at least 300; a quarter where that would be more than half."""
    size = max(_LEAST_VALIDATION, count // 10)
    return size if 2 * size <= count else count // 4
