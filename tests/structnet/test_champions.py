"""What makes a network worth growing, and which go on: by hand, on rows as the tables have them."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from structnet.trials.champions import (
    CRITERIA,
    amount,
    best,
    champions,
    efficiency,
    is_culling_epoch,
    patchability,
    survivors,
)


def row(network: str, accuracy: float | None = 0.5, **columns: Any) -> dict[str, Any]:
    plain = {"density": 0.1, "loss": 1.0, "parameters": 100, "efficiency": 0.0, "hidden_units": 32}
    return {"network": network, "accuracy": accuracy, "patchability": None, **plain, **columns}


def name(found: dict[str, Any] | None) -> str | None:
    return found and found["network"]


# The criteria


def test_efficiency_is_accuracy_above_chance_per_parameter() -> None:
    assert efficiency(0.9, 0.1, 400) == pytest.approx(0.002)
    assert efficiency(0.05, 0.1, 100) == pytest.approx(-0.0005)


def test_patchability_is_the_share_of_unhealthy_units_of_what_is_left_to_learn() -> None:
    # 3 saturated and 5 dead of 32, and a quarter of the images wrong.
    assert patchability(3, 5, 32, 0.75, 0.1) == pytest.approx(0.25 * 0.25)
    assert patchability(0, 0, 32, 0.75, 0.1) == 0


def test_without_hidden_units_nothing_can_be_patched() -> None:
    assert patchability(0, 0, 0, 0.9, 0.1) is None


def test_a_network_that_has_not_learned_has_no_patchability() -> None:
    assert patchability(0, 32, 32, 0.1, 0.1) is None
    assert patchability(0, 32, 32, 0.1999, 0.1) is None
    assert patchability(0, 32, 32, 0.625, 0.5) == pytest.approx(0.375)
    assert patchability(0, 32, 32, 0.5 + 0.1, 0.5) == pytest.approx(0.4), "at the margin it has"


def test_patchable_is_the_error_of_what_has_a_patchability() -> None:
    assert amount(row("a", 0.75, patchability=0.01), "patchable") == pytest.approx(0.25)
    assert amount(row("a", 0.75, patchability=0.0), "patchable") == pytest.approx(0.25), "all units are well"
    assert amount(row("a", 0.75), "patchable") is None
    assert amount(row("a", 0.75, patchability=0.9), "accuracy") == 0.75
    assert amount(row("a", 0.75, efficiency=2.0), "efficiency") == 2.0


# The best


def test_the_best_has_the_most_of_the_criterion() -> None:
    rows = [row("a", 0.5, efficiency=3.0), row("b", 0.7, efficiency=1.0), row("c", 0.6, efficiency=2.0)]
    assert name(best(rows, "accuracy")) == "b"
    assert name(best(rows, "efficiency")) == "a"


def judged(network: str, unhealthy: int, hidden_units: int, accuracy: float) -> dict[str, Any]:
    """A row with the patchability of a network with so many dead units, where chance is 0.1."""
    found = patchability(0, unhealthy, hidden_units, accuracy, 0.1)
    return row(network, accuracy, hidden_units=hidden_units, patchability=found)


def test_most_patchable_is_the_largest_error_not_the_most_unhealthy_units() -> None:
    """The source's numbers are 0.3 for a, 0.05 for b and 0.15 for c; of those that learned, b has the largest error."""
    rows = [
        judged("a", 24, 32, 0.6),
        judged("b", 2, 32, 0.2),
        judged("c", 16, 32, 0.7),
        judged("below the margin", 32, 32, 0.19),
        judged("at chance", 32, 32, 0.1),
        judged("without hidden units", 0, 0, 0.3),
    ]
    assert [one["patchability"] for one in rows] == pytest.approx([0.3, 0.05, 0.15, None, None, None])
    assert name(best(rows, "patchable")) == "b"
    assert name(best([one for one in rows if one["network"] != "b"], "patchable")) == "a"
    assert best(rows[3:], "patchable") is None


def test_a_network_whose_units_are_all_well_can_be_the_most_patchable() -> None:
    assert name(best([judged("well", 0, 32, 0.5), judged("unwell", 32, 32, 0.9)], "patchable")) == "well"


@given(st.lists(st.tuples(st.integers(0, 8), st.sampled_from([0, 8]), st.floats(0, 1)), max_size=12))
def test_at_chance_or_without_hidden_units_nothing_is_patchable(values: list[tuple[int, int, float]]) -> None:
    rows = [judged(f"n{index}", min(one, two), two, three) for index, (one, two, three) in enumerate(values)]
    for (criterion, _), found in champions(rows).items():
        assert criterion != "patchable" or (found["accuracy"] >= 0.2 and found["hidden_units"])


def test_of_equals_the_one_of_least_loss_then_fewest_parameters_then_first_by_name() -> None:
    rows = [
        row("d", 0.7, loss=0.4, parameters=10),
        row("c", 0.7, loss=0.3, parameters=60),
        row("b", 0.7, loss=0.3, parameters=50),
        row("a", 0.7, loss=0.3, parameters=50),
        row("e", 0.6, loss=0.1, parameters=1),
    ]
    random.Random(0).shuffle(rows)
    order = []
    while rows:
        found = best(rows, "accuracy")
        assert found is not None
        order.append(found["network"])
        rows.remove(found)
    assert order == ["a", "b", "c", "d", "e"]


def test_what_has_no_number_cannot_be_the_best() -> None:
    rows = [row("a", None), row("b", math.nan), row("c", math.inf), row("d", 0.1)]
    assert name(best(rows, "accuracy")) == "d"
    assert best(rows[:3], "accuracy") is None
    assert best([], "accuracy") is None


def test_champions_are_per_density_and_of_all() -> None:
    rows = [
        row("a", 0.9, density=0.2, efficiency=1.0),
        row("b", 0.8, density=0.1, efficiency=2.0, patchability=0.3),
        row("c", 0.7, density=0.1, efficiency=4.0, patchability=0.1),
        row("d", 0.6, density=0.2, efficiency=3.0),
    ]
    found = {place: row["network"] for place, row in champions(rows).items()}
    assert found == {
        ("accuracy", None): "a",
        ("accuracy", 0.1): "b",
        ("accuracy", 0.2): "a",
        ("efficiency", None): "c",
        ("efficiency", 0.1): "c",
        ("efficiency", 0.2): "d",
        ("patchable", None): "c",
        ("patchable", 0.1): "c",
    }
    assert list(found)[:3] == [("accuracy", None), ("accuracy", 0.1), ("accuracy", 0.2)]


def test_no_rows_have_no_champions() -> None:
    assert champions([]) == {}


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_champions_of_the_champions_are_the_same(values: list[int], order: random.Random) -> None:
    """So a run that was stopped after it gave up the others finds the same ones again."""
    rows = [
        row(
            f"n{index}",
            value / 4,
            density=index % 3,
            efficiency=-value,
            patchability=[None, 0.0, 1.0][value % 3],
        )
        for index, value in enumerate(values)
    ]
    found = champions(rows)
    order.shuffle(rows)
    assert champions([one for one in rows if one in list(found.values())]) == found


# Who goes on


def test_survivors_are_the_best_quarter_by_any_criterion() -> None:
    """Of forty rows ten each: by accuracy the last, by efficiency those from 10 on, by error ten of those that learned.

    Accuracy rises from 0 to 0.975; from 15 on they are at the margin or above it.
    """
    rows = [
        row(
            f"n{index:02d}",
            index / 40,
            efficiency=1.0 if 0 <= index < 10 else -float(index),
            patchability=index / 1000 if index >= 15 else None,
        )
        for index in range(40)
    ]
    assert survivors(rows, chance=0.275) == [*range(10), *range(12, 25), *range(30, 40)], (
        "12 to 14 are learning"
    )
    assert survivors(rows, chance=0.375) == [*range(10), *range(15, 25), *range(30, 40)]


def test_what_is_learning_survives_in_any_number_but_not_at_chance_or_without_hidden_units() -> None:
    """Twenty are half way to the margin; the four best by accuracy and by efficiency are the last ones."""
    rows = [row(f"n{index:02d}", 0.15, efficiency=0.0, loss=3.0) for index in range(20)]
    rows += [row(f"p{index}", 0.1, loss=4.0) for index in range(4)]
    rows += [row(f"q{index}", 0.15, loss=4.0, hidden_units=0) for index in range(4)]
    rows += [row(f"r{index}", 0.5, efficiency=1.0) for index in range(8)]
    assert survivors(rows, 0.1) == [*range(20), *range(28, 36)]


def test_what_has_learned_least_survives_whether_its_units_are_well_or_not() -> None:
    """By the source's number the last four would be the most patchable; by accuracy and efficiency they are, too."""
    rows = [judged(f"n{index}", 0 if index < 4 else 32, 32, 0.3 + index / 20) for index in range(12)]
    for index, one in enumerate(rows):
        one["efficiency"] = float(index)
    assert survivors(rows, 0.1) == [0, 1, 2, 3, 8, 9, 10, 11]


def test_at_least_four_survive_by_each_criterion() -> None:
    rows = [row(f"n{index}", index / 10, efficiency=float(index)) for index in range(9)]
    assert survivors(rows, 0.9) == [5, 6, 7, 8]
    assert survivors(rows[:3], 0.9) == [0, 1, 2]
    assert survivors([], 0.9) == []


def test_a_quarter_is_rounded_up() -> None:
    rows = [row(f"n{index:02d}", index / 40, efficiency=float(index)) for index in range(17)]
    assert survivors(rows, 0.9) == [12, 13, 14, 15, 16]


def test_without_hidden_units_they_survive_by_the_other_two() -> None:
    rows = [row(f"n{index}", index / 10, efficiency=-float(index), hidden_units=0) for index in range(9)]
    assert survivors(rows, 0.35) == [0, 1, 2, 3, 5, 6, 7, 8]


def test_survivors_of_equals_are_those_of_least_loss() -> None:
    rows = [row(f"n{index}", 0.1, loss=float(9 - index)) for index in range(9)]
    assert survivors(rows, 0.1) == [5, 6, 7, 8]


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 5), st.integers(0, 8)), max_size=40))
def test_whoever_is_best_survives(values: list[tuple[int, int, int]]) -> None:
    rows = [
        judged(f"n{index:02d}", three, 8, one / 20) | {"efficiency": two}
        for index, (one, two, three) in enumerate(values)
    ]
    kept = survivors(rows, 0.1)
    assert kept == sorted(set(kept)) and len(kept) >= min(4, len(rows))
    for criterion in CRITERIA:
        found = best(rows, criterion)
        assert found is None or found in [rows[index] for index in kept]


@pytest.mark.parametrize(
    ("epochs", "culled"), [(1, []), (2, [1]), (3, [2]), (4, [2, 3]), (5, [2, 3]), (10, [4, 6]), (20, [8, 12])]
)
def test_networks_are_culled_at_40_and_60_percent(epochs: int, culled: list[int]) -> None:
    assert [epoch for epoch in range(1, epochs + 1) if is_culling_epoch(epoch, epochs)] == culled
