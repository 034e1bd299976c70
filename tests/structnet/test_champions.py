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
    best,
    champions,
    efficiency,
    is_culling_epoch,
    openness,
    patchability,
    survivors,
)


def row(network: str, accuracy: float | None = 0.5, **columns: Any) -> dict[str, Any]:
    plain = {"density": 0.1, "loss": 1.0, "parameters": 100, "efficiency": 0.0, "openness": None}
    return {"network": network, "accuracy": accuracy, "patchability": None, **plain, **columns}


def name(found: dict[str, Any] | None) -> str | None:
    return found and found["network"]


# The criteria


def test_efficiency_is_accuracy_above_chance_per_parameter() -> None:
    assert efficiency(0.9, 0.1, 400) == pytest.approx(0.002)
    assert efficiency(0.05, 0.1, 100) == pytest.approx(-0.0005)


def test_patchability_is_the_share_of_unhealthy_units_of_what_is_left_to_learn() -> None:
    # 3 saturated and 5 dead of 32, and a quarter of the images wrong.
    assert openness(3, 5, 32, 0.75) == pytest.approx(0.25 * 0.25)
    assert patchability(3, 5, 32, 0.75, 0.1) == pytest.approx(0.0625)
    assert patchability(0, 0, 32, 0.75, 0.1) == 0


def test_without_hidden_units_nothing_can_be_patched() -> None:
    assert openness(0, 0, 0, 0.5) is None
    assert patchability(0, 0, 0, 0.9, 0.1) is None


def test_a_network_that_has_not_learned_has_no_patchability() -> None:
    assert patchability(0, 32, 32, 0.1, 0.1) is None
    assert patchability(0, 32, 32, 0.1999, 0.1) is None
    assert patchability(0, 32, 32, 0.625, 0.5) == pytest.approx(0.375)
    assert patchability(0, 32, 32, 0.5 + 0.1, 0.5) == pytest.approx(0.4), "at the margin it has"
    assert openness(0, 32, 32, 0.1) == pytest.approx(0.9), "while it is training it may still learn"


# The best


def test_the_best_has_the_most_of_the_criterion() -> None:
    rows = [row("a", 0.5, efficiency=3.0), row("b", 0.7, efficiency=1.0), row("c", 0.6, efficiency=2.0)]
    assert name(best(rows, "accuracy")) == "b"
    assert name(best(rows, "efficiency")) == "a"


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
        row("b", 0.8, density=0.1, efficiency=2.0, patchability=0.1),
        row("c", 0.7, density=0.1, efficiency=4.0, patchability=0.3),
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
        ("patchability", None): "c",
        ("patchability", 0.1): "c",
    }
    assert list(found)[:3] == [("accuracy", None), ("accuracy", 0.1), ("accuracy", 0.2)]


def test_no_rows_have_no_champions() -> None:
    assert champions([]) == {}


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_champions_of_the_champions_are_the_same(values: list[int], order: random.Random) -> None:
    """So a run that was stopped after it gave up the others finds the same ones again."""
    rows = [
        row(f"n{index}", value / 4, density=index % 3, efficiency=-value, patchability=value % 2)
        for index, value in enumerate(values)
    ]
    found = champions(rows)
    order.shuffle(rows)
    assert champions([one for one in rows if one in list(found.values())]) == found


# Who goes on


def test_survivors_are_the_best_quarter_by_any_criterion() -> None:
    """Of forty rows ten each: by accuracy the last, by efficiency the first, by openness ten in the middle."""
    rows = [
        row(
            f"n{index:02d}",
            index / 40,
            efficiency=-float(index),
            openness=1.0 if 15 <= index < 25 else 0.5 - index / 100,
        )
        for index in range(40)
    ]
    assert survivors(rows) == [*range(10), *range(15, 25), *range(30, 40)]


def test_at_least_four_survive_by_each_criterion() -> None:
    rows = [
        row(f"n{index}", index / 10, efficiency=float(index), openness=float(index)) for index in range(9)
    ]
    assert survivors(rows) == [5, 6, 7, 8]
    assert survivors(rows[:3]) == [0, 1, 2]
    assert survivors([]) == []


def test_a_quarter_is_rounded_up() -> None:
    rows = [row(f"n{index:02d}", index / 40, efficiency=float(index)) for index in range(17)]
    assert survivors(rows) == [12, 13, 14, 15, 16]


def test_without_hidden_units_they_survive_by_the_other_two() -> None:
    rows = [row(f"n{index}", index / 10, efficiency=-float(index)) for index in range(9)]
    assert survivors(rows) == [0, 1, 2, 3, 5, 6, 7, 8]


def test_survivors_of_equals_are_those_of_least_loss() -> None:
    rows = [row(f"n{index}", 0.1, loss=float(9 - index)) for index in range(9)]
    assert survivors(rows) == [5, 6, 7, 8]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5)), max_size=40))
def test_whoever_is_best_survives(values: list[tuple[int, int, int]]) -> None:
    rows = [
        row(f"n{index:02d}", one / 6, efficiency=two, openness=three, patchability=three)
        for index, (one, two, three) in enumerate(values)
    ]
    kept = survivors(rows)
    assert kept == sorted(set(kept)) and len(kept) >= min(4, len(rows))
    for criterion in CRITERIA:
        assert not rows or best(rows, criterion) in [rows[index] for index in kept]


@pytest.mark.parametrize(
    ("epochs", "culled"), [(1, []), (2, [1]), (3, [2]), (4, [2, 3]), (5, [2, 3]), (10, [4, 6]), (20, [8, 12])]
)
def test_networks_are_culled_at_40_and_60_percent(epochs: int, culled: list[int]) -> None:
    assert [epoch for epoch in range(1, epochs + 1) if is_culling_epoch(epoch, epochs)] == culled
