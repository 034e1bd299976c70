"""What a network says of images, and the rows that tell of it: what it takes for what, and its worst mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch

from structnet.data.dataset import Dataset, Split

MISTAKES = 24
# An image of 32 × 32 in three colours: of larger ones a table would be mostly images.
MOST_VALUES = 3072

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Answers:
    """said: (images,) int64 class numbers. confidence: (images,) float64 softmax of what was said, in [0, 1]."""

    said: np.ndarray
    confidence: np.ndarray


def answers_of(logits: torch.Tensor) -> Answers:
    """The answers that logits, (classes, images), are."""
    said = logits.argmax(dim=0)
    shares = logits.double().softmax(dim=0)
    confidence = shares.gather(0, said[None])[0]
    return Answers(said.cpu().numpy(), confidence.cpu().numpy())


def answer_rows(data: Dataset, answers: Answers, trial: str = "") -> dict[str, Rows]:
    """By table, the rows on the answers to the validation images of a dataset."""
    truth = data.validation.labels.cpu().numpy()
    return {
        "confusions": confusion_rows(truth, answers.said, data.class_names, trial),
        "mistakes": mistake_rows(data, answers, trial),
    }


def confusion_rows(truth: np.ndarray, said: np.ndarray, names: Sequence[str], trial: str = "") -> Rows:
    """A row for each class and each answer that some of its images got. truth, said: (images,) class numbers."""
    cells, images = np.unique(np.stack([truth, said]), axis=1, return_counts=True)
    return [
        {"trial": trial, **_named(right, other, names), "images": count}
        for (right, other), count in zip(cells.T.tolist(), images.tolist())
    ]


def mistake_rows(data: Dataset, answers: Answers, trial: str = "") -> Rows:
    """A row for each of the wrong answers to validation images of which the network was surest, the surest first."""
    split = data.validation
    truth = split.labels.cpu().numpy()
    wrong = np.flatnonzero(answers.said != truth)
    surest = wrong[np.argsort(-answers.confidence[wrong], kind="stable")[:MISTAKES]]
    values = _values(data, split.at(surest))
    return [
        {
            "trial": trial,
            "image": int(image),
            **_named(int(truth[image]), int(answers.said[image]), data.class_names),
            "confidence": float(answers.confidence[image]),
            "values": shown,
            "shape": list(split.shape),
        }
        for image, shown in zip(surest, values)
    ]


def _named(truth: int, said: int, names: Sequence[str]) -> dict[str, Any]:
    return {"truth": truth, "said": said, "truth_name": names[truth], "said_name": names[said]}


def _values(data: Dataset, split: Split) -> list[list[float] | None]:
    """The numbers of each input, flattened: pixels in [0, 1], others as a network takes them; None for too many."""
    if prod(split.shape) > MOST_VALUES:
        return [None] * len(split)
    stored = split.stored.cpu().flatten(1).double()
    # Inputs that are standardised are no longer what one would look at.
    shown = stored if split.scaling is None else stored / data.preprocessing["full_scale"]
    values: list[list[float] | None] = shown.tolist()
    return values
