"""Targets: what holds, how surely, and what is refused before anything is trained."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from structnet.errors import UserError
from tournament.rules.goal import FIGURES, Target, check_target

LABELS = np.array([0] * 8 + [1] * 2)
RIGHT = np.array([True] * 8 + [False, True])
BITS = np.full(10, -1.0)
SEEN = RIGHT, BITS, LABELS

figures = pytest.mark.parametrize("name", list(FIGURES))


def test_figures_by_hand() -> None:
    assert FIGURES["accuracy"].of(*SEEN) == 0.9
    assert FIGURES["balanced_accuracy"].of(*SEEN) == 0.75
    assert FIGURES["loss"].of(*SEEN) == pytest.approx(math.log(2))


def test_a_class_that_does_not_occur_counts_for_nothing() -> None:
    assert FIGURES["balanced_accuracy"].of(RIGHT, BITS, 3 * LABELS) == 0.75


def test_the_same_answer_to_everything() -> None:
    assert FIGURES["accuracy"].constant(LABELS) == 0.8
    assert FIGURES["balanced_accuracy"].constant(LABELS) == 0.5
    assert FIGURES["loss"].constant(LABELS) == pytest.approx(-(0.8 * math.log(0.8) + 0.2 * math.log(0.2)))


@figures
def test_a_bound_is_on_the_bad_side_and_nearer_with_more_images(name: str) -> None:
    figure = FIGURES[name]
    bits = np.random.default_rng(0).normal(-1, 0.5, 10)
    few = figure.bound(RIGHT, bits, LABELS)
    many = figure.bound(np.tile(RIGHT, 100), np.tile(bits, 100), np.tile(LABELS, 100))
    at = figure.of(RIGHT, bits, LABELS)
    sign = 1 if figure.rises else -1
    assert sign * few < sign * many < sign * at


@given(st.integers(1, 400), st.floats(0, 1))
def test_the_bound_of_an_accuracy_is_near_the_exact_one(images: int, share: float) -> None:
    """That of Clopper and Pearson, which is a little wider."""
    hits = round(share * images)
    right = np.arange(images) < hits
    found = FIGURES["accuracy"].bound(right, np.zeros(images), np.zeros(images, dtype=int))
    exact = beta.ppf(0.05, hits, images - hits + 1) if hits else 0.0
    assert exact - 1e-12 <= found <= exact + 0.6 / math.sqrt(images)


@pytest.mark.parametrize(
    ("target", "found", "error"),
    [
        (Target("accuracy", 0.9), 0.9, 1.0),
        (Target("accuracy", 0.9), 0.95, 0.5),
        (Target("accuracy", 0.9), 0.85, 1.5),
        (Target("accuracy", 1.0), 1.0, 0.0),
        (Target("accuracy", 1.0), 0.999, 1e6),
        (Target("loss", 0.2), 0.1, 0.5),
        (Target("loss", 0.2), 0.3, 1.5),
    ],
)
def test_the_error_is_a_share_of_what_is_allowed(target: Target, found: float, error: float) -> None:
    assert target.error(found) == pytest.approx(error)


def test_who_wants_to_be_sure_needs_more() -> None:
    seen = np.arange(1000) < 905, np.zeros(1000), np.zeros(1000, dtype=int)
    assert Target("accuracy", 0.9).holds(*seen)
    assert not Target("accuracy", 0.9, confident=True).holds(*seen)
    assert Target("accuracy", 0.885, confident=True).holds(*seen)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (Target("accuracy", 0.8), "target_accuracy is 0.8, but the same answer to everything has 0.8"),
        (Target("balanced_accuracy", 0.5), "target_balanced_accuracy is 0.5.*ask for more"),
        (Target("loss", 0.7), "target_loss is 0.7.*ask for less"),
        (Target("accuracy", 0.98, confident=True), "10 validation images cannot show more than 0.78"),
        (Target("balanced_accuracy", 0.99, confident=True), "cannot show more than"),
    ],
)
def test_what_needs_no_network_or_can_be_held_by_none_is_refused(target: Target, said: str) -> None:
    with pytest.raises(UserError, match=said):
        check_target(target, LABELS)


@figures
def test_what_can_be_held_is_not(name: str) -> None:
    check_target(Target(name, 0.85 if FIGURES[name].rises else 0.3), LABELS)
