"""The datasets that torchvision reads, from the files of their authors; nothing is downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from structnet.data.dataset import Dataset, RawSplits, images_dataset, validation_size
from structnet.data.files import first_line
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


def load(name: str, *, data_dir: str | None, standardise: bool, teacher_seed: int) -> Dataset:
    """data_dir: the folder above that of the dataset, "data" when None; teacher_seed does not matter."""
    splits, names = _read(name, Path(data_dir or "data"))
    return images_dataset(name, splits, names, 255.0, standardise)


def _read(name: str, root: Path) -> tuple[RawSplits, tuple[str, ...]]:
    from torchvision import datasets

    kind, folder, content = TORCHVISION[name]
    try:
        # CIFAR's files are pickles; the loader opens them only after their checksums have been found right.
        train = getattr(datasets, kind)(str(root), train=True, download=False)
        test = getattr(datasets, kind)(str(root), train=False, download=False)
    except Exception as error:
        raise UserError(
            f"{name} was not found whole in {root / folder} ({first_line(error)}): put {content} "
            "there, or say where they are with data_dir; images in Parquet files are a dataset by the path of their "
            "folder"
        ) from error
    pixels, labels = _channels_first(train.data), np.asarray(train.targets)
    names = tuple(train.classes) if name not in ("mnist", "kmnist") else tuple("0123456789")
    last = len(labels) - validation_size(len(labels))
    raw = {
        "train": (pixels[:last], labels[:last]),
        "validation": (pixels[last:], labels[last:]),
        "test": (_channels_first(test.data), np.asarray(test.targets)),
    }
    return raw, names


def _channels_first(pixels: Any) -> np.ndarray:
    array = np.asarray(pixels)
    return array[:, None] if array.ndim == 3 else np.ascontiguousarray(array.transpose(0, 3, 1, 2))
