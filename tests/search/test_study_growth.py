"""The studies of what growth starts from: whether patchability predicts, and whether a start is worth something."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.chart_cases import panels_of

from search.commands.study.registry import STUDIES
from search.commands.study.studies import initialisation, patched_grid
from search.commands.study.studies.patchability import (
    CLAIMED,
    PREDICTORS,
    agreement,
    correlations,
    networks_of,
)
from search.commands.study.study import VERDICTS, Finding, Place, Row, Scale, Task
from structnet.data.dataset import Dataset
from structnet.data.datasets import load_dataset

QUICK = Scale((0, 1), quick=True)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


# Patchability


def grid_rows(gains: list[list[float]], size: str = "patch 0.5", **predictors: list[float]) -> list[Row]:
    """A list of gains for every rng_seed; predictors: one value per network, the same for every rng_seed.

    Those that are not given are equal for all networks, so they predict nothing.
    """
    rows = []
    for seed, found in enumerate(gains):
        rows.append(Row(size, seed, "networks", 0, len(found) + 1))
        for number, gain in enumerate(found):
            values = dict.fromkeys(PREDICTORS, 1.0)
            values |= {name.replace("_", " "): of[number] for name, of in predictors.items()}
            values |= {f"information:{arm}": 2.0 for arm in ("static", "moved", "random")}
            values |= {"information:static": 1.5, "information:patched": 2.0 + gain}
            rows += [Row(size, seed, name, number, value) for name, value in values.items()]
    return rows


ORDERS = [[0.1, 0.2, 0.3, 0.4, 0.5], [0.1, 0.2, 0.3, 0.5, 0.4], [0.1, 0.3, 0.2, 0.4, 0.5]]
RISING = [1.0, 2.0, 3.0, 4.0, 5.0]
FALLING = RISING[::-1]


def test_gain_is_over_the_better_control_and_lift_over_training_on() -> None:
    (network,) = networks_of(grid_rows([[0.25]]))[0].values()
    assert (network["gain"], network["lift"]) == (0.25, 0.75)


def test_a_network_without_patchability_is_left_out_for_every_predictor() -> None:
    rows = grid_rows([[0.1, 0.2, 0.3, 0.9]], error=[3.0, 2.0, 1.0, 4.0])
    kept = [row for row in rows if not (row.item == 3 and row.quantity == CLAIMED)]
    assert list(networks_of(kept)[0]) == [0, 1, 2]
    found = {row.arm: row.value for row in correlations(kept)}
    assert found["error"] == pytest.approx(-1)
    assert found["density"] == 0


def test_what_patches_bring_is_compared_between_rng_seeds_network_by_network() -> None:
    rows = grid_rows([[0.1, 0.2, 0.3], [0.1, 0.2, 0.3], [0.3, 0.2, 0.1]])
    assert agreement(rows) == pytest.approx((1 - 1 - 1) / 3)
    assert agreement(grid_rows([[0.1, 0.2, 0.3]])) is None


@pytest.mark.parametrize(
    ("predictors", "holds", "best"),
    [
        # Correlations 1, 0.9 and 0.9: 0.93 ± 0.14.
        ({"patchability": RISING}, "yes", "patchability"),
        ({"patchability": FALLING}, "no", "patchability"),
        # A constant has no order; the other one predicts just as well from its far end.
        ({"error": FALLING}, "no", "error"),
        # 0.2, 0.4 and 0.1: neither surely above 0.3 nor below, nor surely behind 1, 0.9 and 0.9.
        ({"patchability": [4.0, 1.0, 2.0, 5.0, 3.0], "error": RISING}, "open", "error"),
    ],
)
def test_patchability_has_to_be_surely_above_the_bar(
    predictors: dict[str, list[float]], holds: str, best: str
) -> None:
    rows = grid_rows(ORDERS, **predictors)
    finding = STUDIES["patchability"].judge(rows)
    assert finding.holds == holds
    assert f"The best predictor is {best}" in finding.sentences[2]
    assert finding.table[1][:2] == ("0.5", best)
    assert len(finding.table) == 1 + len(PREDICTORS)
    assert panels_of(STUDIES["patchability"].draw(rows)) == ["patch 0.5 of the parameters"]


def test_patchability_that_predicts_is_not_enough_where_another_predicts_surely_better() -> None:
    order = [0.1, 0.2, 0.3, 0.4, 0.5]
    rows = grid_rows([order] * 3, patchability=[2.0, 1.0, 3.0, 4.0, 5.0], train_loss=FALLING)
    finding = STUDIES["patchability"].judge(rows)
    assert finding.holds == "in part"
    assert "surely better than patchability: train loss." in finding.sentences[2]
    # 1 in strength against 0.9, with no spread at all.
    assert next(row for row in finding.table if row[1] == "train loss")[3] == "+0.10 (+0.10 to +0.10)"


@pytest.mark.parametrize(
    ("small", "large", "holds"),
    [
        (RISING, RISING, "yes"),
        (FALLING, RISING, "in part"),
        (FALLING, FALLING, "no"),
        ([1.0] * 5, FALLING, "no"),
    ],
)
def test_sizes_of_patches_are_judged_apart(small: list[float], large: list[float], holds: str) -> None:
    rows = grid_rows(ORDERS, "patch 0.05", patchability=small) + grid_rows(ORDERS, patchability=large)
    finding = STUDIES["patchability"].judge(rows)
    assert finding.holds == holds
    assert {row[0] for row in finding.table[1:]} == {"0.05", "0.5"}
    drawn = STUDIES["patchability"].draw(rows)
    assert panels_of(drawn) == ["patch 0.05 of the parameters", "patch 0.5 of the parameters"]


def test_gains_too_small_to_have_an_order_are_told() -> None:
    finding = STUDIES["patchability"].judge(grid_rows([[0.0001, 0.0005, 0.1, -0.2]] * 2))
    assert "The gain is beyond ±0.001 bits in 50% of them" in finding.sentences[0]


def test_leads_of_many_rivals_are_corrected() -> None:
    rows = grid_rows([[0.1, 0.2, 0.3], [0.1, 0.3, 0.2]], error=RISING[:3])
    error = next(row for row in STUDIES["patchability"].judge(rows).table if row[1] == "error")
    # 1 and 0.5: standard error 0.25; t with one degree of freedom is 12.706 at 95 %, 127.32 at 99.5 %.
    assert error[2] == "+0.75 (-2.43 to +3.93)"
    assert error[3] == "+0.75 (-31.08 to +32.58)"


def test_a_grid_that_learned_nothing_is_open() -> None:
    rows = [row for row in grid_rows(ORDERS) if row.quantity != CLAIMED]
    assert STUDIES["patchability"].judge(rows).holds == "open"


def test_a_grid_is_patched_and_judged_in_small(digits: Dataset, tmp_path: Path) -> None:
    rows = []
    for task in STUDIES["patchability"].tasks(digits, QUICK)[:2]:
        small = replace(
            task, options=task.options | {"hidden": [[8], [16], [12, 8]], "densities": [0.3, 0.6]}
        )
        found = patched_grid.measure(small, digits, Place(str(tmp_path), "e", task.name))
        rows += [Row(task.arm, task.rng_seed, one.quantity, one.item, one.value) for one in found]
    assert all(math.isfinite(row.value) for row in rows)
    of_first = {row.item: {} for row in rows if row.rng_seed == 0}
    for row in rows:
        if row.rng_seed == 0:
            of_first[row.item][row.quantity] = row.value
    assert sorted(of_first) == list(range(6))
    # 64-8-10 with 30 % of its 592 connections, and 64-12-8-10 with 60 % of 944.
    assert of_first[0]["parameters"] == 178 + 18
    assert of_first[5]["parameters"] == 566 + 30
    assert (of_first[0]["patch"], of_first[5]["patch"]) == (20, 30)
    assert of_first[0]["density"] == pytest.approx(178 / 592)
    finding = STUDIES["patchability"].judge(rows)
    assert finding.holds in VERDICTS
    assert "of 6 networks" in finding.sentences[0]


def test_arms_go_on_from_one_state_and_only_two_of_them_add(digits: Dataset) -> None:
    task = STUDIES["patchability"].tasks(digits, QUICK)[0]
    task = replace(task, options=task.options | {"hidden": [[16]], "densities": [0.2]})
    ((start,),) = patched_grid._starts(task, digits)
    state = patched_grid._trained([start], task, digits, 1).take(0)
    arms, about = patched_grid._arms(patched_grid._context(state, task, digits, 0))
    added = {
        name: arm.network.parameter_count - state.network.parameter_count
        for name, arm in zip(patched_grid.ARMS, arms, strict=True)
    }
    assert added == {"patched": 20, "random": 20, "moved": 0, "static": 0}
    assert about["patch"] == 20
    assert about["predicted gain per parameter"] == pytest.approx(about["predicted gain"] / 20)
    assert {arm.step for arm in arms} == {state.step}


# Initialisation


def start_rows(comparison: str, **accuracy: float) -> list[Row]:
    return [
        Row(comparison, seed, f"{quantity}:{arm}", 0, value)
        for arm, level in accuracy.items()
        for seed, wobble in enumerate([0.0, 0.002, -0.001])
        for quantity, value in (
            ("accuracy", level + wobble * (1 + level)),
            ("information", 2.0),
            ("parameters", 100.0),
            ("parameter_steps", 1e6),
        )
    ]


def judged(hierarchical: Mapping[str, float], scales: Mapping[str, float] | None = None) -> Finding:
    also = {"nested": 0.5, "random_longer": 0.5}
    rows = start_rows("hierarchical", **also, **hierarchical)
    if scales is not None:
        rows += start_rows("scales", **scales)
    expected = ["hierarchical", *(["scales"] if scales is not None else [])]
    assert panels_of(STUDIES["initialisation"].draw(rows)) == expected
    return STUDIES["initialisation"].judge(rows)


BETTER = {"random": 0.5, "untrained": 0.6, "hierarchical": 0.7}
ONLY_PLACED = {"random": 0.5, "untrained": 0.7, "hierarchical": 0.7}
NEITHER = {"random": 0.7, "untrained": 0.6, "hierarchical": 0.6}
SCALED = {"random": 0.5, "regrown": 0.6, "coarse_to_fine": 0.7}
ONLY_BOUGHT = {"random": 0.5, "regrown": 0.7, "coarse_to_fine": 0.7}


@pytest.mark.parametrize(
    ("hierarchical", "scales", "holds"),
    [
        (BETTER, SCALED, "yes"),
        (BETTER, None, "yes"),
        (ONLY_PLACED, SCALED, "in part"),
        (ONLY_PLACED, None, "in part"),
        (BETTER, ONLY_BOUGHT, "in part"),
        (NEITHER, SCALED, "in part"),
        (NEITHER, None, "no"),
    ],
)
def test_a_start_has_to_beat_random_and_its_control(
    hierarchical: dict[str, float], scales: dict[str, float] | None, holds: str
) -> None:
    finding = judged(hierarchical, scales)
    assert finding.holds == holds
    assert len(finding.sentences) == 1 + (scales is not None)
    assert finding.table[0][:2] == ("comparison", "arm")


def test_starts_are_compared_in_points_and_paired() -> None:
    finding = judged(BETTER)
    assert finding.sentences[0].startswith("hierarchical leads random by +20.")
    assert ", untrained by +10." in finding.sentences[0]
    assert "its control, untrained, leads random by +10." in finding.sentences[0]


def test_coarse_to_fine_needs_images_that_can_be_halved(digits: Dataset) -> None:
    study = STUDIES["initialisation"]
    assert {task.arm for task in study.tasks(digits, QUICK)} == {"hierarchical", "scales"}
    teacher = load_dataset("teacher")
    assert {task.arm for task in study.tasks(teacher, QUICK)} == {"hierarchical"}


@pytest.mark.parametrize("comparison", ["hierarchical", "scales"])
def test_starts_in_small(comparison: str, digits: Dataset, tmp_path: Path) -> None:
    rows = []
    for task in initialisation.tasks(digits, QUICK):
        if task.arm == comparison:
            short = Task(task.arm, task.rng_seed, task.options | {"epochs": 2, "scale_epochs": [1, 1]})
            found = initialisation.measure(short, digits, Place(str(tmp_path), "e", task.name))
            rows += [Row(task.arm, task.rng_seed, one.quantity, one.item, one.value) for one in found]
    sizes = {row.quantity: row.value for row in rows if row.quantity.startswith("parameters:")}
    assert all(value == 600 for value in sizes.values())
    start = initialisation.STARTS[comparison]
    assert set(sizes) == {
        f"parameters:{arm}" for arm in (start.method, start.control, "random", *start.others)
    }
    assert initialisation.judge(rows).holds in VERDICTS


# The page of results


def test_every_study_is_in_the_results() -> None:
    text = (Path(__file__).parents[2] / "docs" / "RESULTS.md").read_text()
    assert set(re.findall(r"`structnet study ([a-z]+)", text)) - {"list"} == set(STUDIES)
