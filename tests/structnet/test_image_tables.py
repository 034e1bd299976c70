"""Datasets of images in the layout of the hub: decoded exactly, of one size, and errors that name the row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from helpers.data_files import grey_images, image_rows, png, write_all_splits

from structnet.data.datasets import load_dataset
from structnet.data.pictures import decode_images, images_of_rows
from structnet.errors import UserError


@pytest.mark.parametrize("column", ["image", "img"])
def test_grey_images_are_decoded_exactly(column: str, tmp_path: Path) -> None:
    images = grey_images(30)
    table = image_rows(images, [0, 1, 2] * 10, column)
    data = load_dataset(write_all_splits(tmp_path, dict.fromkeys(("train", "validation", "test"), table)))
    assert data.input_shape == (1, 3, 4)
    assert data.train.images.equal(torch.tensor(np.stack(images))[:, None] / 255)
    assert data.preprocessing["scale"] == [255.0]


def test_colour_images_have_their_channels_first(tmp_path: Path) -> None:
    images = grey_images(20, shape=(3, 4, 3))
    table = image_rows(images, [0, 1] * 10)
    data = load_dataset(write_all_splits(tmp_path, dict.fromkeys(("train", "validation", "test"), table)))
    assert data.input_shape == (3, 3, 4)
    assert data.train.images.equal(torch.tensor(np.stack(images)).permute(0, 3, 1, 2) / 255)
    standard = load_dataset(str(tmp_path), standardise=True).train.images
    assert torch.allclose(standard.mean((0, 2, 3)), torch.zeros(3), atol=1e-6)
    assert torch.allclose(standard.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-6)


def test_one_colour_image_makes_all_of_them_colour(tmp_path: Path) -> None:
    images = [*grey_images(9), *grey_images(1, shape=(3, 4, 3))]
    source = images_of_rows(image_rows(images, [0] * 10), "image", tmp_path)
    pixels = decode_images(source)
    assert pixels.shape == (10, 3, 3, 4)
    assert np.array_equal(pixels[0], np.stack([images[0]] * 3))
    assert np.array_equal(pixels[9], images[9].transpose(2, 0, 1))


def test_large_images_are_decoded_by_threads_in_their_order() -> None:
    images = [np.full((128, 128), level, np.uint8) for level in range(200)]
    source = images_of_rows(image_rows(images, [0] * 200), "image", Path("x"))
    assert decode_images(source)[:, 0, 0, 0].tolist() == list(range(200))


BAD_IMAGES: dict[str, tuple[Any, str]] = {
    "ragged": (np.zeros((4, 4), np.uint8), "row 5 of .* is an image of 4×4 pixels, but the first is 3×4"),
    "truncated": (png(np.zeros((3, 4), np.uint8))[:45], "row 5 of .* is not a readable image"),
    "no image": (b"nothing", "row 5 of .* is none of PNG, JPEG"),
    "missing": (None, "row 5 of .* has no image bytes"),
}


@pytest.mark.parametrize("case", BAD_IMAGES)
@pytest.mark.parametrize("row", [5, 0])
def test_images_that_do_not_fit_are_named(case: str, row: int, tmp_path: Path) -> None:
    bad, message = BAD_IMAGES[case]
    images: list[Any] = grey_images(20)
    images[row] = bad
    pq.write_table(image_rows(images, [0, 1] * 10), tmp_path / "rows.parquet")
    if case == "ragged" and row == 0:
        message = "row 1 of .* is an image of 3×4 pixels, but the first is 4×4"
    with pytest.raises(UserError, match=message.replace("row 5", f"row {row}")):
        load_dataset(str(tmp_path / "rows.parquet"))


def test_the_splits_must_have_images_of_one_size(tmp_path: Path) -> None:
    train = image_rows(grey_images(4), [0, 1] * 2)
    test = image_rows(grey_images(4, shape=(5, 5)), [0, 1] * 2)
    folder = write_all_splits(tmp_path, {"train": train, "validation": train, "test": test})
    with pytest.raises(
        UserError, match=r"test.parquet has images of 5×5 pixels, but the training images have 3×4"
    ):
        load_dataset(folder)
