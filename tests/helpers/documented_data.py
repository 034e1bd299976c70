"""Data as the pages name them, small and made from what scikit-learn brings along."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits


def enlarged(digits: np.ndarray) -> np.ndarray:
    """(images, 28, 28) of 8×8 digits, each pixel as 3×3, in a frame of 2."""
    return np.pad(digits.astype(np.uint8).repeat(3, axis=1).repeat(3, axis=2) * 15, ((0, 0), (2, 2), (2, 2)))


def write_mnist(folder: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """(images, 28, 28) bytes and their labels in MNIST's files: 1,400 to train, the rest as its test images."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for prefix, part in (("train", slice(0, 1400)), ("t10k", slice(1400, None))):
        pixels, classes = images[part], labels[part].astype(np.uint8)
        sizes = b"".join(size.to_bytes(4, "big") for size in pixels.shape)
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + sizes + pixels.tobytes())
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01" + sizes[:4] + classes.tobytes())


def write_mnist_of_digits(folder: Path) -> None:
    """The digits of scikit-learn as if they were MNIST."""
    digits = load_digits()
    write_mnist(folder, enlarged(digits.images), digits.target)
