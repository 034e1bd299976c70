"""What studies say of rows that are made up: each claim holds where it should, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.chart_cases import panels_of, rows_drawn, scales_of, series_of

from search.commands.study.registry import STUDIES
from search.commands.study.studies import economy
from search.commands.study.studies.policies import at_equal_cost
from search.commands.study.study import (
    Place,
    Row,
    Scale,
)
from structnet.data.dataset import Dataset
from structnet.data.datasets import load_dataset


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


def rows_for(values: dict[str, list[float]], quantity: str = "accuracy") -> list[Row]:
    return [
        Row(arm, seed, quantity, 0, value)
        for arm, found in values.items()
        for seed, value in enumerate(found)
    ]


def arm_rows(mechanism: str, **accuracy: float) -> list[Row]:
    return [
        Row(mechanism, seed, f"{quantity}:{arm}", 0, value)
        for arm, level in accuracy.items()
        for seed, wobble in enumerate([0.0, 0.002, -0.001])
        for quantity, value in (("accuracy", level + wobble * (1 + level)), ("parameters", 100.0))
    ]


@pytest.mark.parametrize(
    ("moved", "random", "holds"), [(0.5, 0.6, "yes"), (0.9, 0.6, "in part"), (0.9, 0.9, "no")]
)
def test_patches_have_to_beat_moving_as_well(moved: float, random: float, holds: str) -> None:
    rows = arm_rows("patch", static=0.4, growth=0.8, random=random, rewire=moved)
    for name in ("patching", "rescue"):
        finding = STUDIES[name].judge(rows)
        assert finding.holds == holds
        assert finding.table[0][:2] == ("mechanism", "arm")
        assert panels_of(STUDIES[name].draw(rows)) == ["patch"]


def test_one_mechanism_that_does_more_than_moving_is_enough() -> None:
    rows = arm_rows("patch", static=0.4, growth=0.8, random=0.6, rewire=0.9)
    rows += arm_rows("widen", static=0.4, growth=0.8, random=0.6, rewire=0.5)
    assert STUDIES["rescue"].judge(rows).holds == "yes"


# Overshoot


def cost_rows(tournament: float, cost: float) -> list[Row]:
    found = {"dense": (0.98, 1000.0), "random 600": (0.97, 100.0), "tournament longer": (tournament, cost)}
    return [
        Row(arm, seed, quantity, 0, value)
        for arm, (accuracy, spent) in found.items()
        for seed, wobble in enumerate([0.0, 0.001, -0.001])
        for quantity, value in (
            ("test_accuracy", accuracy + wobble * (1 if arm == "dense" else -1)),
            ("parameter_steps_all", spent),
            ("parameters", 300.0),
        )
    ]


@pytest.mark.parametrize(
    ("tournament", "cost", "holds"), [(0.9795, 500, "yes"), (0.9795, 501, "no"), (0.97, 400, "no")]
)
def test_growth_has_to_be_level_at_half_of_the_cost(tournament: float, cost: float, holds: str) -> None:
    rows = cost_rows(tournament, cost)
    assert STUDIES["overshoot"].judge(rows).holds == holds
    chart = STUDIES["overshoot"].draw(rows)
    assert series_of(chart) == ["dense", "random", "tournament"]
    assert scales_of(chart) == {"x": "log", "y": "linear"}


@pytest.mark.parametrize("arm", ["dense", "gradient 600", "tournament"])
def test_every_path_ends_at_the_same_size_and_its_cost_is_counted(
    arm: str, digits: Dataset, tmp_path: Path
) -> None:
    (task,) = [
        task for task in STUDIES["overshoot"].tasks(digits, Scale((0,), quick=True)) if task.arm == arm
    ]
    found = {
        one.quantity: one.value
        for one in STUDIES["overshoot"].measure(task, digits, Place(str(tmp_path), "e", task.name))
    }
    steps = 3 * (len(digits.train) // 32)
    assert 250 < found["parameters"] <= 300
    # The line holds at least its final size at every step; what lies between is more.
    assert found["parameter_steps_all"] > (1.2 if arm != "dense" else 2.5) * 200 * steps


# Policies


def test_accuracy_is_read_at_the_cost_of_the_base() -> None:
    def rows(arm: str, accuracy: float, cost: float) -> list[Row]:
        return [
            Row(arm, 0, quantity, 0, value)
            for quantity, value in (
                ("accuracy", accuracy),
                ("test_accuracy", accuracy - 0.1),
                ("parameter_steps_all", cost),
            )
        ]

    found = at_equal_cost(
        rows("score", 0.9, 100.0)
        + rows("gain", 0.9, 1000.0)
        + rows("gain short", 0.7, 10.0)
        + rows("random", 0.6, 90.0)
        + rows("random short", 0.5, 10.0)
    )
    values = {(row.arm, row.quantity): row.value for row in found}
    # 100 lies half way between 10 and 1,000 in the logarithm; beyond its points random keeps its nearest.
    assert values["gain", "accuracy"] == pytest.approx(0.8)
    assert values["gain", "test_accuracy"] == pytest.approx(0.7)
    assert values["random", "accuracy"] == 0.6
    assert values["score", "accuracy"] == 0.9


@pytest.mark.parametrize(("control", "holds"), [(0.8, "yes"), (0.99, "no"), (0.9, "in part")])
def test_score_has_to_be_ahead_of_random_and_of_moving(control: float, holds: str) -> None:
    rows = []
    for arm, level in (("score", 0.9), ("random", 0.8), ("control", control)):
        wobble = [0.0, 0.001, -0.001] if arm == "score" else [0.0, 0.0, 0.0]
        values = [level + w for w in wobble]
        for quantity in ("accuracy", "test_accuracy"):
            rows += rows_for({arm: values}, quantity)
        rows += rows_for({arm: [100.0] * 3}, "parameter_steps_all")
    assert STUDIES["policies"].judge(rows).holds == holds


# Triggers and rates


@pytest.mark.parametrize(("age", "holds"), [(0.95, "yes"), (0.85, "no"), (0.9, "open")])
def test_rates_matter_where_one_is_surely_ahead(age: float, holds: str) -> None:
    rows = []
    for arm, level in (("none", 0.9), ("age", age)):
        wobble = [0.0, 0.001, -0.001] if arm == "none" else [0.0, -0.001, 0.001]
        for quantity in ("accuracy", "test_accuracy", "parameters", "parameter_steps_all"):
            rows += rows_for({arm: [level + w for w in wobble]}, quantity)
    assert STUDIES["rates"].judge(rows).holds == holds


# Economy, consistency, optimality


def test_a_front_holds_what_no_other_beats() -> None:
    points = {"a": (100.0, 0.9), "b": (200.0, 0.95), "c": (150.0, 0.85), "d": (300.0, 0.95)}
    assert economy.front(points) == ["a", "b"]


@pytest.mark.parametrize(
    ("sizes", "holds"), [((300, 200, 100), "yes"), ((300, 310, 100), "in part"), ((100, 200, 300), "no")]
)
def test_a_price_is_a_dial_if_sizes_fall_with_it(sizes: tuple[int, ...], holds: str) -> None:
    rows = []
    for price, size in zip(("0.1", "1", "2"), sizes, strict=True):
        for quantity, value in (
            ("parameters", size),
            ("accuracy", 0.5 + size / 1000),
            ("test_accuracy", 0.5),
        ):
            rows += rows_for({price: [value, value]}, quantity)
        for quantity in ("bought", "sold", "too dear"):
            rows += rows_for({price: [1.0, 2.0]}, quantity)
    assert STUDIES["economy"].judge(rows).holds == holds
    chart = STUDIES["economy"].draw(rows)
    assert series_of(chart) == ["price 0.1", "price 1", "price 2"]
    assert scales_of(chart)["x"] == "log"
    assert {row["parameters"] for row in rows_drawn(chart)} == {*sizes}


@pytest.mark.parametrize(("grown", "holds"), [(0.5, "yes"), (0.1, "no"), (0.3, "open")])
def test_architectures_are_consistent_beyond_their_degrees(grown: float, holds: str) -> None:
    rows = []
    for quantity, level in (("likeness:grown", grown), ("likeness:null", 0.3), ("inputs:grown", 0.8)):
        wobble = [0.01, -0.01, 0.0] if quantity == "likeness:grown" else [0.0, 0.0, 0.0]
        rows += rows_for({"pair": [level + w for w in wobble]}, quantity)
    assert STUDIES["consistency"].judge(rows).holds == holds


@pytest.mark.parametrize(("grown", "holds"), [(200, "yes"), (201, "no")])
def test_grown_networks_may_be_twice_the_smallest(grown: int, holds: str) -> None:
    rows = rows_for({"grow": [grown, grown, 900], "prune": [100, 150, 150], "overshoot": [150] * 3}, "needed")
    rows += rows_for({"grow": [124] * 3}, "teacher")
    finding = STUDIES["optimality"].judge(rows)
    assert finding.holds == holds
    drawn = rows_drawn(STUDIES["optimality"].draw(rows))
    assert {(row["name"], row["at"]) for row in drawn if "at" in row} == {("the teacher", 124)}
    assert {row["value"] for row in drawn if row.get("arm") == "prune"} == {100, 150}
