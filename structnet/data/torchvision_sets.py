"""The datasets that torchvision reads, from the files of their authors; nothing is downloaded."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from structnet.data.dataset import Dataset, RawSplits, images_dataset, validation_size
from structnet.data.rows import first_line
from structnet.errors import UserError

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
FASHION = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)


def load(name: str, *, data_dir: str | None, standardise: bool | None, teacher_seed: int) -> Dataset:
    """data_dir: the folder above that of the dataset, "data" when None; teacher_seed does not matter."""
    splits, names = _read(name, Path(data_dir or "data"))
    return images_dataset(name, splits, names, 255.0, standardise)


def _read(name: str, root: Path) -> tuple[RawSplits, tuple[str, ...]]:
    kind, folder, content = TORCHVISION[name]
    if content == _IDX:
        return _read_idx(name, root / folder)
    from torchvision import datasets

    try:
        # CIFAR's files are pickles; the loader opens them only after their checksums have been found right.
        train = getattr(datasets, kind)(str(root), train=True, download=False)
        test = getattr(datasets, kind)(str(root), train=False, download=False)
    except Exception as error:
        raise _not_whole(name, root / folder, content, error) from error
    pixels, labels = _channels_first(train.data), np.asarray(train.targets)
    splits = _splits(pixels, labels, _channels_first(test.data), np.asarray(test.targets))
    return splits, tuple(train.classes)


def _splits(
    pixels: np.ndarray, labels: np.ndarray, test_pixels: np.ndarray, test_labels: np.ndarray
) -> RawSplits:
    last = len(labels) - validation_size(len(labels))
    return {
        "train": (pixels[:last], labels[:last]),
        "validation": (pixels[last:], labels[last:]),
        "test": (test_pixels, test_labels),
    }


def _not_whole(name: str, folder: Path, content: str, error: Exception) -> UserError:
    return UserError(
        f"{name} was not found whole in {folder} ({first_line(error)}): put {content} "
        "there, or say where they are with data_dir; images in Parquet files are a dataset by the path of their "
        "folder"
    )


def _read_idx(name: str, folder: Path) -> tuple[RawSplits, tuple[str, ...]]:
    """The format of MNIST. Importing torchvision, to have it read so little, takes a second."""
    try:
        parts = {
            split: (
                _idx(folder / f"{stem}-images-idx3-ubyte", 3),
                _idx(folder / f"{stem}-labels-idx1-ubyte", 1),
            )
            for split, stem in (("train", "train"), ("test", "t10k"))
        }
        for images, labels in parts.values():
            if len(images) != len(labels):
                raise ValueError(f"{len(images)} images, but {len(labels)} labels")
    except (OSError, ValueError) as error:
        raise _not_whole(name, folder, _IDX, error) from error
    names = FASHION if name == "fashion_mnist" else tuple("0123456789")
    (pixels, labels), test = parts["train"], parts["test"]
    return _splits(
        pixels[:, None], labels.astype(np.int64), test[0][:, None], test[1].astype(np.int64)
    ), names


def _idx(file: Path, dimensions: int) -> np.ndarray:
    """Bytes behind a header of big-endian numbers: 2,048 + dimensions, and the sizes. Raises ValueError for others."""
    data, start = np.fromfile(file, dtype=np.uint8), 4 * (dimensions + 1)
    header = data[:start].tobytes()
    magic, *sizes = (int.from_bytes(header[place : place + 4], "big") for place in range(0, start, 4))
    if magic != 2048 + dimensions or len(data) != start + prod(sizes):
        raise ValueError(f"{file.name} is no whole file of bytes in {dimensions} dimensions")
    return data[start:].reshape(sizes)


def _channels_first(pixels: Any) -> np.ndarray:
    array = np.asarray(pixels)
    return array[:, None] if array.ndim == 3 else np.ascontiguousarray(array.transpose(0, 3, 1, 2))
