"""New inputs get exactly the preprocessing of the training data, or are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import torch
from helpers.data_files import grey_images, image_rows, number_table, write_all_splits
from PIL import Image

from structnet.data.datasets import load_dataset
from structnet.data.labels import class_numbers
from structnet.data.new_inputs import read_inputs
from structnet.errors import UserError


@pytest.mark.parametrize("standardise", [False, True])
def test_reading_a_training_file_gives_the_training_inputs(standardise: bool, tmp_path: Path) -> None:
    tables = {
        "numbers": number_table(30),
        "grey": image_rows(grey_images(30), ["a", "b", "c"] * 10),
        "colour": image_rows(grey_images(30, shape=(3, 4, 3)), [4, 5, 6] * 10),
    }
    for name, table in tables.items():
        folder = tmp_path / name
        folder.mkdir()
        write_all_splits(folder, dict.fromkeys(("train", "validation", "test"), table))
        data = load_dataset(str(folder), standardise=standardise)
        stored = json.loads(json.dumps(data.preprocessing))
        inputs, labels, *_ = read_inputs(str(folder / "train.parquet"), stored)
        assert inputs.equal(data.train.images)
        assert labels is not None and labels.equal(data.train.labels)
        pq.write_table(table.drop_columns("label"), folder / "new.parquet")
        inputs, labels, *_ = read_inputs(str(folder / "new.parquet"), stored)
        assert inputs.equal(data.train.images)
        assert labels is None


def test_pixels_may_come_as_columns_in_raw_units(tmp_path: Path) -> None:
    data = load_dataset("digits")
    raw = (data.test.images * 16).flatten(1).numpy()
    columns: dict[str, Any] = {f"pixel{i}": raw[:, i] for i in range(64)}
    pyarrow.csv.write_csv(pa.table(columns | {"label": data.test.labels.numpy()}), tmp_path / "digits.csv")
    inputs, labels, *_ = read_inputs(str(tmp_path / "digits.csv"), data.preprocessing)
    assert inputs.equal(data.test.images)
    assert labels is not None and labels.equal(data.test.labels)
    with pytest.raises(UserError, match="no column 'input_0'"):
        read_inputs(str(tmp_path / "digits.csv"), load_dataset("teacher").preprocessing)


def test_one_image_and_a_folder_of_images(tmp_path: Path) -> None:
    preprocessing = load_dataset("digits").preprocessing
    Image.fromarray(np.full((8, 8), 255, np.uint8)).save(tmp_path / "b.png")
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "a.jpg")
    (tmp_path / "notes.txt").write_text("not an image")
    inputs, labels, *_ = read_inputs(str(tmp_path), preprocessing)
    assert labels is None
    assert inputs.tolist() == [torch.zeros(1, 8, 8).tolist(), torch.ones(1, 8, 8).tolist()]  # a.jpg, b.png
    white, *_ = read_inputs(str(tmp_path / "b.png"), preprocessing)
    assert white.equal(torch.ones(1, 1, 8, 8))


def test_columns_are_taken_by_name_and_others_ignored(tmp_path: Path) -> None:
    train = pa.table({"a": [0.0, 10.0], "b": [0.0, 100.0], "label": [0, 1]})
    folder = write_all_splits(tmp_path, dict.fromkeys(("train", "validation", "test"), train))
    data = load_dataset(folder, standardise=False)
    pq.write_table(pa.table({"id": ["p", "q"], "b": [50.0, 0.0], "a": [1.0, 2.0]}), tmp_path / "new.parquet")
    inputs, *_ = read_inputs(str(tmp_path / "new.parquet"), data.preprocessing)
    assert torch.allclose(inputs, torch.tensor([[0.1, 0.5], [0.2, 0.0]]))


@pytest.mark.parametrize(
    ("names", "labels", "numbers"),
    [
        (["cat", "dog"], ["dog", "cat"], [1, 0]),
        (["5", "7"], [7, 5], [1, 0]),
        (["1", "2", "x"], [2, 1], [1, 0]),
    ],
)
def test_labels_of_new_inputs_are_names_or_numbers_of_classes(
    names: list[str], labels: list[Any], numbers: list[int]
) -> None:
    column = pa.chunked_array([pa.array(labels)])
    assert class_numbers(column, names, Path("x")).tolist() == numbers


def test_inputs_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    images, columns = load_dataset("digits").preprocessing, load_dataset("teacher").preprocessing
    Image.fromarray(np.zeros((9, 8), np.uint8)).save(tmp_path / "tall.png")
    (tmp_path / "broken.png").write_bytes(b"nothing")
    (tmp_path / "empty").mkdir()
    pq.write_table(pa.table({"a": [1.0], "b": [2.0]}), tmp_path / "two.parquet")
    pq.write_table(image_rows(grey_images(2), [0, 1]), tmp_path / "small.parquet")
    pq.write_table(image_rows(grey_images(2, shape=(8, 8)), [0, 11]), tmp_path / "label.parquet")
    cases = [
        ("none.png", images, "no such file"),
        ("tall.png", images, "9×8 pixels, but the network takes 8×8"),
        ("broken.png", images, "is not a readable image"),
        ("empty", images, "holds no image"),
        ("tall.png", columns, "the network takes 32 columns"),
        ("two.parquet", images, "has 2 columns beside the label, but the network takes 64 values"),
        ("two.parquet", columns, "no column 'input_0'"),
        ("small.parquet", images, "3×4 pixels, but the network takes 8×8"),
        ("label.parquet", images, "has the label '11'"),
    ]
    for name, preprocessing, message in cases:
        with pytest.raises(UserError, match=message):
            read_inputs(str(tmp_path / name), preprocessing)
