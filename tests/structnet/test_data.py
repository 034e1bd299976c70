"""Datasets: fixed splits, exact preprocessing, and errors that say what to do."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import torch
from helpers.data_files import grey_images, image_rows, number_table, same_split, write_all_splits
from hypothesis import given
from hypothesis import strategies as st
from torchvision import datasets

from structnet.data.datasets import DATASETS, load_dataset
from structnet.data.preprocessing import fingerprint
from structnet.errors import UserError

DATA = os.environ.get("STRUCTNET_DATA", "")


# Datasets by name


def test_digits_are_split_60_20_20_in_unit_range() -> None:
    data = load_dataset("digits")
    assert (len(data.train), len(data.validation), len(data.test)) == (1078, 359, 360)
    assert data.input_shape == (1, 8, 8)
    assert data.input_units == 64
    assert (data.classes, data.class_names) == (10, tuple("0123456789"))
    assert data.train.images.dtype == torch.float32
    assert data.train.labels.dtype == torch.int64
    for split in (data.train, data.validation, data.test):
        assert split.images.min() == 0 and split.images.max() == 1
        assert (
            torch.bincount(split.labels, minlength=10).min() >= 20
        )  # shuffled, so every class is everywhere


def test_every_digit_is_in_exactly_one_split() -> None:
    from sklearn.datasets import load_digits

    data = load_dataset("digits")
    images = torch.cat([data.train.images, data.validation.images, data.test.images]).flatten(1)
    original = load_digits().data.astype(np.float32) / 16
    assert sorted(map(bytes, images.numpy())) == sorted(map(bytes, original))


def test_loading_again_gives_the_same_splits_and_fingerprint() -> None:
    one, two = load_dataset("digits"), load_dataset("digits")
    assert same_split(one, two)
    assert one.fingerprint == two.fingerprint
    assert one.fingerprint != load_dataset("digits", standardise=True).fingerprint


def test_standardise_uses_the_training_split_alone() -> None:
    data = load_dataset("digits", standardise=True)
    assert abs(data.train.images.mean()) < 1e-5
    assert abs(data.train.images.std(correction=0) - 1) < 1e-5
    assert data.validation.images.mean() != 0
    plain = load_dataset("digits")
    scale, offset = data.preprocessing["scale"][0], data.preprocessing["offset"][0]
    assert torch.allclose(data.test.images * scale + offset, plain.test.images * 16, atol=1e-4)


def test_preprocessing_survives_json() -> None:
    for data in (load_dataset("digits", standardise=True), load_dataset("teacher")):
        again = json.loads(json.dumps(data.preprocessing))
        assert again == data.preprocessing
        assert fingerprint(again) == data.fingerprint
        assert len(data.fingerprint) == 64
        assert fingerprint(dict(reversed(again.items()))) == data.fingerprint


def test_an_unknown_dataset_names_the_known_ones() -> None:
    with pytest.raises(UserError) as error:
        load_dataset("mnits")
    assert all(name in str(error.value) for name in ("mnits", *DATASETS))


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "kmnist", "cifar10", "cifar100"])
def test_missing_files_are_said_with_their_place(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"{name} was not found whole in {tmp_path}/.*data_dir"):
        load_dataset(name, data_dir=str(tmp_path))


def write_mnist(folder: Path, train: int, test: int) -> None:
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for prefix, count in (("train", train), ("t10k", test)):
        pixels = (np.arange(count * 784) % 256).astype(np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        sizes = b"".join(size.to_bytes(4, "big") for size in (count, 28, 28))
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + sizes + pixels.tobytes())
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01" + sizes[:4] + labels.tobytes())


def test_validation_is_the_last_tenth_of_the_training_images_but_at_least_300(tmp_path: Path) -> None:
    write_mnist(tmp_path, train=1000, test=20)
    data = load_dataset("mnist", data_dir=str(tmp_path))
    assert (len(data.train), len(data.validation), len(data.test)) == (700, 300, 20)
    assert data.validation.labels.tolist() == [number % 10 for number in range(700, 1000)]
    assert data.input_shape == (1, 28, 28)
    first = torch.arange(784) % 256 / 255
    assert data.train.images[0].flatten().equal(first)


@pytest.mark.parametrize(("name", "kind"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")])
def test_the_format_of_mnist_is_read_as_torchvision_reads_it(tmp_path: Path, name: str, kind: str) -> None:
    write_mnist(tmp_path, train=1200, test=30)
    (tmp_path / "MNIST").rename(tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / kind)
    data = load_dataset(name, data_dir=str(tmp_path))
    train, test = (getattr(datasets, kind)(str(tmp_path), train=part) for part in (True, False))
    assert torch.equal(torch.cat([data.train.stored, data.validation.stored])[:, 0], train.data)
    assert torch.equal(torch.cat([data.train.labels, data.validation.labels]), train.targets)
    assert torch.equal(data.test.stored[:, 0], test.data) and torch.equal(data.test.labels, test.targets)
    assert data.class_names == (tuple("0123456789") if name == "mnist" else tuple(train.classes))


def test_as_many_labels_as_images_are_needed(tmp_path: Path) -> None:
    write_mnist(tmp_path, train=1200, test=30)
    labels = tmp_path / "MNIST/raw/t10k-labels-idx1-ubyte"
    labels.write_bytes(b"\0\0\x08\x01" + (29).to_bytes(4, "big") + labels.read_bytes()[8:-1])
    with pytest.raises(UserError, match=r"mnist was not found whole in .*30 images, but 29 labels"):
        load_dataset("mnist", data_dir=str(tmp_path))


def test_a_truncated_file_is_no_dataset(tmp_path: Path) -> None:
    write_mnist(tmp_path, train=400, test=20)
    file = tmp_path / "MNIST/raw/train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UserError, match="mnist was not found whole"):
        load_dataset("mnist", data_dir=str(tmp_path))


@pytest.mark.skipif(
    not (Path(DATA) / "MNIST").is_dir() or not DATA, reason="STRUCTNET_DATA names no folder with MNIST"
)
def test_the_real_mnist() -> None:
    data = load_dataset("mnist", data_dir=DATA)
    assert (len(data.train), len(data.validation), len(data.test)) == (54_000, 6_000, 10_000)
    assert data.train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert data.test.images.max() == 1


@pytest.mark.skipif(
    not (Path(DATA) / "cifar10").is_dir() or not DATA, reason="STRUCTNET_DATA names no folder with cifar10"
)
def test_the_real_cifar10_of_jpeg_images() -> None:
    data = load_dataset(str(Path(DATA) / "cifar10"))
    assert (len(data.train), len(data.validation), len(data.test)) == (45_000, 5_000, 10_000)
    assert data.input_shape == (3, 32, 32)
    assert torch.bincount(data.test.labels).tolist() == [1000] * 10


# Files with numbers


def test_one_file_is_split_by_class_after_a_fixed_shuffle(tmp_path: Path) -> None:
    table = number_table(1000)
    pq.write_table(table, tmp_path / "rows.parquet")
    data = load_dataset(str(tmp_path / "rows.parquet"), standardise=False)
    assert (len(data.train), len(data.validation), len(data.test)) == (500, 300, 200)
    for split in (data.train, data.validation, data.test):
        counts = torch.bincount(split.labels)
        assert counts.max() - counts.min() <= 1
    column = data.preprocessing["columns"][0]
    parts = (data.train, data.validation, data.test)
    values = torch.cat([part.images[:, 0].double() for part in parts]) * column["scale"] + column["offset"]
    rows = np.abs(values.numpy()[:, None] - table["x"].to_numpy()).argmin(axis=1)
    assert sorted(rows) == list(range(1000)) and list(rows) != list(range(1000))
    labels = torch.from_numpy(table["label"].to_numpy()[rows])
    assert torch.cat([part.labels for part in parts]).equal(labels)
    assert same_split(data, load_dataset(str(tmp_path / "rows.parquet"), standardise=False))


@pytest.mark.parametrize(
    ("rows", "sizes"),
    [(15, (9, 3, 3)), (100, (60, 20, 20)), (750, (300, 300, 150)), (5000, (3600, 400, 1000))],
)
def test_the_sizes_of_the_splits(rows: int, sizes: tuple[int, int, int], tmp_path: Path) -> None:
    pq.write_table(number_table(rows), tmp_path / "rows.parquet")
    data = load_dataset(str(tmp_path / "rows.parquet"))
    assert (len(data.train), len(data.validation), len(data.test)) == sizes


def test_given_splits_are_taken_as_they_are_and_missing_ones_made(tmp_path: Path) -> None:
    tables = {"train": number_table(1000), "validation": number_table(40, 1), "test": number_table(50, 2)}
    data = load_dataset(write_all_splits(tmp_path, tables))
    assert (len(data.train), len(data.validation), len(data.test)) == (1000, 40, 50)
    assert data.test.labels.tolist() == tables["test"]["label"].to_pylist()
    (tmp_path / "validation.parquet").unlink()
    data = load_dataset(str(tmp_path))
    assert (len(data.train), len(data.validation), len(data.test)) == (700, 300, 50)
    (tmp_path / "test.parquet").unlink()
    pq.write_table(tables["validation"], tmp_path / "validation.parquet")
    data = load_dataset(str(tmp_path))
    assert (len(data.train), len(data.validation), len(data.test)) == (800, 40, 200)


def test_columns_are_scaled_by_the_training_split(tmp_path: Path) -> None:
    def table(a: list[float]) -> pa.Table:
        return pa.table({"a": a, "label": ["n", "y", "n"], "same": [7, 7, 7]})

    folder = write_all_splits(
        tmp_path, {"train": table([2, 4, 6]), "validation": table([2, 3, 8]), "test": table([0, 4, 6])}
    )
    data = load_dataset(folder, standardise=False)
    assert [column["name"] for column in data.preprocessing["columns"]] == ["a", "same"]
    assert data.train.images.tolist() == [[0, 0], [0.5, 0], [1, 0]]
    assert data.validation.images.tolist() == [[0, 0], [0.25, 0], [1.5, 0]]
    assert data.class_names == ("n", "y")
    assert data.train.labels.tolist() == [0, 1, 0]
    standard = load_dataset(folder)
    assert torch.allclose(standard.train.images[:, 0], torch.tensor([-(1.5**0.5), 0, 1.5**0.5]))
    assert standard.train.images[:, 1].tolist() == [0, 0, 0]
    assert standard.fingerprint == load_dataset(folder, standardise=True).fingerprint


def test_csv_reads_like_parquet(tmp_path: Path) -> None:
    table = number_table(200)
    pq.write_table(table, tmp_path / "rows.parquet")
    pyarrow.csv.write_csv(table, tmp_path / "rows.csv")
    parquet, csv = load_dataset(str(tmp_path / "rows.parquet")), load_dataset(str(tmp_path / "rows.csv"))
    assert same_split(parquet, csv)
    assert parquet.fingerprint == csv.fingerprint


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([10, -1, 2], ("-1", "2", "10")),
        (["b", "a", "c"], ("a", "b", "c")),
        ([True, False, True], ("false", "true")),
        (pa.array(["b", "a", "b"]).dictionary_encode(), ("a", "b")),
    ],
)
def test_classes_are_the_sorted_labels(labels: Any, names: tuple[str, ...], tmp_path: Path) -> None:
    table = pa.table({"x": [1.0, 2.0, 3.0], "label": labels})
    data = load_dataset(write_all_splits(tmp_path, dict.fromkeys(("train", "validation", "test"), table)))
    assert data.class_names == names
    assert data.classes == len(names)
    text = [str(label).lower() for label in table["label"].to_pylist()]
    assert [names[number] for number in data.test.labels] == text


BAD_NUMBERS: dict[str, tuple[dict[str, Any], str]] = {
    "no rows": ({"x": pa.array([], pa.float64()), "label": pa.array([], pa.int64())}, "has no rows"),
    "no label": ({"x": [1.0] * 20}, "no column 'label', it has 'x'"),
    "no columns": ({"label": [0, 1] * 10}, "no column beside 'label'"),
    "one class": ({"x": range(20), "label": ["a"] * 20}, "only the class 'a'"),
    "infinite": ({"x": [float("inf")] + [1.0] * 19, "label": [0, 1] * 10}, "column 'x' .* is inf in row 0"),
    "nothing": ({"x": pa.nulls(20, pa.float64()), "label": [0, 1] * 10}, "no column .*left out: 'x'"),
    "names": ({"x": [f"n{i}" for i in range(60)], "label": [0, 1] * 30}, "no column .*left out: 'x'"),
    "dates": (
        {"x": ["2024-03-01", "3.4.2024"] * 10, "label": [0, 1] * 10},
        "'x' .* holds dates such as 2024-03",
    ),
    "days": ({"x": pa.array([3, 4] * 10, pa.date32()), "label": [0, 1] * 10}, "column 'x' .* holds dates"),
    "lists": ({"x": [[1.0]] * 20, "label": [0, 1] * 10}, "column 'x' .* is of type list"),
    "counting": ({"x": range(20), "label": [0, 1] * 10}, "no column .*left out: 'x'"),
    "rare": (
        {"x": [1.0] * 20, "label": ["a"] * 12 + ["b"] * 6 + ["c"] * 2},
        r"fewer than 3 rows, .*'c' \(2\)",
    ),
    "names of rows": (
        {"x": [1.0] * 20, "label": [f"n{i}" for i in range(20)]},
        "20 different values .*--label",
    ),
    "numbers": ({"x": [1.0] * 20, "label": range(20)}, r"20 different values .*regression"),
    "empty label": ({"x": range(20), "label": [0, None] * 10}, "row 1 .* empty 'label'"),
    "real label": (
        {"x": range(20), "label": [0.5, 1.5] * 10},
        "'label' .* numbers such as 0.5: .*regression",
    ),
    "few rows": ({"x": range(9), "label": [0, 1, 2] * 3}, "has 9 training rows"),
}


@pytest.mark.parametrize("case", BAD_NUMBERS)
def test_rows_that_do_not_fit_are_named(case: str, tmp_path: Path) -> None:
    columns, message = BAD_NUMBERS[case]
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    with pytest.raises(UserError, match=message) as error:
        load_dataset(str(tmp_path / "rows.parquet"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.csv", b"", "rows.csv cannot be read"),
        ("rows.csv", b"x,label\n", "has no rows"),
        ("rows.csv", b"x,label\n1,2,3\n", "rows.csv cannot be read"),
        ("rows.csv", b"x,x,label\n1,2,3\n", "more than one column 'x'"),
        ("rows.parquet", b"PAR1 nothing", "rows.parquet cannot be read"),
        ("rows.txt", b"x", "ends in '.txt'"),
        ("other.parquet", b"", "neither train.parquet nor train.csv"),
    ],
)
def test_files_that_cannot_be_read_are_named(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        load_dataset(str(tmp_path if name.startswith("other") else tmp_path / name))


@pytest.mark.parametrize(
    ("test", "message"),
    [
        (pa.table({"x": [1.0], "y": [1.0], "label": [5]}), r"test.parquet has the label '5', .*'0', '1'"),
        (pa.table({"x": [1.0], "label": [0]}), r"test.parquet has no column 'y'"),
        (image_rows(grey_images(1), [0]), r"test.parquet does not hold images or columns as"),
    ],
)
def test_the_other_splits_must_fit_the_training_file(test: pa.Table, message: str, tmp_path: Path) -> None:
    train = pa.table({"x": [1.0, 2.0], "y": [0.0, 1.0], "label": [0, 1]})
    folder = write_all_splits(tmp_path, {"train": train, "validation": train, "test": test})
    with pytest.raises(UserError, match=message):
        load_dataset(folder)


@given(st.lists(st.floats(-1e9, 1e9), min_size=10, max_size=40), st.booleans())
def test_scaled_columns_stay_in_range_on_the_training_split(
    tmp_path_factory: pytest.TempPathFactory, values: list[float], standardise: bool
) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    labels = [number % 2 for number in range(len(values))]
    pq.write_table(pa.table({"x": pa.array(values, pa.float64()), "label": labels}), path)
    train = load_dataset(str(path), standardise=standardise).train.images
    assert torch.isfinite(train).all()
    if standardise:
        assert abs(train.double().mean()) < 1e-3
    else:
        assert train.min() == 0
        assert train.max() == 1 or train.max() == 0
