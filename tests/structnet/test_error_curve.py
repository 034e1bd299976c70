"""The area between two curves of error against size, by hand."""

from __future__ import annotations

import math

import pytest

from structnet.experiments.error_curve import Point, gap_between


def curve(*points: tuple[int, float]) -> list[Point]:
    return [Point(*point) for point in points]


def test_two_doublings_by_hand() -> None:
    """1 % more at 1,000, as much at 2,000 and 2 % less at 4,000: a triangle of +0.005, one of −0.01."""
    ours = {0: curve((1000, 0.04), (2000, 0.03), (4000, 0.01))}
    theirs = {0: curve((1000, 0.03), (2000, 0.03), (4000, 0.03))}
    gap = gap_between(ours, theirs)
    assert gap is not None
    assert gap.area.mean == pytest.approx(0.005 - 0.01)
    assert (gap.smallest, gap.largest) == pytest.approx((1000, 4000))
    assert gap.doublings == pytest.approx(2)
    assert gap.height.mean == pytest.approx(-0.0025)
    assert (gap.area.low, gap.area.high) == (-math.inf, math.inf)
    swapped = gap_between(theirs, ours)
    assert swapped is not None
    assert swapped.area.mean == pytest.approx(0.005)


def test_only_sizes_that_every_curve_reaches_count() -> None:
    """From 2,000 to 4,000, where the other is at 2,000 half way from 4 % to 2 %, and so 1 % above us."""
    ours = {0: curve((2000, 0.02), (8000, 0.02))}
    theirs = {0: curve((4000, 0.02), (1000, 0.04))}
    gap = gap_between(ours, theirs)
    assert gap is not None
    assert (gap.smallest, gap.largest) == pytest.approx((2000, 4000))
    assert gap.area.mean == pytest.approx(-0.005)


def test_it_is_paired_by_rng_seed() -> None:
    """Leads of 1 and 3 % over one doubling: mean 2 %, and a 95 % interval of ± 12.706 × 1 %."""
    theirs = {seed: curve((1000, 0.1 * seed), (2000, 0.1 * seed)) for seed in range(4)}
    ours = {
        seed: curve((1000, 0.1 * seed + lead), (2000, 0.1 * seed + lead))
        for seed, lead in ((1, 0.01), (3, 0.03))
    }
    gap = gap_between(ours, theirs)
    assert gap is not None
    assert gap.rng_seeds == 2
    assert gap.area.mean == pytest.approx(0.02)
    assert gap.area.high - gap.area.mean == pytest.approx(12.7062 * 0.01, rel=1e-4)


def test_networks_of_one_size_are_averaged() -> None:
    ours = {0: curve((1000, 0.02), (1000, 0.06), (2000, 0.04))}
    gap = gap_between(ours, {0: curve((1000, 0.0), (2000, 0.0))})
    assert gap is not None
    assert gap.area.mean == pytest.approx(0.04)


def test_there_may_be_nothing_to_compare() -> None:
    one, two = curve((1000, 0.1)), curve((1000, 0.1), (2000, 0.1))
    assert gap_between({0: one}, {0: two}) is None
    assert gap_between({0: two}, {1: two}) is None
    assert gap_between({0: two}, {0: curve((3000, 0.1), (4000, 0.1))}) is None
    assert gap_between({0: []}, {0: two}) is None
