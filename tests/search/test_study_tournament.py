"""The study of tournaments: its verdict from rows whose truth is known, and that every method costs as much."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

from search.commands.study.studies import tournament
from search.commands.study.study import Place, Row, Scale
from structnet.data.datasets import load_dataset
from structnet.experiments.smallest import REDUCTION, goes_on, milestones
from structnet.storage.tables import read_table

torch.set_num_threads(1)


def rows(leads: dict[str, list[float]], arms: tuple[str, ...] = ("growths", "RigL")) -> list[Row]:
    """Leads of shapes over each of the others in points, by case and rng_seed."""
    found = []
    for case, of_seeds in leads.items():
        for seed, lead in enumerate(of_seeds):
            for arm in ("shapes", *arms):
                accuracy = 0.9 + (lead / 100 if arm == "shapes" else 0.0)
                for quantity in ("test_accuracy", "accuracy", "parameter_steps_all", "share_deciding"):
                    found.append(Row(f"{case}: {arm}", seed, quantity, 0, accuracy))
    return found


AHEAD, LEVEL, BEHIND = [1.0, 1.1, 1.2], [-0.5, 0.1, 0.4], [-1.0, -1.1, -1.2]


@pytest.mark.parametrize(
    ("leads", "holds"),
    [
        ({"100 usual": AHEAD, "200 usual": LEVEL}, "yes"),
        ({"100 usual": LEVEL, "200 usual": LEVEL}, "in part"),
        ({"100 usual": AHEAD, "200 usual": BEHIND}, "no"),
    ],
)
def test_it_holds_where_nothing_is_lost_and_something_won(leads: dict[str, list[float]], holds: str) -> None:
    assert tournament.judge(rows(leads)).holds == holds


def test_what_needs_no_seed_counts_in_every_case_of_its_size() -> None:
    found = [*rows({"100 usual": LEVEL, "200 usual": LEVEL}), *rows({"100 none": AHEAD}, ("growths",))]
    cases = {case: {row.arm for row in own} for case, own in tournament.by_case(found).items()}
    assert cases == {
        "100 usual": {"shapes", "growths", "RigL"},
        "200 usual": {"shapes", "growths", "RigL"},
        "100 none": {"shapes", "growths", "RigL"},
    }


@given(st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=1, max_size=12))
def test_halving_stops_what_the_scheduler_of_ray_tune_stops(curves: list[list[float]]) -> None:
    """Trial after trial, as in one process: 27 epochs, judged after 1, 3 and 9."""
    rungs = milestones(27)
    assert rungs == [1, 3, 9, 27]
    scheduler = AsyncHyperBandScheduler(
        "epochs", "accuracy", "max", max_t=27, grace_period=1, reduction_factor=REDUCTION
    )
    recorded: dict[int, list[float]] = {epochs: [] for epochs in rungs[:-1]}
    controller: Any = None
    for number, curve in enumerate(curves):
        trial: Any = SimpleNamespace(trial_id=str(number))
        scheduler.on_trial_add(controller, trial)
        for epochs, accuracy in zip(rungs[:-1], curve):
            result = {"epochs": epochs, "accuracy": accuracy}
            stops = scheduler.on_trial_result(controller, trial, result) == TrialScheduler.STOP
            assert goes_on(accuracy, recorded[epochs]) == (not stops)
            recorded[epochs].append(accuracy)
            if stops:
                break


def test_every_method_costs_about_as_much_and_ends_within_its_size(tmp_path: Path) -> None:
    digits = load_dataset("digits")
    costs = {}
    for task in tournament.tasks(digits, Scale((0,), quick=True)):
        if not task.arm.startswith("150 usual"):
            continue
        # Long enough for a contest and for a third of it.
        task = replace(task, options={**task.options, "epochs": 32})
        found = tournament.measure(task, digits, Place(str(tmp_path), "e", task.name))
        values = {one.quantity: one.value for one in found}
        assert values["parameters"] <= 150
        assert 0 <= values["share_deciding"] <= 1
        costs[task.options["method"]] = values["parameter_steps_all"]
    # Of the digits no expert's network is known.
    assert set(costs) == {*tournament.GROWN, *tournament.ALONE} - {tournament.EXPERT}
    for method, cost in costs.items():
        assert cost == pytest.approx(costs["shapes"], rel=0.3), method


def test_an_experts_network_is_one_more_method_where_it_is_known(tmp_path: Path) -> None:
    teacher = load_dataset("teacher")
    tasks = {task.arm: task for task in tournament.tasks(teacher, Scale((0,), quick=True))}
    task = tasks["150 usual: expert"]
    assert "150 none: expert" not in tasks  # it begins with a shape of its own
    task = replace(task, options={**task.options, "epochs": 1})
    place = Place(str(tmp_path), "e", task.name)
    values = {one.quantity: one.value for one in tournament.measure(task, teacher, place)}
    assert values["parameters"] <= 150 and values["share_deciding"] == 0
    rounds = read_table(str(tmp_path), "rounds")
    assert rounds["architecture"][0].as_py() == [32, 12, 4]
