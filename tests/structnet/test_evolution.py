"""Sparse evolution as published: exact budgets, what goes by sign, what survives to the bit, and the blind control."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
import torch
from helpers.training_cases import image_split
from hypothesis import given
from hypothesis import strategies as st

from structnet import StructNet
from structnet.errors import UserError
from structnet.growth.evolution import (
    Evolution,
    evolve,
    evolving_links,
    links_after_step,
    seed_of_evolution,
)
from structnet.network.random_topology import erdos_renyi
from structnet.network.state import TrainState
from structnet.seeds import stream
from structnet.training.loop import train_steps
from structnet.training.recipe import Recipe
from structnet.training.schedules import constant

torch.set_num_threads(1)

LINK = (0, 1)


def cells_of(network: StructNet, pair: tuple[int, int]) -> dict[int, float]:
    """Cell -> value."""
    values = network.values.detach()[network.topology.links[pair]].numpy()
    return dict(zip(network.topology.cells(pair).tolist(), values.tolist()))


def trained(evolution: Evolution, rng_seed: int = 0) -> TrainState:
    seed = seed_of_evolution((16, 20, 12, 3), 1.5, evolution, rng_seed)
    state = TrainState.fresh(seed)
    train_steps(state, image_split(60), Recipe(12, momentum=0.9), 5, constant(0.05))
    return state


def test_budgets_are_exact() -> None:
    """Those of the study of SET with regularisation."""
    topology = erdos_renyi((784, 512, 128, 10), 11, np.random.default_rng(0), dense_output=True)
    counts = [len(topology.cells(pair)) for pair in topology.links]
    assert counts == [14256, 7040, 1280]
    assert topology.parameters == 23226
    assert all(len(np.unique(topology.cells(pair))) == len(topology.cells(pair)) for pair in topology.links)


@pytest.mark.parametrize(("epsilon", "link"), [(0.0, "0 connections"), (-1.0, "connections"), (4.0, "64")])
def test_a_budget_that_cannot_be_is_refused(epsilon: float, link: str) -> None:
    with pytest.raises(UserError, match=link):
        erdos_renyi((10, 6, 3), epsilon, np.random.default_rng(0))


@pytest.mark.parametrize("new_values", ["fan_in", "tenth", "zero"])
@given(st.integers(0, 10**6), st.sampled_from([0.1, 0.3, 0.7]), st.booleans())
def test_one_evolution(new_values: str, rng_seed: int, zeta: float, may_return: bool) -> None:
    evolution = Evolution(zeta, new_values, may_return)
    state = trained(evolution)
    found = evolve(state, evolution, np.random.default_rng(rng_seed))
    assert set(found.moved) == {(0, 1), (1, 2)}  # the last link is full
    for pair in state.network.topology.links:
        before, after = cells_of(state.network, pair), cells_of(found.state.network, pair)
        assert len(after) == len(before)
        if pair not in found.moved:
            assert after == before
            continue
        positive = sorted(value for value in before.values() if value >= 0)
        negative = sorted((value for value in before.values() if value < 0), reverse=True)
        going = math.floor(zeta * len(positive) + 1e-9), math.floor(zeta * len(negative) + 1e-9)
        assert found.moved[pair] == sum(going)
        gone = {*positive[: going[0]], *negative[: going[1]]}
        kept = {cell: value for cell, value in before.items() if value not in gone}
        assert set(found.core.cells(pair).tolist()) == set(kept)
        assert {cell: after[cell] for cell in kept} == kept
        come = set(after) - set(kept)
        assert len(come) == sum(going)
        if not may_return:
            assert not come & set(before)
        if new_values == "zero":
            assert {after[cell] for cell in come} == {0.0}


def test_velocity_survives_to_the_bit_and_is_0_for_what_comes() -> None:
    evolution = Evolution()
    state = trained(evolution)
    evolved = evolve(state, evolution, np.random.default_rng(0)).state
    for pair in state.network.topology.links:
        before, after = (
            dict(zip(one.network.topology.cells(pair).tolist(), one.optimizer.first[span].tolist()))
            for one, span in (
                (state, state.network.topology.links[pair]),
                (evolved, evolved.network.topology.links[pair]),
            )
        )
        stayed = set(before) & set(after)
        assert {cell: after[cell] for cell in stayed} == {cell: before[cell] for cell in stayed}
        assert {after[cell] for cell in set(after) - stayed} <= {0.0}
    biases = slice(state.network.connection_count, None)
    assert torch.equal(state.optimizer.first[biases], evolved.optimizer.first[biases])
    assert torch.equal(state.network.values.detach()[biases], evolved.network.values.detach()[biases])


def test_new_values_have_the_spread_that_is_said() -> None:
    shape, epsilon = (784, 512, 10), 20
    for kind, spread in (("fan_in", math.sqrt(2 / 784)), ("tenth", 0.1)):
        evolution = Evolution(0.3, kind)
        state = TrainState.fresh(seed_of_evolution(shape, epsilon, evolution, 0))
        first = state.network.values.detach()[state.network.topology.links[LINK]]
        assert first.std() == pytest.approx(spread, rel=0.03)
        state.network.values.detach()[state.network.topology.links[LINK]] *= (
            1e-3  # so that new ones stand out
        )
        evolved = evolve(state, evolution, np.random.default_rng(0)).state.network
        values = evolved.values.detach()[evolved.topology.links[LINK]]
        new = values[values.abs() > 5e-3 * spread]
        assert new.std() == pytest.approx(spread, rel=0.05)


def test_the_control_moves_as_much_whatever_the_values() -> None:
    """Large values go as often as small ones."""
    state, shares = trained(Evolution()), []
    span = state.network.topology.links[LINK]
    size = np.abs(state.network.values.detach()[span].numpy())
    large = set(state.network.topology.cells(LINK)[size > np.median(size)].tolist())
    for rng_seed in range(200):
        blind = evolve(state, Evolution(blind=True), np.random.default_rng(rng_seed))
        seeing = evolve(state, Evolution(), np.random.default_rng(rng_seed))
        assert blind.moved == seeing.moved
        gone = set(state.network.topology.cells(LINK).tolist()) - set(blind.core.cells(LINK).tolist())
        shares.append(len(gone & large) / len(gone))
    assert np.mean(shares) == pytest.approx(0.5, abs=0.03)


def test_links_evolve_after_epochs_or_by_chance() -> None:
    topology = seed_of_evolution((16, 10, 6, 3), 2.5, Evolution(), 0).topology
    assert evolving_links(topology) == [(0, 1), (1, 2)]
    by_epoch = [step for step in range(1, 31) if links_after_step(topology, Evolution(), 0, step, 10)]
    assert by_epoch == [10, 20, 30]
    steps = range(1, 4001)
    drawn = [links_after_step(topology, Evolution(chance=0.1), 7, step, 10) for step in steps]
    for pair in ((0, 1), (1, 2)):
        assert np.mean([pair in links for links in drawn]) == pytest.approx(0.1, abs=0.015)
    assert drawn[:50] == [
        links_after_step(topology, Evolution(chance=0.1), 7, step, 10) for step in steps[:50]
    ]


def test_a_network_that_evolved_survives_a_state_dict() -> None:
    evolution = Evolution()
    network = evolve(trained(evolution), evolution, stream(0, "evolution", 1)).state.network
    again = StructNet.from_state_dict(network.state_dict())
    images = image_split(20).images
    assert torch.equal(network(images), again(images))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"zeta": 0.0}, "zeta is 0, but must be in (0, 1)"),
        ({"zeta": 1.0}, "zeta is 1, but must be in (0, 1)"),
        ({"chance": 0.0}, "chance is 0, but must be in (0, 1]"),
        ({"new_values": "large"}, "new_values is 'large', but must be one of fan_in, tenth, zero"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=re.escape(says)):
        Evolution(**options)
