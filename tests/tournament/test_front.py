"""The front: which network is taken, what it would take, and how much the choice flatters itself."""

from __future__ import annotations

import numpy as np
import pytest

from tournament.rules.front import (
    knee,
    nearest,
    shortfall,
    size_it_would_take,
    smallest_holding,
    undominated,
)
from tournament.rules.goal import Target
from tournament.rules.sizes import Visit


def visit(size: int, *, error: float = 0.0, information: float = 0.0, parameters: int | None = None) -> Visit:
    return Visit(0, size, size if parameters is None else parameters, information, error)


def test_the_smallest_that_holds_is_taken_and_of_equals_the_better() -> None:
    visits = [visit(300, error=0.5), visit(200, error=1.1), visit(250, error=0.9, information=1)]
    visits.append(visit(260, parameters=250, error=0.9, information=2))
    assert smallest_holding(visits) == visits[3]
    assert smallest_holding(visits[1:2]) is None
    assert nearest(visits[1:2]) == visits[1]


def test_the_knee_by_hand() -> None:
    visits = [visit(400, information=3.0), visit(200, information=2.99), visit(100, information=2.5)]
    assert knee(visits, 0.03).size == 200
    assert knee(visits, 0.001).size == 400
    assert knee(visits, 0.6).size == 100
    assert knee([*visits, visit(200, information=2.995)], 0.03).information == 2.995


def test_sizes_that_are_no_doubling_are_asked_for_their_share() -> None:
    visits = [visit(150, information=3.0), visit(100, information=2.98)]
    assert knee(visits, 0.03).size == 150
    assert knee(visits, 0.035).size == 100


def test_what_a_smaller_one_does_as_well_is_not_on_the_front() -> None:
    rows = [
        {"parameters": parameters, "information": information, "chosen": False}
        for parameters, information in [(100, 1.0), (200, 2.0), (150, 1.0), (200, 1.5), (400, 1.9)]
    ]
    assert [(row["parameters"], row["information"]) for row in undominated(rows)] == [(100, 1.0), (200, 2.0)]
    rows[2]["chosen"] = True
    assert [row["parameters"] for row in undominated(rows)] == [100, 150, 200]


def test_what_it_would_take_follows_a_power_law() -> None:
    assert size_it_would_take([visit(100, error=4.0), visit(200, error=2.0)]) == 400
    assert size_it_would_take([visit(50, error=9.0), visit(100, error=4.0), visit(200, error=2.0)]) == 400
    for hopeless in ([visit(200, error=2.0)], [visit(100, error=2.0), visit(200, error=2.0)]):
        assert size_it_would_take(hopeless) is None
    assert size_it_would_take([visit(100, error=2.001), visit(200, error=2.0)]) is None


def test_the_shortfall_is_what_fresh_images_show() -> None:
    """Twelve networks that are right on 93 to 97 % of images, of which the smallest that holds 95 % is often lucky."""
    images, target, truth = 400, Target("accuracy", 0.95), np.linspace(0.93, 0.97, 12)
    rng, flattery, estimates = np.random.default_rng(0), [], []
    labels, bits = np.zeros(images, dtype=int), np.zeros((len(truth), images))
    for _ in range(200):
        right = rng.random((len(truth), images)) < truth[:, None]
        chosen = next(place for place, row in enumerate(right) if target.holds(row, row, labels))
        flattery.append(right[chosen].mean() - truth[chosen])
        estimates.append(shortfall(right, bits, labels, range(len(truth)), target))
    assert np.mean(estimates) == pytest.approx(np.mean(flattery), rel=0.2)
    assert np.mean(flattery) > 0.01


def test_there_is_no_shortfall_of_what_no_half_would_choose() -> None:
    right = np.zeros((2, 10), dtype=bool)
    assert shortfall(right, right * 1.0, np.zeros(10, dtype=int), [1, 2], Target("accuracy", 0.9)) is None
