"""Sets of heads that compete: who is a candidate, what a heat measures, and who wins."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from helpers.head_cases import plant_zero_values, stripes

from structnet.data.dataset import Dataset
from structnet.heads import contest
from structnet.heads.contest import (
    CONTROL,
    EXCHANGE,
    Fork,
    Heat,
    Result,
    Trained,
    apply,
    columns_of,
    forks_of,
    results_of,
    run_fork,
    run_here,
    winner_of,
)
from structnet.heads.scores import Measured, measure
from structnet.heads.surgery import all_heads
from structnet.heads.training import HeadState, Tuning, judge, scoring_batches, train
from structnet.heads.transformer import Form, Transformer
from structnet.measure.statistics import paired_gain

FORM = Form((1, 8, 8), 3, layers=2, heads=4, width=16, patch=4)
TUNING = Tuning(20, 0)
HEAT = Heat(TUNING, 4, 1e-3, (0, 7))


@pytest.fixture(scope="module")
def data() -> Dataset:
    return stripes()


@pytest.fixture
def state(data: Dataset) -> HeadState:
    found = HeadState.fresh(Transformer(FORM))
    train(found, data.train, TUNING, 30, lambda step: 3e-3)
    return found


def measured(state: HeadState, data: Dataset) -> Measured:
    return measure(state.model, scoring_batches(data.train, TUNING, state.step))


def test_every_score_has_a_candidate_and_each_set_is_there_once(state: HeadState, data: Dataset) -> None:
    forks = forks_of(measured(state, data), 2, state.model, 1, [], (0, 7))
    assert forks[0] == Fork(CONTROL)
    sets = [fork.removed for fork in forks[1:]]
    assert len(set(sets)) == len(sets) >= 2 and all(len(one) == 2 for one in sets)
    assert forks == forks_of(measured(state, data), 2, state.model, 1, [], (0, 7))
    same = Measured(*[dict.fromkeys(all_heads(state.model), 0.0)] * 3)
    names = [fork.name for fork in forks_of(same, 2, state.model, 1, [], (0, 7))]
    assert names == [CONTROL, "gradient", "random"]


def test_a_head_that_went_may_come_back_for_another(state: HeadState, data: Dataset) -> None:
    first = Fork("gradient", ((0, 1), (1, 2)))
    apply(state, first, (0, 7))
    forks = forks_of(measured(state, data), 2, state.model, 1, list(first.removed), (0, 8))
    exchange = forks[-1]
    assert exchange.name == EXCHANGE and len(exchange.removed) == 3
    assert exchange.regrown[0] in first.removed
    before = state.parameters
    apply(state, exchange, (0, 8))
    assert state.begun == {exchange.regrown[0]: state.step}
    each = state.model.layers[0].parameters_of_head
    assert before - state.parameters == 2 * each
    assert exchange.site.count("+") == 1 and len(exchange.site.split()) == 4


def test_a_fork_is_a_copy_that_trains_by_itself(state: HeadState, data: Dataset) -> None:
    before = copy.deepcopy(state.model.state_dict())
    fork = Fork("entropy", ((0, 1),))
    found = run_fork(state, fork, HEAT, data.train, data.validation)
    assert found.state is not None and found.state.step == state.step + 4
    assert all(torch.equal(before[name], tensor) for name, tensor in state.model.state_dict().items())
    alone = copy.deepcopy(state)
    apply(alone, fork, HEAT.keys)
    train(alone, data.train, TUNING, 4, lambda step: 1e-3)
    assert np.array_equal(judge(alone.model, data.validation).log2_likelihood, found.log2_likelihood)
    assert found.freed == state.model.layers[0].parameters_of_head
    assert found.state.touched == {0}


def test_a_useless_head_wins_against_a_useful_one(data: Dataset) -> None:
    """By measurement alone, whatever proposed it."""
    model = Transformer(FORM)
    found = HeadState.fresh(model)
    train(found, data.train, TUNING, 60, lambda step: 3e-3)
    plant_zero_values(model, 1, 2)
    losses = {}
    for head in all_heads(model):
        other = copy.deepcopy(found)
        apply(other, Fork("x", (head,)), (0, 0))
        losses[head] = judge(other.model, data.validation).loss
    worst = max(losses, key=lambda head: losses[head])
    forks = [Fork(CONTROL), Fork("bad", (worst,)), Fork("good", ((1, 2),))]
    short = Heat(TUNING, 1, 1e-5, (0, 0))
    won = winner_of(results_of(run_here(found, forks, short, data)))
    assert won is not None and won.trained.fork.name == "good"


def trained(name: str, likelihood: list[float], freed: int, **more: Any) -> Trained:
    some = HeadState.fresh(Transformer(FORM))
    return Trained(Fork(name), more.get("state", some), np.array(likelihood), 1.0, 0.5, freed, 0.1)


def test_the_score_is_loss_per_thousand_parameters_freed() -> None:
    """In bits an image against the control: -0.2 for 100 is worse than -0.3 for 200."""
    every = [
        trained(CONTROL, [-1.0, -2.0], 0),
        trained("a", [-1.1, -2.3], 100),
        trained("b", [-1.3, -2.3], 200),
    ]
    results = results_of(every)
    assert [one.gain for one in results] == pytest.approx([0, -0.2, -0.3])
    assert [one.score for one in results] == pytest.approx([0, -2.0, -1.5])
    assert results[1].error == pytest.approx(paired_gain(np.array([-1.1, -2.3]), np.array([-1.0, -2.0]))[1])
    won = winner_of(results)
    assert won is results[2]
    rows = columns_of(results, won, 4)
    assert [row["won"] for row in rows] == [False, False, True]
    assert [row["parameters_added"] for row in rows] == [0, -100, -200]
    assert rows[0]["control"] and not rows[0]["eligible"] and rows[0]["score"] is None


def test_a_fork_that_fails_is_told_and_the_others_go_on(
    state: HeadState, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = contest.train

    def train_some(mine: HeadState, *rest: Any) -> Any:
        if mine.model.layers[0].heads == 3:
            raise RuntimeError("no luck")
        return real(mine, *rest)

    monkeypatch.setattr(contest, "train", train_some)
    forks = [Fork(CONTROL), Fork("a", ((0, 1),)), Fork("b", ((1, 1),))]
    results = results_of(run_here(state, forks, HEAT, data))
    won = winner_of(results)
    assert won is not None and won.trained.fork.name == "b"
    row = columns_of(results, won, 4)[1]
    assert (row["status"], row["error"], row["gain"]) == ("failed", "RuntimeError: no luck", None)


def test_nobody_wins_where_all_failed() -> None:
    results: list[Result] = results_of([trained(CONTROL, [-1.0, -2.0], 0), trained("a", [], 10, state=None)])
    assert winner_of(results) is None
