"""A dataset is told from another by its rows, their order and labels, and how inputs were made of them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from structnet.data.dataset import Dataset, Split
from structnet.data.datasets import load_dataset
from structnet.data.fingerprints import changes, data_fingerprint
from structnet.data.text import windows_of

CLASSES = tuple("abc")
OTHERS = "are others than when it began"


def dataset(seed: int = 0, *, kind: str = "columns") -> Dataset:
    """Three splits of 12, 6 and 8 rows, of 5 numbers or of 2×2 pixels."""
    random = np.random.default_rng(seed)

    def split(rows: int) -> Split:
        labels = torch.from_numpy(random.integers(0, 3, rows))
        if kind == "image":
            return Split(torch.from_numpy(random.integers(0, 256, (rows, 1, 2, 2), dtype=np.uint8)), labels)
        return Split(torch.from_numpy(random.normal(size=(rows, 5)).astype(np.float32)), labels)

    about = {"kind": kind, "class_names": list(CLASSES)}
    return Dataset("toy", split(12), split(6), split(8), 3, CLASSES, about)


def ordered(split: Split, order: list[int]) -> Split:
    return split.at(np.array(order))


def rolled_labels(split: Split) -> Split:
    return split.relabelled(torch.roll(split.labels, 1))


def test_the_same_data_has_the_same_fingerprint_which_is_plain() -> None:
    found = data_fingerprint(dataset())
    assert found == data_fingerprint(dataset()) == json.loads(json.dumps(found))
    assert changes(found, data_fingerprint(dataset())) == ""
    assert len(found) == 13 and all(len(digest) == 32 for digest in found.values())
    assert len(set(found.values())) == 13


LAST_FIRST = [11, *range(11)]
CHANGES = {
    "the labels of the training data " + OTHERS: lambda data: replace(data, train=rolled_labels(data.train)),
    "the labels of the validation data " + OTHERS: lambda data: replace(
        data, validation=rolled_labels(data.validation)
    ),
    "the labels of the test data " + OTHERS: lambda data: replace(data, test=rolled_labels(data.test)),
    "the same training rows in another order": lambda data: replace(
        data, train=ordered(data.train, LAST_FIRST)
    ),
    "the same training and validation rows in another order": lambda data: replace(
        data, train=ordered(data.train, LAST_FIRST), validation=ordered(data.validation, [5, 4, 3, 2, 1, 0])
    ),
    "the same training rows in another order, and the labels of the training data " + OTHERS: lambda data: (
        replace(data, train=rolled_labels(ordered(data.train, LAST_FIRST)))
    ),
    "other training rows": lambda data: replace(data, train=data.train.part(0, 11)),
    "other training rows, and another preprocessing": lambda data: replace(
        data, train=data.train.part(0, 11), preprocessing={"kind": "other"}
    ),
    "other training, validation and test rows": lambda data: dataset(1, kind=data.preprocessing["kind"]),
    "another preprocessing": lambda data: replace(data, preprocessing={"kind": "other"}),
    "the same rows in another order, so that training and validation rows have changed places": lambda data: (
        exchanged(data)
    ),
    "the same rows in another order, so that training and validation rows have changed places, and the labels of "
    "the training, validation and test data " + OTHERS: lambda data: replace(
        exchanged(data), train=rolled_labels(exchanged(data).train)
    ),
}


def exchanged(data: Dataset) -> Dataset:
    """The last row of training and the first of validation in each other's place."""
    stored = torch.cat([data.train.stored, data.validation.stored])
    labels = torch.cat([data.train.labels, data.validation.labels])
    order = torch.tensor([*range(11), 12, 11, *range(13, 18)])
    both = Split(stored[order], labels[order])
    return replace(data, train=both.part(0, 12), validation=both.part(12, 18))


@pytest.mark.parametrize("kind", ["columns", "image"])
@pytest.mark.parametrize("said", CHANGES)
def test_what_changed_is_named(said: str, kind: str) -> None:
    before = dataset(kind=kind)
    assert changes(data_fingerprint(before), data_fingerprint(CHANGES[said](before))) == said


@given(st.integers(0, 2**32), st.integers(0, 11), st.integers(0, 4), st.integers(0, 31))
def test_a_bit_of_a_number_is_another_row(seed: int, row: int, column: int, bit: int) -> None:
    data = dataset(seed)
    stored = data.train.stored.clone()
    words = stored.view(torch.int32)
    words[row, column] ^= -(2**31) if bit == 31 else 1 << bit
    changed = replace(data, train=Split(stored, data.train.labels))
    assert changes(data_fingerprint(data), data_fingerprint(changed)) == "other training rows"


@given(st.permutations(range(12)), st.permutations(range(12)))
def test_orders_and_labels_are_told_apart(rows: list[int], labels: list[int]) -> None:
    data = dataset()
    train = ordered(data.train, rows)
    relabelled = train.relabelled(train.labels[torch.tensor(labels)])
    said = changes(data_fingerprint(data), data_fingerprint(replace(data, train=relabelled)))
    assert ("in another order" in said) == (rows != list(range(12)))
    assert ("labels" in said) == (relabelled.labels.tolist() != train.labels.tolist())


def test_rows_that_are_there_twice_count_twice() -> None:
    data = dataset()
    one, other = (replace(data, train=ordered(data.train, order)) for order in ([0, 0, 1], [2, 2, 1]))
    assert changes(data_fingerprint(one), data_fingerprint(other)) == "other training rows"


def test_labels_may_be_the_next_characters_of_a_text() -> None:
    numbers = np.arange(600, dtype=np.int32) * 7 % 11
    data = windows_of("text", numbers, 2, tuple("0123456789x"), {"kind": "text", "length": 2})
    before = data_fingerprint(data)
    assert changes(before, data_fingerprint(data)) == ""
    changed = replace(data, train=rolled_labels(data.train))
    assert changes(before, data_fingerprint(changed)) == "the labels of the training data " + OTHERS
    both = [*range(1, len(data.train)), 0]
    moved = replace(data, train=ordered(data.train, both))
    assert changes(before, data_fingerprint(moved)) == "the same training rows in another order"


def test_views_and_whole_arrays_are_told_alike() -> None:
    data = load_dataset("digits")
    wide = torch.cat([data.train.stored, data.train.stored], dim=1)[:, :1]
    assert not wide.is_contiguous()
    seen = replace(data, train=replace(data.train, stored=wide))
    assert data_fingerprint(seen) == data_fingerprint(data)


def test_a_split_may_be_empty() -> None:
    data = dataset()
    found = data_fingerprint(replace(data, test=data.test.part(0, 0)))
    assert changes(data_fingerprint(data), found) == "other test rows"
