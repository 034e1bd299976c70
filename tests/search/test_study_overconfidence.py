"""The study of overconfidence: its verdict from rows whose truth is known, and what it measures."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.chart_cases import rows_drawn, scales_of, series_of

from search.commands.study.studies import overconfidence
from search.commands.study.study import Place, Row, Scale
from structnet.data.datasets import load_dataset

torch.set_num_threads(1)


def rows(losses: list[float], accuracies: list[float], tempered: list[float]) -> list[Row]:
    """Of three rng_seeds, a little apart; what is not given is the same at all epochs."""
    found = []
    curves = {"loss": losses, "accuracy": accuracies, "tempered": tempered}
    curves |= {name: [0.5] * len(losses) for name in ("on_wrong", "on_dearest")}
    for arm in overconfidence.ARMS:
        for seed in range(3):
            for quantity, curve in curves.items():
                found += [
                    Row(arm, seed, quantity, 2**place, value * (1 + seed / 1000))
                    for place, value in enumerate(curve)
                ]
            found.append(Row(arm, seed, "seconds", 0, 1.0))
    return found


RISING, FALLING, HELD = [0.2, 0.1, 0.15], [0.3, 0.2, 0.1], [0.2, 0.1, 0.1]
BETTER, WORSE = [0.9, 0.95, 0.97], [0.9, 0.97, 0.95]


@pytest.mark.parametrize(
    ("losses", "accuracies", "tempered", "holds"),
    [
        (RISING, BETTER, HELD, "yes"),
        (RISING, BETTER, FALLING, "yes"),
        (RISING, BETTER, RISING, "no"),
        (RISING, WORSE, HELD, "in part"),
        (FALLING, BETTER, FALLING, "no"),
    ],
)
def test_it_holds_where_a_temperature_takes_the_rise_away(
    losses: list[float], accuracies: list[float], tempered: list[float], holds: str
) -> None:
    finding = overconfidence.judge(rows(losses, accuracies, tempered))
    assert finding.holds == holds
    assert len(finding.table) == 1 + 2 * 3


def test_the_loss_and_what_is_left_of_it_at_a_temperature_are_drawn_for_both_arms() -> None:
    chart = overconfidence.draw(rows(RISING, BETTER, HELD))
    tempered = [f"{arm}, at a fitted temperature" for arm in overconfidence.ARMS]
    assert {*series_of(chart)} == {*overconfidence.ARMS, *tempered}
    assert scales_of(chart) == {"x": "log", "y": "log"}
    drawn = {(row["arm"], row["epoch"]): row["loss"] for row in rows_drawn(chart)}
    assert drawn["no decay", 4] == pytest.approx(0.15 * 1.001)
    assert drawn[tempered[0], 4] == pytest.approx(0.1 * 1.001)


def test_what_is_measured(tmp_path: Path) -> None:
    digits = load_dataset("digits")
    task = overconfidence.tasks(digits, Scale((0,), quick=True))[0]
    task = replace(task, options={**task.options, "epochs": 5})
    found = overconfidence.measure(task, digits, Place(str(tmp_path), "e", task.name))
    values = {(one.quantity, one.item): one.value for one in found}
    assert {item for _, item in values} == {1, 2, 4}
    for epoch in (1, 2, 4):
        assert 0 < values["on_dearest", epoch] < values["on_wrong", epoch] < 1
        assert values["tempered", epoch] < values["loss", epoch] * 1.2
    assert values["accuracy", 4] > values["accuracy", 1]


def test_shares_of_the_loss_by_hand() -> None:
    """A network without connections says the same of all: its biases alone."""
    from structnet import StructNet
    from structnet.data.dataset import Split
    from structnet.network.edit import disconnect

    network = StructNet([4, 2], 1.0)
    network = disconnect(network, np.arange(network.connection_count)).network
    network.values.detach()[:] = torch.tensor([math.log(3.0), 0.0])  # 3/4 and 1/4
    labels = torch.tensor([0] * 150 + [1] * 50)
    seen = overconfidence._looked_at(network, Split(torch.zeros(200, 1, 2, 2), labels))
    right, wrong = -math.log(0.75), -math.log(0.25)
    total = 150 * right + 50 * wrong
    assert seen["accuracy"] == 0.75
    assert seen["loss"] == pytest.approx(total / 200)
    assert seen["on_wrong"] == pytest.approx(50 * wrong / total)
    assert seen["on_dearest"] == pytest.approx(2 * wrong / total)
