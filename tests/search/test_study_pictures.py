"""The study of pictures: its verdict from rows whose truth is known, and that every method costs as much."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from search.commands.study.studies import pictures
from search.commands.study.study import Place, Row, Scale
from structnet.data.datasets import load_dataset
from structnet.network.architecture import parameters_dense
from structnet.seeds import stream

torch.set_num_threads(1)
AHEAD, LEVEL, BEHIND = [1.0, 1.1, 1.2], [-0.5, 0.1, 0.4], [-1.0, -1.1, -1.2]


def rows(leads: dict[str, list[float]]) -> list[Row]:
    """Leads of what is grown over each of the others in points, by case and rng_seed."""
    found = []
    for case, of_seeds in leads.items():
        for seed, lead in enumerate(of_seeds):
            for arm in ("RigL", "grown", "halving"):
                accuracy = 0.9 + (lead / 100 if arm == "grown" else 0.0)
                found += [Row(f"{case}: {arm}", seed, name, 0, accuracy) for name, *_ in pictures.COLUMNS]
    return found


@pytest.mark.parametrize(
    ("leads", "holds"),
    [
        ({"a": AHEAD, "b": LEVEL}, "yes"),
        ({"a": LEVEL, "b": LEVEL}, "in part"),
        ({"a": AHEAD, "b": BEHIND}, "no"),
    ],
)
def test_it_holds_where_nothing_is_lost_and_something_won(leads: dict[str, list[float]], holds: str) -> None:
    assert pictures.judge(rows(leads)).holds == holds
    assert pictures.by_case(rows(leads))["a"][0].arm == "grown"


def test_architectures_are_drawn_that_the_size_can_connect() -> None:
    digits = load_dataset("digits")
    shapes = pictures._drawn_shapes(digits, 300, stream(0, "halving"))
    drawn = [next(shapes) for _ in range(20)]
    assert len({str(shape) for shape in drawn}) > 15
    assert {len(shape) for shape in drawn} > {5, 6}
    assert all(parameters_dense(shape) >= 300 and (shape[0], shape[-1]) == (1, 10) for shape in drawn)
    assert {shape.sides[0] for shape in drawn} == {(8, 8)}
    assert {shape.sides[-2] for shape in drawn} == {(2, 2), (1, 1)}


@pytest.mark.slow
@pytest.mark.parametrize("currency", [pictures.PARAMETER_STEPS, pictures.MULTIPLY_ADDS])
def test_every_method_costs_about_as_much_and_ends_within_its_size(tmp_path: Path, currency: str) -> None:
    digits, costs = load_dataset("digits"), {}
    for task in pictures.tasks(digits, Scale((0,), quick=True)):
        if not task.arm.startswith(f"1000 by {currency}"):
            continue
        task = replace(task, options={**task.options, "epochs": 16})
        found = pictures.measure(task, digits, Place(str(tmp_path), "e", task.name))
        values = {one.quantity: one.value for one in found}
        assert 800 < values["parameters"] <= 1000
        assert 0 <= values["share_deciding"] <= 1
        in_steps = currency == pictures.PARAMETER_STEPS
        costs[task.options["method"]] = values["parameter_steps_all" if in_steps else "training_macs"]
    assert set(costs) == set(pictures.METHODS_HERE)
    for method, cost in costs.items():
        assert cost == pytest.approx(costs[pictures.DEFAULT], rel=0.3), method
