"""Small tables and images for the tests of datasets."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from structnet.data.dataset import Dataset


def png(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def image_rows(images: list[Any], labels: list[Any], column: str = "image") -> pa.Table:
    """A table in the Hugging Face layout; an image is an array, bytes, or None."""
    data = [png(image) if isinstance(image, np.ndarray) else image for image in images]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return pa.table({column: pa.array([{"bytes": d, "path": None} for d in data], kind), "label": labels})


def grey_images(count: int, seed: int = 0, shape: tuple[int, ...] = (3, 4)) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, shape, dtype=np.uint8) for _ in range(count)]


def write_all_splits(folder: Path, rows: dict[str, pa.Table]) -> str:
    for split, table in rows.items():
        pq.write_table(table, folder / f"{split}.parquet")
    return str(folder)


def number_table(count: int, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    numbers = {"x": rng.normal(5, 3, count), "y": rng.uniform(-1, 1, count)}
    return pa.table(numbers | {"label": rng.permutation(np.arange(count) % 3)})


def same_split(one: Dataset, two: Dataset) -> bool:
    pairs = [(one.train, two.train), (one.validation, two.validation), (one.test, two.test)]
    return all(a.images.equal(b.images) and a.labels.equal(b.labels) for a, b in pairs)
