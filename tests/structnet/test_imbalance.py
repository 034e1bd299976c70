"""What an accuracy is worth where a class is rare, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from structnet import StructNet
from structnet.data.dataset import Split
from structnet.measure.imbalance import balance_of, balanced_accuracy
from structnet.training.evaluation import evaluate

LABELS = np.array([0] * 6 + [1] * 2 + [3] * 2)


def test_each_class_that_occurs_counts_the_same() -> None:
    right = np.array([True] * 6 + [True, False] + [False, False])
    assert balanced_accuracy(right, LABELS) == pytest.approx((1 + 0.5 + 0) / 3)
    both = np.stack([right, np.ones(10, dtype=bool)])
    assert balanced_accuracy(both, LABELS).tolist() == pytest.approx([0.5, 1])


def test_a_constant_answer_is_told_from_a_network_that_is_as_good() -> None:
    constant = balance_of(LABELS == 0, LABELS, 4)
    assert (constant.majority, constant.is_imbalanced, constant.says_one_class) == (0.6, True, True)
    assert constant.shown == " (balanced 33.33%; the commonest class is 60.00%)"
    other = balance_of(np.array([True] * 5 + [False, True] + [False] * 3), LABELS, 4)
    assert not other.says_one_class


def test_of_classes_that_are_about_as_common_accuracy_says_enough() -> None:
    labels = np.array([0, 0, 0, 1, 1])  # 0.6 is 1.2 times an equal share
    found = balance_of(labels == 0, labels, 2)
    assert (found.is_imbalanced, found.shown, found.says_one_class) == (False, "", True)


@pytest.mark.parametrize("kernel", ["auto", "masked_dense"])
def test_an_evaluation_has_it_by_compiled_loops_and_by_torch(kernel: str) -> None:
    network = StructNet([3, 5, 4], 0.9, rng_seed=1, kernel=kernel)
    images = torch.from_numpy(np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32))
    found = evaluate(network, Split(images, torch.from_numpy(LABELS)))
    answers = network(images).argmax(dim=1).numpy()
    shares = [np.mean(answers[number == LABELS] == number) for number in (0, 1, 3)]
    assert found.balanced_accuracy == pytest.approx(np.mean(shares))
    assert found.accuracy == pytest.approx(np.mean(answers == LABELS))
