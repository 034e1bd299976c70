"""The study of targets: rules of its rivals, and its verdict from rows whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.chart_cases import rows_drawn, scales_of, series_of
from hypothesis import given
from hypothesis import strategies as st
from ray.tune.schedulers.async_hyperband import _Bracket

from search.commands.study.studies import targets
from search.commands.study.study import Row
from structnet.data.datasets import load_dataset
from structnet.experiments.smallest import (
    CLOSE,
    REDUCTION,
    Job,
    bisect,
    by_halving,
    by_pruning,
    by_rigl,
    goes_on,
    milestones,
)
from structnet.training.evaluation import evaluate
from structnet.training.recipe import Recipe


@given(st.integers(25, 7000))
def test_bisection_finds_a_threshold(threshold: int) -> None:
    asked: list[int] = []

    def holds(size: int) -> bool:
        asked.append(size)
        return size >= threshold

    bisect(holds, 20, 8000)
    found = min(size for size in asked if size >= threshold)
    assert found <= max(threshold + 1, CLOSE * threshold + 1)
    assert len(asked) == len(set(asked)) <= 9


def test_bisection_asks_for_nothing_smaller_where_the_largest_does_not_hold() -> None:
    asked: list[int] = []
    bisect(lambda size: bool(asked.append(size)), 20, 8000)
    assert asked == [8000]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_trials_are_stopped_as_tune_stops_them(scores: list[float]) -> None:
    bracket, recorded = _Bracket(1, 3, REDUCTION, 0), list[float]()
    for number, score in enumerate(scores):
        theirs = bracket.on_result(type("Trial", (), {"trial_id": str(number)})(), 1, score)
        assert goes_on(score, recorded) == (theirs == "CONTINUE")
        recorded.append(score)


def test_milestones_are_powers_and_the_end() -> None:
    assert milestones(20) == [1, 3, 9, 20]
    assert milestones(9) == [1, 3, 9]


@pytest.mark.parametrize("way", ["pruning", "rigl", "halving"])
def test_what_a_rival_finds_holds_and_is_the_smallest_that_did(way: str) -> None:
    job = Job(load_dataset("digits"), (64, 16, 10), 0.1, 0.7, 12, 0.012, Recipe(32, 5e-5), 400, (60, 400))
    search = {
        "pruning": lambda: by_pruning(job),
        "rigl": lambda: by_rigl(job, lambda size: 0.024),
        "halving": lambda: by_halving(job, 12, (8, 32), (0.1, 1.0)),
    }[way]()
    assert search.network is not None
    held = [parameters for parameters, accuracy in search.accuracies if accuracy >= 0.7]
    assert search.network.parameter_count == min(held)
    assert search.spent > job.steps(12) * min(held)
    assert evaluate(search.network, job.data.validation).accuracy >= 0.7


def rows(sizes: dict[str, float], costs: dict[str, float]) -> list[Row]:
    return [
        Row(f"{way} 0.9", seed, quantity, 0, value)
        for way in targets.ARMS
        for seed in (0, 1)
        for quantity, value in (
            ("held", float(way in sizes)),
            ("parameter_steps_all", costs.get(way, 1e8)),
            *([("parameters", sizes[way] * (1 + seed / 10))] if way in sizes else []),
        )
    ]


@pytest.mark.parametrize(
    ("ours", "cost", "holds"), [(110, 3e7, "yes"), (120, 3e7, "no"), (90, 4e7, "no"), (90, 1e7, "yes")]
)
def test_it_holds_where_size_and_cost_do(ours: float, cost: float, holds: str) -> None:
    finding = targets.judge(rows({"grow": ours, "bisection": 150, "halving": 100}, {"grow": cost}))
    assert finding.holds == holds
    assert len(finding.table) == 1 + len(targets.ARMS)
    assert [line[2] for line in finding.table[1:]] == ["2 of 2", "2 of 2", "0 of 2", "0 of 2", "2 of 2"]
    assert (
        f"{ours * np.sqrt(1.1):,.0f} parameters, the smallest of the others, halving" in finding.sentences[0]
    )


def test_what_does_not_always_hold_is_no_answer() -> None:
    found = rows({"grow": 90, "bisection": 150}, {"grow": 1e7})
    once = [row._replace(value=0.0) if row.quantity == "held" and row.rng_seed else row for row in found]
    assert targets.judge(found).holds == "yes"
    assert targets.judge(once).holds == "no"


def test_ways_that_hold_are_drawn_by_cost_and_size() -> None:
    chart = targets.draw(rows({"bisection": 150, "grow": 100}, {"grow": 1e7}))
    assert series_of(chart) == ["grow", "bisection"]
    assert scales_of(chart) == {"x": "log", "y": "log"}
    drawn = {row["way"]: (row["target"], row["cost"], row["parameters"]) for row in rows_drawn(chart)}
    assert drawn["grow"] == ("0.9", pytest.approx(1e7), pytest.approx(100 * np.sqrt(1.1), rel=1e-5))
