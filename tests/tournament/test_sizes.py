"""The path of sizes: it ends, stays within its bounds, and finds what a known curve of errors says."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tournament.rules.sizes import (
    BOLD,
    WORTH_A_STEP,
    Sizes,
    Visit,
    almost,
    next_for_knee,
    next_for_target,
    next_of,
)

SIZES = Sizes(start=1000, least=11, most=64_000)
MANY = 60


def visit(size: int, error: float = 0.0, information: float = 0.0) -> Visit:
    return Visit(0, size, size, information, error)


def path(
    error_of: Callable[[int, int], float],
    sizes: Sizes = SIZES,
    plan: Callable[..., int | None] = next_for_target,
) -> list[Visit]:
    """Where sizes go if a size has this error at its so manieth visit."""
    visits: list[Visit] = []
    while (size := plan(visits, sizes)) is not None:
        visits.append(visit(size, error_of(size, len(visits))))
        assert len(visits) < MANY
    return visits


def power_law(at: int, slope: float = 0.7) -> Callable[[int, int], float]:
    """An error that is what is allowed at this size."""
    return lambda size, _: (at / size) ** slope


def smallest(visits: list[Visit]) -> int:
    return min(visit.size for visit in visits if visit.holds)


@given(st.integers(20, 60_000), st.floats(0.3, 2.0))
def test_it_ends_at_the_smallest_that_holds(at: int, slope: float) -> None:
    visits = path(power_law(at, slope))
    assert at <= smallest(visits) <= at * WORTH_A_STEP**2 + 2
    assert all(SIZES.least <= visit.size <= SIZES.most for visit in visits)


@given(st.lists(st.floats(0.2, 2.0), min_size=MANY, max_size=MANY), st.integers(11, 5000))
def test_whatever_is_found_it_ends(errors: list[float], start: int) -> None:
    path(lambda _, number: errors[number], Sizes(start, 11, 20_000))


def test_sizes_are_halved_while_nothing_has_missed() -> None:
    assert [visit.size for visit in path(power_law(300))][:3] == [1000, 500, 250]


def test_a_narrow_miss_is_tried_again_once_and_a_wide_one_is_not() -> None:
    held = visit(500, 0.8)
    assert next_for_target([held, visit(400, 1.03)], SIZES) == 400
    assert next_for_target([held, visit(400, 1.03), visit(400, 1.03)], SIZES) == 447
    assert next_for_target([held, visit(400, 1.5)], SIZES) == 447


def test_where_nothing_holds_the_closest_is_worth_a_long_phase_if_it_missed_by_little() -> None:
    assert almost([visit(400, 1.6), visit(800, 1.4), visit(1600, 1.45)]) == visit(800, 1.4)
    assert almost([visit(400, 1.6), visit(800, 1.5)]) is None
    assert almost([visit(400, 1.1), visit(800, 0.9)]) is None
    assert almost([]) is None


def test_what_missed_before_another_held_may_hold_now() -> None:
    """It had been trained for less; how far to go is told by what the smallest has to spare."""
    visits = [visit(1000, 0.5), visit(500, 1.5), visit(700, 0.9)]
    assert next_for_target(visits, SIZES) == round(BOLD * 700)
    spare = [visit(1400, 0.3), visit(500, 1.5), visit(700, 0.6)]
    assert next_for_target(spare, SIZES) == round(0.6 * 700)


def test_the_first_size_is_tried_again_then_doubled_while_that_helps() -> None:
    sizes = [visit.size for visit in path(power_law(3500))]
    assert sizes[:5] == [1000, 1000, 2000, 2000, 4000]


def test_what_neither_more_nor_fewer_parameters_help_is_given_up() -> None:
    assert [visit.size for visit in path(lambda size, _: 2.0)] == [1000, 1000, 2000, 2000, 500]


def test_where_larger_networks_overfit_smaller_ones_are_looked_at() -> None:
    visits = path(lambda size, _: 1 + size / 500 if size > 200 else 0.9 if size > 90 else 2.0)
    assert [visit.size for visit in visits][:7] == [1000, 1000, 2000, 2000, 500, 250, 125]
    assert smallest(visits) < 125


def test_at_the_limit_half_of_it_shows_what_it_would_take() -> None:
    visits = path(power_law(3000), Sizes(300, 11, 300))
    assert [visit.size for visit in visits] == [300, 300, 150]


@pytest.mark.parametrize(("at", "found"), [(11, 11), (12, 12)])
def test_the_least_size_is_a_size(at: int, found: int) -> None:
    assert smallest(path(power_law(at), Sizes(40, 11, 100))) == found


# --- sizes by name


def test_named_sizes_come_largest_first_and_that_twice() -> None:
    visits: list[Visit] = []
    while size := next_of(visits, (100, 400, 200)):
        visits.append(visit(size))
    assert [visit.size for visit in visits] == [400, 400, 200, 100]
    assert next_of([], ()) is None


# --- the knee


def to_the_knee(bits_of: Callable[[int], float], sizes: Sizes = SIZES) -> list[int]:
    visits: list[Visit] = []
    while (size := next_for_knee(visits, sizes, 0.03)) is not None:
        visits.append(visit(size, information=bits_of(size)))
        assert len(visits) < MANY
    return [visit.size for visit in visits]


def test_sizes_are_halved_until_that_costs_more_than_the_knee_allows() -> None:
    assert to_the_knee(lambda size: 3.0 if size >= 250 else 2.0) == [1000, 1000, 500, 250, 125]


def test_where_the_first_halving_costs_too_much_sizes_are_doubled() -> None:
    assert to_the_knee(lambda size: 3 - 100 / size) == [1000, 1000, 500, 2000, 4000]


def test_the_bounds_end_it() -> None:
    assert to_the_knee(lambda size: 1.0, Sizes(100, 40, 1000)) == [100, 100, 50, 40]
    assert to_the_knee(lambda size: size / 10, Sizes(100, 40, 150)) == [100, 100, 50, 150]
    assert to_the_knee(lambda size: size / 10, Sizes(50, 50, 50)) == [50, 50]
