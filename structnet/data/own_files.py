"""A dataset from files of the user: one Parquet or CSV file, or a folder with one for each split."""

from __future__ import annotations

from pathlib import Path

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
from structnet.data.files import read_dataset
from structnet.data.preprocessing import column_preprocessing
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
