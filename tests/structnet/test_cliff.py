"""The cliff of a ladder, against cases worked out by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from structnet.errors import UserError
from structnet.experiments.cliff import Cliff, Rung, halfway, ladder_rows, locate_cliff

DENSITIES = (0.5, 0.2, 0.1, 0.01, 0.001)


def curve(accuracies: list[float], rng_seed: int = 0, densities: tuple[float, ...] = DENSITIES) -> list[Rung]:
    return [Rung(density, rng_seed, accuracy) for density, accuracy in zip(densities, accuracies)]


def test_halfway_is_half_of_what_is_above_chance() -> None:
    assert halfway(0.9, 0.1) == pytest.approx(0.5)


def test_the_cliff_is_interpolated_in_log_density() -> None:
    # Plateau (.92 + .9 + .88) / 3 = .9, so half is at .5: half way down from .7 at 1e-2 to .3 at 1e-3.
    cliff = locate_cliff(curve([0.92, 0.9, 0.88, 0.7, 0.3]), 0.1)
    assert cliff.plateau == pytest.approx(0.9)
    assert cliff.density == pytest.approx(10**-2.5)
    # A quarter of the way: (.6 - .5) / (.6 - .2).
    cliff = locate_cliff(curve([0.9, 0.9, 0.9, 0.6, 0.2]), 0.1)
    assert cliff.density == pytest.approx(10**-2.25)
    assert (cliff.rng_seeds, cliff.learned, cliff.reached, cliff.recovered) == (1, 1, 1, 0)
    assert cliff.below is None
    assert cliff.interval is None
    assert cliff.describe() == (
        "cliff at density 0.00562, without an interval; 1 of 1 rng_seeds fall to half of the plateau"
    )


def test_a_rung_exactly_at_half_is_not_yet_below_it() -> None:
    assert locate_cliff(curve([0.9, 0.9, 0.9, 0.5, 0.1]), 0.1).density == pytest.approx(0.01)
    assert locate_cliff(curve([0.9, 0.9, 0.9, 0.9, 0.5]), 0.1).density is None


def test_each_rng_seed_has_its_own_plateau_and_the_mean_is_geometric() -> None:
    low = curve([0.5, 0.5, 0.5, 0.4, 0.2], rng_seed=1)  # half at .3: at 10^-2.5
    high = curve([0.9, 0.9, 0.9, 0.6, 0.2], rng_seed=2)  # half at .5: at 10^-2.25
    cliff = locate_cliff(low + high, 0.1)
    assert cliff.plateau == pytest.approx(0.7)
    assert cliff.density == pytest.approx(10**-2.375)
    assert cliff.interval is not None
    # Of two rng_seeds a quarter of the resamples holds only the one, a quarter only the other.
    assert cliff.interval == pytest.approx((10**-2.5, 10**-2.25))


def test_what_is_not_reached_is_censored() -> None:
    flat = [rung for seed in range(3) for rung in curve([0.9, 0.9, 0.9, 0.9, 0.8], seed)]
    cliff = locate_cliff(flat, 0.1)
    assert (cliff.density, cliff.interval, cliff.below, cliff.reached) == (None, None, pytest.approx(1e-3), 0)
    assert cliff.describe() == (
        "cliff not reached: below density 0.001; 0 of 3 rng_seeds fall to half of the plateau"
    )


def test_some_that_are_not_reached_make_an_upper_bound() -> None:
    falls = curve([0.9, 0.9, 0.9, 0.7, 0.3], 0)
    stays = curve([0.9, 0.9, 0.9, 0.9, 0.8], 1)
    cliff = locate_cliff(falls + stays, 0.1)
    assert (cliff.density, cliff.interval, cliff.reached, cliff.learned) == (None, None, 1, 2)
    assert cliff.below == pytest.approx(math.sqrt(10**-2.5 * 10**-3))


def test_what_never_learned_has_no_cliff() -> None:
    guessing = curve([0.12, 0.1, 0.13, 0.09, 0.1], 1)
    cliff = locate_cliff(guessing, 0.1)
    assert (cliff.density, cliff.below, cliff.interval, cliff.learned) == (None, None, None, 0)
    assert cliff.describe() == "no cliff: none of 1 rng_seeds has a plateau 0.1 above chance"
    both = locate_cliff(curve([0.9, 0.9, 0.9, 0.7, 0.3], 0) + guessing, 0.1)
    assert both.density == pytest.approx(10**-2.5)
    assert (both.learned, both.reached, both.rng_seeds) == (1, 1, 2)
    assert both.describe().endswith("1 of 2 rng_seeds fall to half of the plateau, 1 have no plateau")


def test_the_first_fall_counts_and_a_recovery_is_told() -> None:
    # Down through .5 half way from 1e-1 to 1e-2, up again, and down for good.
    noisy = curve([0.9, 0.9, 0.9, 0.1, 0.6], 0)
    cliff = locate_cliff(noisy, 0.1)
    assert cliff.density == pytest.approx(10**-1.5)
    assert cliff.recovered == 1
    assert cliff.describe().endswith(", 1 recover at a sparser rung")


def test_a_bad_densest_rung_is_no_fall() -> None:
    # Plateau (.2 + .9 + .9) / 3 = 2/3, half at .38333: from .7 to .3 that is .79167 of the way.
    cliff = locate_cliff(curve([0.2, 0.9, 0.9, 0.7, 0.3]), 0.1)
    assert cliff.density == pytest.approx(10 ** -(2 + 0.3166666666666667 / 0.4))
    assert cliff.recovered == 0


@pytest.mark.parametrize(
    ("rungs", "message"),
    [
        ([Rung(0.5, 0, 0.9), Rung(0.5, 0, 0.8)], "rng_seed 0 has density 0.5 twice"),
        ([Rung(0.0, 0, 0.9)], "density_real must be in"),
        ([Rung(1.5, 0, 0.9)], "density_real must be in"),
        ([Rung(0.5, 0, math.nan)], "accuracy in"),
        ([Rung(0.5, 0, 90.0)], "accuracy in"),
    ],
)
def test_impossible_rungs_are_refused(rungs: list[Rung], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        locate_cliff(rungs, 0.1)
    with pytest.raises(ValueError, match=message):
        ladder_rows(rungs)


def test_too_few_rungs_are_refused() -> None:
    rungs = curve([0.9, 0.9, 0.9, 0.1], 0) + curve([0.9, 0.9, 0.9], 7)
    with pytest.raises(UserError, match="rng_seed 7 has 3 rungs, but at least 4 are needed"):
        locate_cliff(rungs, 0.1)
    with pytest.raises(UserError, match="no rungs"):
        locate_cliff([], 0.1)


def test_ladder_rows_have_mean_and_spread() -> None:
    rungs = [Rung(0.1, 0, 0.5), Rung(0.5, 1, 0.8), Rung(0.5, 0, 0.6), Rung(0.5, 2, 0.7)]
    dense, sparse = ladder_rows(rungs)
    assert dense == {
        "density_real": 0.5,
        "mean": pytest.approx(0.7),
        "spread": pytest.approx(0.1),
        "n": 3,
    }
    assert sparse == {"density_real": 0.1, "mean": 0.5, "spread": 0.0, "n": 1}
    assert ladder_rows([]) == []


@st.composite
def ladders(draw: st.DrawFn) -> list[Rung]:
    """A high plateau and anything below it, at the same densities for every rng_seed."""
    exponents = st.floats(-4, 0, allow_nan=False).map(lambda number: round(number, 3))
    found = draw(st.lists(exponents, min_size=4, max_size=7, unique=True))
    densities = sorted((10**exponent for exponent in found), reverse=True)
    high, any_height = st.floats(0.7, 1), st.floats(0, 1)
    return [
        Rung(density, rng_seed, draw(high if place < 3 else any_height))
        for rng_seed in range(draw(st.integers(1, 5)))
        for place, density in enumerate(densities)
    ]


def numbers(cliff: Cliff) -> list[float | None]:
    return [cliff.density, cliff.below, *(cliff.interval or ())]


@given(ladders())
def test_the_interval_holds_the_mean_and_both_lie_on_the_ladder(rungs: list[Rung]) -> None:
    cliff = locate_cliff(rungs, 0.1)
    assert (cliff.density is None) == (cliff.reached < cliff.rng_seeds) == (cliff.below is not None)
    assert (cliff.interval is None) == (cliff.density is None or cliff.rng_seeds == 1)
    if cliff.interval is not None and cliff.density is not None:
        assert cliff.interval[0] <= cliff.density <= cliff.interval[1]
    densities = [rung.density_real for rung in rungs]
    for number in numbers(cliff):
        assert number is None or min(densities) * (1 - 1e-9) <= number <= max(densities) * (1 + 1e-9)


@given(ladders(), st.floats(0.01, 1))
def test_a_ladder_of_scaled_densities_has_a_scaled_cliff(rungs: list[Rung], scale: float) -> None:
    before = locate_cliff(rungs, 0.1)
    after = locate_cliff([rung._replace(density_real=rung.density_real * scale) for rung in rungs], 0.1)
    for one, other in zip(numbers(before), numbers(after), strict=True):
        assert (one is None and other is None) or other == pytest.approx(one * scale)
    assert (before.plateau, before.reached) == (after.plateau, after.reached)


@given(ladders(), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(rungs: list[Rung], random: object) -> None:
    shuffled = list(rungs)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert locate_cliff(shuffled, 0.1) == locate_cliff(rungs, 0.1)
    assert ladder_rows(shuffled) == ladder_rows(rungs)
