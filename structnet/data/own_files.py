"""A dataset from files of the user: one Parquet or CSV file, or a folder with one for each split."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from structnet.data.dataset import (
    SPLITS,
    Dataset,
    RawSplits,
    dataset_of,
    fixed_order,
    images_dataset,
    validation_size,
)
from structnet.data.labels import class_names, class_numbers, read_labels
from structnet.data.pictures import decode_images, image_column, images_of_rows
from structnet.data.preprocessing import column_preprocessing
from structnet.data.rows import TABLE_SUFFIXES, number_columns, read_rows
from structnet.errors import UserError

_LEAST_ROWS = 10


def from_path(path: Path, standardise: bool) -> Dataset:
    """The dataset in these files; raises UserError where one is missing or damaged, or does not fit."""
    found = read_dataset(path)
    raw = _with_all_splits(found.splits, path)
    if found.columns is None:
        return images_dataset(str(path), raw, found.class_names, 255.0, standardise)
    train = raw["train"][0]
    if standardise:
        offset, scale, scaling = train.mean(axis=0), train.std(axis=0), "standardised"
    else:
        offset, scale, scaling = train.min(axis=0), np.ptp(train, axis=0), "unit"
    return dataset_of(
        str(path), raw, column_preprocessing(found.columns, offset, scale, found.class_names, scaling)
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
    order = fixed_order(len(labels))
    parts = {}
    if "test" not in given:
        at = len(order) - len(order) // 5
        order, parts["test"] = order[:at], order[at:]
    if "validation" not in given:
        at = len(order) - validation_size(len(order))
        order, parts["validation"] = order[:at], order[at:]
    parts["train"] = order
    return given | {split: (values[rows], labels[rows]) for split, rows in parts.items()}


class FileData(NamedTuple):
    """What the files of a dataset hold.

    splits: name -> values and class numbers int64 (n,). The values are uint8 (n, channels, height, width)
    when `columns` is None, else float64 (n, columns).
    """

    splits: dict[str, tuple[np.ndarray, np.ndarray]]
    columns: list[str] | None
    class_names: tuple[str, ...]


def read_dataset(path: Path) -> FileData:
    """Reads a Parquet or CSV file (as "train"), or a folder with one for train and perhaps for others.

    The training file says which classes and columns there are, and whether images are grey or in colour.
    Raises UserError when a file is missing or damaged, or does not fit the training file.
    """
    splits: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    columns: list[str] | None = None
    names: tuple[str, ...] = ()
    for split, file in _split_files(path).items():
        rows = read_rows(file)
        labels = read_labels(rows, file)
        image = image_column(rows)
        if split == "train":
            names = class_names(labels, file)
        if image is None and (split == "train" or columns is not None):
            columns, values = number_columns(rows, file, columns)
        elif image is not None and columns is None:
            like = splits["train"][0].shape[1:] if splits else None
            values = decode_images(images_of_rows(rows, image, file), like[0] if like else None)
            _check_size(values.shape[1:], like or values.shape[1:], file)
        else:
            raise UserError(
                f"{file} does not hold images or columns as the training file does: use one form for both"
            )
        splits[split] = (values, class_numbers(labels, names, file))
    return FileData(splits, columns, names)


def _check_size(shape: tuple[int, ...], expected: tuple[int, ...], file: Path) -> None:
    if shape != expected:
        raise UserError(
            f"{file} has images of {shape[1]}×{shape[2]} pixels, but the training file has "
            f"{expected[1]}×{expected[2]}: bring all images to one size"
        )


def _split_files(path: Path) -> dict[str, Path]:
    """Split name ("train" first) -> file."""
    if not path.is_dir():
        return {"train": path}
    files: dict[str, Path] = {}
    for split in ("train", "validation", "test"):
        found = [path / f"{split}{suffix}" for suffix in TABLE_SUFFIXES]
        found = [file for file in found if file.is_file()]
        if len(found) > 1:
            raise UserError(f"{path} holds both {found[0].name} and {found[1].name}: keep one of them")
        if found:
            files[split] = found[0]
    if "train" not in files:
        raise UserError(f"{path} holds neither train.parquet nor train.csv: put one of them there")
    return files
