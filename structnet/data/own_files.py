"""A dataset from files of the user: a table, a folder with one for each split, or folders of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from structnet.data.columns import fitted_columns, input_columns, raw_values
from structnet.data.dataset import SPLITS, Dataset, RawSplits, dataset_of, fixed_order, validation_size
from structnet.data.labels import (
    check_class_sizes,
    class_names,
    class_numbers,
    known_labels,
    read_labels,
    schema_names,
)
from structnet.data.layouts import SplitFiles, find_files
from structnet.data.pictures import decode_images, image_column, images_of_files, images_of_rows
from structnet.data.preprocessing import image_preprocessing, table_preprocessing
from structnet.data.rows import LABEL, Rows, joined_rows
from structnet.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

_LEAST_ROWS = 10
FULL_SCALE = 255.0


class Found(NamedTuple):
    """What files hold. raw: of every split. notes: what was left out or decided, a sentence each."""

    raw: RawSplits
    preprocessing: dict[str, Any]
    notes: list[str]


class _Names(NamedTuple):
    """The classes of the training data. are_positions: whether integers among labels are positions in them."""

    names: tuple[str, ...]
    are_positions: bool

    @property
    def stored(self) -> dict[str, Any]:
        """What the preprocessing keeps of it, beside the names."""
        return {"positions": True} if self.are_positions else {}


def from_path(
    path: Path, standardise: bool | None, label: str | None = None, size: tuple[int, int] | None = None
) -> Dataset:
    """The dataset in these files: arguments and errors are those of `read`."""
    found = read(path, standardise, label, size)
    return dataset_of(str(path), found.raw, found.preprocessing, tuple(found.notes))


def read(
    path: Path, standardise: bool | None, label: str | None = None, size: tuple[int, int] | None = None
) -> Found:
    """What these files hold, with splits that are missing taken from the training rows.

    standardise: None for what suits the data: columns are, pictures are not. label: the column of the labels, `label`
    when None. size: (height, width) that pictures are brought to. Raises UserError where a file is missing or damaged,
    or does not fit the training file.
    """
    layout = find_files(path, label or LABEL)
    if layout.splits["train"].pictures:
        splits, names = _pictures(layout.splits, size)
        return _of_pictures(splits, names, path, bool(standardise), size, list(layout.notes))
    rows = {split: joined_rows(files.tables, label or LABEL) for split, files in layout.splits.items()}
    places = {split: files.tables[0] for split, files in layout.splits.items()}
    notes = [*layout.notes, *(note for each in rows.values() for note in each.notes)]
    tables = _Tables(rows, places, path, label or LABEL, notes)
    if image_column(rows["train"].table) is not None:
        images, known = tables.pictures(size)
        found = _of_pictures(images, known.names, path, bool(standardise), size, notes)
        return found._replace(preprocessing=found.preprocessing | known.stored)
    if size is not None:
        raise UserError(f"size is {size[0]}x{size[1]}, but {path} holds no pictures: leave it out")
    return tables.columns(standardise is not False)


def read_frame(name: str, frame: pd.DataFrame, standardise: bool | None) -> Found:
    """What a frame with a column `label` holds, as a file of it would."""
    rows = {"train": Rows(pa.Table.from_pandas(frame, preserve_index=False), (), ())}
    return _Tables(rows, {"train": Path(name)}, Path(name), LABEL, []).columns(standardise is not False)


def _of_pictures(
    given: RawSplits,
    names: tuple[str, ...],
    path: Path,
    standardise: bool,
    size: tuple[int, int] | None,
    notes: list[str],
) -> Found:
    raw = _with_all_splits(given, names, path)
    _check_not_constant(raw["train"][0], path)
    preprocessing = image_preprocessing(raw["train"][0], names, FULL_SCALE, standardise)
    if size is not None:
        preprocessing["resampled"] = True
        notes.append(f"Pictures are resampled to {size[0]}×{size[1]} pixels, whatever their shape.")
    return Found(raw, preprocessing, notes)


def _check_not_constant(pixels: np.ndarray, path: Path) -> None:
    if len(pixels) > 1 and (pixels == pixels[:1]).all():
        raise UserError(f"all training pictures of {path} are the same: is it the right folder?")


def _pictures(
    splits: dict[str, SplitFiles], size: tuple[int, int] | None
) -> tuple[RawSplits, tuple[str, ...]]:
    """The pictures of class folders, and the classes."""
    names = _in_order({name for _, name in splits["train"].pictures})
    place = {name: number for number, name in enumerate(names)}
    raw: RawSplits = {}
    for split, files in splits.items():
        like = raw["train"][0].shape[1:] if raw else None
        pixels = decode_images(
            images_of_files([file for file, _ in files.pictures]), like[0] if like else None, size
        )
        _check_size(pixels.shape[1:], like or pixels.shape[1:], files.pictures[0][0].parent)
        raw[split] = (pixels, np.array([place[name] for _, name in files.pictures]))
    return raw, names


def _in_order(names: set[str]) -> tuple[str, ...]:
    """Class names: numbers in numerical, texts in alphabetical order."""
    are_numbers = all(name.removeprefix("-").isdecimal() for name in names)
    return tuple(sorted(names, key=lambda name: (int(name) if are_numbers else 0, name)))


class _Tables(NamedTuple):
    """The rows of table files. places: a file of each split, for messages. path: of all of them."""

    rows: dict[str, Rows]
    places: dict[str, Path]
    path: Path
    label: str
    notes: list[str]

    def pictures(self, size: tuple[int, int] | None) -> tuple[RawSplits, _Names]:
        """The pictures that an image column holds."""
        known, raw = self.classes(), RawSplits()
        for split, numbers in self.numbers(known).items():
            table, place = self.rows[split].table, self.places[split]
            column = image_column(table)
            if column is None:
                raise self.other_form(split)
            like = raw["train"][0].shape[1:] if raw else None
            pixels = decode_images(images_of_rows(table, column, place), like[0] if like else None, size)
            _check_size(pixels.shape[1:], like or pixels.shape[1:], place)
            raw[split] = (pixels, numbers)
        return raw, known

    def columns(self, standardise: bool) -> Found:
        """The columns, as they become inputs by the training rows."""
        known = self.classes()
        numbers = self.numbers(known)
        train = self.rows["train"].table
        inputs = input_columns(train, self.places["train"], self.label, self.rows["train"].keys)
        self.notes.extend(inputs.notes)
        for split in numbers:
            if image_column(self.rows[split].table) is not None:
                raise self.other_form(split)
        parts = _parts({split: len(each) for split, each in numbers.items()}, numbers, known.names, self.path)
        fitted = train.take(pa.array(parts["train"][1]))
        columns = fitted_columns(fitted, inputs.names, self.places["train"], standardise)
        values = {split: raw_values(self.rows[split].table, columns, self.places[split]) for split in numbers}
        raw = {split: (values[home][where], numbers[home][where]) for split, (home, where) in parts.items()}
        preprocessing = table_preprocessing(columns, known.names, standardise, self.label, inputs.keys)
        return Found(raw, preprocessing | known.stored, self.notes)

    def classes(self) -> _Names:
        """The classes of the training rows."""
        table, place = self.rows["train"].table, self.places["train"]
        labels = read_labels(table, place, self.label)
        names = schema_names(table, self.label)
        if names is not None and pa.types.is_integer(labels.type):
            return _Names(names, are_positions=True)
        return _Names(class_names(labels, place, self.label), are_positions=False)

    def numbers(self, known: _Names) -> dict[str, np.ndarray]:
        """The class numbers of every split that has labels; another is left out, which is noted."""
        found = {}
        for split, rows in self.rows.items():
            place = self.places[split]
            there = known_labels(
                rows.table, known.names, place, self.label, are_positions=known.are_positions
            )
            if there is None and split != "train":
                self.notes.append(f"{place.name} has no labels: {split} is taken from the training rows.")
                continue
            labels = read_labels(rows.table, place, self.label)
            found[split] = class_numbers(labels, known.names, place, are_positions=known.are_positions)
        return found

    def other_form(self, split: str) -> UserError:
        return UserError(
            f"{self.places[split]} does not hold images or columns as the training file does: use one form for both"
        )


def _check_size(shape: tuple[int, ...], expected: tuple[int, ...], place: Path) -> None:
    if shape != expected:
        raise UserError(
            f"{place} has images of {shape[1]}×{shape[2]} pixels, but the training images have "
            f"{expected[1]}×{expected[2]}: bring all to one size, or have it done with --size"
        )


def _with_all_splits(given: RawSplits, names: Sequence[str], path: Path) -> RawSplits:
    """Takes the splits that are missing from the training rows."""
    numbers = {split: labels for split, (_, labels) in given.items()}
    parts = _parts({split: len(each) for split, each in numbers.items()}, numbers, names, path)
    return {split: (given[home][0][where], given[home][1][where]) for split, (home, where) in parts.items()}


def _parts(
    sizes: dict[str, int], numbers: dict[str, np.ndarray], names: Sequence[str], path: Path
) -> dict[str, tuple[str, np.ndarray]]:
    """Split -> where its rows come from: a split that was given, and positions in it.

    Splits that are missing are taken from the training rows after one fixed shuffle: of each class a fifth for test,
    and of what is left the share that `validation_size` says. Raises UserError for too few rows.
    """
    whole = {split: (split, np.arange(size)) for split, size in sizes.items()}
    if len(sizes) == len(SPLITS):
        return whole
    if sizes["train"] < _LEAST_ROWS:
        raise UserError(
            f"{path} has {sizes['train']} training rows, but needs at least {_LEAST_ROWS} to be split: add "
            "rows, or files for validation and test"
        )
    labels = numbers["train"]
    check_class_sizes(labels, names, path)
    left = fixed_order(len(labels))
    for split, size in (("test", len(left) // 5), ("validation", None)):
        if split not in sizes:
            taken = _stratified(labels[left], validation_size(len(left)) if size is None else size)
            whole[split] = ("train", left[taken])
            left = np.delete(left, taken)
    whole["train"] = ("train", left)
    return whole


def _stratified(labels: np.ndarray, count: int) -> np.ndarray:
    """Positions of about so many rows, the last ones of each class, each class by its share and at least once."""
    numbers, sizes = np.unique(labels, return_counts=True)
    quotas = count * sizes / len(labels)
    each = np.floor(quotas).astype(int)
    # What the rounding left goes where most of a row was cut off.
    each[np.argsort(each - quotas, kind="stable")[: count - each.sum()]] += 1
    of_class = [np.flatnonzero(labels == number) for number in numbers]
    taken = [places[len(places) - max(1, some) :] for places, some in zip(of_class, each)]
    return np.sort(np.concatenate(taken))
