"""Rows of confusions and mistakes, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from structnet.data.dataset import Dataset, dataset_of, images_dataset
from structnet.data.preprocessing import column_preprocessing
from structnet.measure.answers import MISTAKES, Answers, answer_rows, answers_of, confusion_rows, mistake_rows

NAMES = ("cat", "dog", "<owl>")


def pictures(
    labels: list[int], shape: tuple[int, int, int] = (1, 1, 2), standardise: bool = False
) -> Dataset:
    """Images of which number n has the pixels n and n + 1, … of a full scale of 10."""
    first = np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1)
    pixels = first + (np.arange(np.prod(shape)) % 7).astype(np.uint8).reshape(1, *shape)
    raw = {split: (pixels, np.array(labels)) for split in ("train", "validation", "test")}
    return images_dataset("pictures", raw, NAMES, 10.0, standardise)


def said(*pairs: tuple[int, float]) -> Answers:
    numbers, confidence = zip(*pairs)
    return Answers(np.array(numbers), np.array(confidence))


def test_answers_are_the_greatest_logit_and_its_share() -> None:
    logits = torch.tensor([[0.0, 3.0], [0.0, 1.0], [np.log(2), -np.inf]])
    found = answers_of(logits)
    assert found.said.tolist() == [2, 0]
    assert found.confidence == pytest.approx([0.5, 1 / (1 + np.exp(-2))])


def test_a_row_for_every_pair_that_occurs() -> None:
    truth, answer = np.array([0, 1, 1, 2, 1]), np.array([0, 0, 1, 1, 0])
    rows = confusion_rows(truth, answer, NAMES, "seed-0001")
    assert [(row["truth"], row["said"], row["images"]) for row in rows] == [
        (0, 0, 1),
        (1, 0, 2),
        (1, 1, 1),
        (2, 1, 1),
    ]
    assert rows[3] == {
        "trial": "seed-0001",
        "truth": 2,
        "said": 1,
        "truth_name": "<owl>",
        "said_name": "dog",
        "images": 1,
    }


@pytest.mark.parametrize("standardise", [False, True])
def test_the_surest_mistakes_come_first_with_their_pixels(standardise: bool) -> None:
    data = pictures([0, 1, 2, 1], standardise=standardise)
    rows = mistake_rows(data, said((0, 0.9), (0, 0.6), (1, 0.8), (2, 0.6)), "a")
    assert [(row["image"], row["confidence"]) for row in rows] == [(2, 0.8), (1, 0.6), (3, 0.6)]
    assert rows[0] == {
        "trial": "a",
        "image": 2,
        "truth": 2,
        "said": 1,
        "truth_name": "<owl>",
        "said_name": "dog",
        "confidence": 0.8,
        "values": [0.2, 0.3],
        "shape": [1, 1, 2],
    }


def test_no_more_mistakes_than_fit_a_page() -> None:
    data = pictures([0] * 60)
    rows = mistake_rows(data, Answers(np.ones(60, dtype=int), np.linspace(0.4, 0.9, 60)))
    assert [row["image"] for row in rows] == list(range(59, 59 - MISTAKES, -1))


@pytest.mark.parametrize(("shape", "has_values"), [((3, 32, 32), True), ((1, 64, 49), False)])
def test_large_images_are_left_out_of_the_table(shape: tuple[int, int, int], has_values: bool) -> None:
    (row,) = mistake_rows(pictures([1, 0], shape), said((0, 0.5), (0, 0.5)))
    assert row["shape"] == list(shape)
    assert (row["values"] is not None) == has_values
    assert not has_values or len(row["values"]) == 3072


def test_columns_are_shown_as_the_network_takes_them() -> None:
    about = column_preprocessing(["a", "b"], np.array([1.0, 0.0]), np.array([2.0, 4.0]), NAMES, "unit")
    raw = {split: (np.array([[3.0, 1.0]]), np.array([2])) for split in ("train", "validation", "test")}
    (row,) = mistake_rows(dataset_of("columns", raw, about), said((0, 0.7)))
    assert (row["values"], row["shape"]) == ([1.0, 0.25], [2])


def test_a_network_without_mistakes_has_none() -> None:
    found = answer_rows(pictures([0, 1]), said((0, 0.9), (1, 0.9)), "t")
    assert found["mistakes"] == []
    assert [row["images"] for row in found["confusions"]] == [1, 1]
