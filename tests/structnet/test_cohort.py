"""Cohort: whoever trains beside a network, it comes out as if it had been alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.cohort_cases import (
    CASES,
    FACTOR,
    MEMBERS,
    STEPS,
    alone,
    assert_close,
    assert_same,
    every_case,
    every_kernel_of_same_bits,
    expected,
    judged_split,
    member,
    pool,
    tolerance,
    train_split,
    trained,
)
from helpers.training_cases import skip_network
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from structnet import StructNet
from structnet.measure.diagnosis import diagnose
from structnet.network.state import TrainState
from structnet.storage.snapshot import load_snapshot, save_snapshot
from structnet.training.cohort import Cohort
from structnet.training.lockstep import Lockstep
from structnet.training.loop import train_steps
from structnet.training.recipe import Recipe
from structnet.training.tile import Tile

# --- the same bits


@every_kernel_of_same_bits
@every_case
@settings(max_examples=8)  # of every case
@given(st.permutations(range(MEMBERS)), st.lists(st.integers(1, MEMBERS - 1), max_size=3, unique=True))
def test_any_company_leaves_the_same_bits(
    case: str, kernel: str, order: Sequence[int], cuts: list[int]
) -> None:
    """Values, moments, ages, losses and the evaluation, however the pool is cut into cohorts."""
    states, rates = pool(case, kernel)
    for start, stop in pairwise([0, *sorted(cuts), MEMBERS]):
        chosen = list(order[start:stop])
        together, losses = trained([states[index] for index in chosen], rates[chosen], case)
        judged = together.evaluate(judged_split(CASES[case][2]))
        assert losses.shape == (len(chosen), STEPS)
        for place, index in enumerate(chosen):
            own, own_losses, own_judged = expected(case, kernel)[index]
            assert_same(together.take(place), own)
            assert torch.equal(losses[place], own_losses)
            assert judged.loss[place] == own_judged.loss
            assert judged.accuracy[place] == own_judged.accuracy
            assert np.array_equal(judged.log2_likelihood[place], own_judged.log2_likelihood)


@every_case
def test_depths_are_mixed_where_bits_are_compared(case: str) -> None:
    """A cohort of compiled members joins what a tile refuses."""
    depths = {state.network.topology.groups for state in pool(case)[0]}
    assert depths == {2, 3, 4, 5}
    assert [type(part) for part in Cohort(*pool(case)).parts] == [Lockstep]
    assert [type(part) for part in Cohort(*pool(case, "sparse_rows")).parts] == [Tile]


@every_kernel_of_same_bits
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_wide_networks_beside_narrow_ones(kernel: str, dtype: torch.dtype) -> None:
    """Past the sizes at which loops are unrolled; equal rates, which take another way in torch than different ones."""
    states = [
        member([16, width, 30, 3], share, width, dtype=dtype, kernel=kernel)
        for width, share in ((300, 0.3), (5, 0.9), (1000, 0.05), (64, 0.02))
    ]
    recipe = Recipe(60, l1=1e-4)
    for rates in ([1e-2] * 4, [1e-2, 1e-2, 1e-3, 1e-2]):
        together = Cohort(states, rates)
        losses = together.train(train_split(dtype), recipe, STEPS, FACTOR)
        for place, (state, rate) in enumerate(zip(states, rates)):
            own, own_losses = alone(state, rate, recipe, STEPS)
            assert_same(together.take(place), own)
            assert torch.equal(losses[place], own_losses)


def test_skip_networks_beside_each_other() -> None:
    states = [TrainState.fresh(skip_network(rng_seed)) for rng_seed in range(3)]
    together = Cohort(states, [1e-2] * 3)
    together.train(train_split(torch.float64), Recipe(8), STEPS, FACTOR)
    for place, state in enumerate(states):
        assert_same(together.take(place), alone(state, 1e-2, Recipe(8), STEPS)[0])


@every_kernel_of_same_bits
@every_case
def test_saturated_and_dead_units_as_diagnosed(case: str, kernel: str) -> None:
    states, rates = pool(case, kernel)
    split = judged_split(CASES[case][2])
    saturated, dead = Cohort(states, rates).unhealthy_units(split.images)
    for place, state in enumerate(states):
        found = diagnose(state.network, split.images, split.labels)
        assert (saturated[place], dead[place]) == (len(found.saturated), len(found.dead))
    if case == "l1":
        assert saturated.any() and dead.any()


def test_allocations_and_seeds_of_fresh_networks() -> None:
    """As `hunt` makes them: other seeds, densities and allocations, none with a kernel of its own."""
    networks = [
        StructNet([16, width, 3], density, rng_seed=width, allocation=allocation)
        for width, density, allocation in (
            (40, 0.1, "uniform"),
            (33, 0.2, "proportional"),
            (9, 0.05, "uniform"),
        )
    ]
    states = [TrainState.fresh(network) for network in networks]
    together, losses = trained(states, [1e-2] * 3, "plain")
    assert together.parameters.tolist() == [network.parameter_count for network in networks]
    for place, state in enumerate(states):
        own, own_losses = alone(state, 1e-2, CASES["plain"][3], STEPS)
        assert torch.equal(losses[place], own_losses)
        assert_same(together.take(place), own)


# --- members come and go


@every_kernel_of_same_bits
@every_case
@settings(max_examples=4)  # of every case
@given(st.lists(st.integers(0, MEMBERS - 1), min_size=1, unique=True), st.integers(0, STEPS))
def test_dropping_members_does_not_disturb_the_others(
    case: str, kernel: str, kept: list[int], when: int
) -> None:
    dtype, recipe = CASES[case][2:]
    together, before = trained(*pool(case, kernel), case, when)
    rest = together.keep(kept)
    after = rest.train(train_split(dtype), recipe, STEPS - when, FACTOR)
    assert len(rest) == len(kept) and rest.step == 3 + STEPS
    for place, index in enumerate(kept):
        own, own_losses, _ = expected(case, kernel)[index]
        assert_same(rest.take(place), own)
        assert torch.equal(torch.cat([before[index], after[place]]), own_losses)


def test_a_member_taken_out_is_independent(tmp_path: Path) -> None:
    states, rates = pool("l1")
    recipe, split = CASES["l1"][3], train_split(torch.float32)
    together, _ = trained(states, rates, "l1")
    for place in (0, 5):
        taken = together.take(place)
        train_steps(taken, split, recipe, STEPS, lambda step, rate=rates[place]: rate * FACTOR(step))
        assert_same(taken, alone(states[place], rates[place], recipe, 2 * STEPS)[0])
        assert_same(together.take(place), expected("l1")[place][0])
        save_snapshot(str(tmp_path / "taken"), taken, preprocessing={})
        assert_close(load_snapshot(str(tmp_path / "taken")).state, taken, 0)
    assert_same(states[5], pool.__wrapped__("l1")[0][5])


def test_the_cohort_copies_what_it_is_given() -> None:
    states, rates = pool("plain")
    own, own_rates = [state.copy() for state in states], rates.copy()
    together = Cohort(own, own_rates)
    for state in own:
        state.network.values.detach().zero_()
        state.optimizer.first.zero_()
        state.born[:] = 99
    own_rates[:] = 0
    together.train(train_split(torch.float32), CASES["plain"][3], STEPS, FACTOR)
    assert_same(together.take(3), expected("plain")[3][0])


@pytest.mark.parametrize("through_files", [False, True])
@every_kernel_of_same_bits
@every_case
def test_arrays_go_on_to_the_bit(case: str, kernel: str, through_files: bool, tmp_path: Path) -> None:
    """The kernel of the members is part of the arrays."""
    together, _ = trained(*pool(case, kernel), case, 4)
    arrays = together.to_arrays()
    if through_files:
        plain = {name: value for name, value in arrays.items() if not isinstance(value, np.ndarray)}
        save_file(
            {name: arrays[name] for name in arrays if name not in plain}, tmp_path / "cohort.safetensors"
        )
        (tmp_path / "state.json").write_text(json.dumps(plain))
        arrays = {
            **load_file(tmp_path / "cohort.safetensors"),
            **json.loads((tmp_path / "state.json").read_text()),
        }
    again = Cohort.from_arrays(arrays)
    again.train(train_split(CASES[case][2]), CASES[case][3], STEPS - 4, FACTOR)
    together.train(train_split(CASES[case][2]), CASES[case][3], 1, FACTOR)
    assert np.array_equal(again.rates, together.rates)
    for place, (own, *_) in enumerate(expected(case, kernel)):
        assert_same(again.take(place), own)


@pytest.mark.parametrize("kernel", ["auto", "masked_dense"])
def test_a_member_keeps_its_kernel_through_arrays(kernel: str) -> None:
    together = Cohort(*pool("plain", kernel))
    assert Cohort.from_arrays(together.to_arrays()).take(1).network.kernel == kernel


@pytest.mark.parametrize("index", [-1, 2])
def test_no_such_member(index: int) -> None:
    states, rates = pool("plain")
    with pytest.raises(IndexError, match="of a cohort of 2"):
        Cohort(states[:2], rates[:2]).take(index)


# --- divergence


def poisoned(state: TrainState, poison: str) -> None:
    values = state.network.values.detach()
    if poison == "a connection from the input is NaN":
        values[0] = torch.nan
    elif poison == "an output is infinite":
        values[-1] = torch.inf
    elif poison == "all hidden units are infinite":
        values[state.network.connection_count : -3] = torch.inf
        values[-1] = torch.nan
    elif poison == "everything is NaN":
        values.fill_(torch.nan)
        state.optimizer.second.fill_(torch.inf)


@pytest.mark.parametrize("case", ["plain", "l1", "double", "everything", "no hidden group"])
@pytest.mark.parametrize("kernel", ["auto", "sparse_rows", "masked_dense"])
@pytest.mark.parametrize(
    "poison",
    [
        "a connection from the input is NaN",
        "an output is infinite",
        "all hidden units are infinite",
        "everything is NaN",
        "an absurd learning rate",
    ],
)
def test_divergence_stays_with_its_member(poison: str, kernel: str, case: str) -> None:
    """The others have the same bits as without it, and as batched matrices the same numbers."""
    states, rates = pool(case, kernel)
    sick, split = 6, judged_split(CASES[case][2])
    own, own_rates = [state.copy() for state in states], rates.copy()
    poisoned(own[sick], poison)
    if poison == "an absurd learning rate":
        own_rates[sick] = torch.finfo(CASES[case][2]).max / 2
    together, losses = trained(own, own_rates, case)
    assert len(together.parts) == 1
    is_sick = [index == sick for index in range(MEMBERS)]
    assert together.diverged().tolist() == is_sick
    assert torch.isfinite(losses).all(dim=1).tolist() == [not one for one in is_sick]
    judged, units = together.evaluate(split), together.unhealthy_units(split.images)
    assert np.isnan(judged.accuracy).tolist() == is_sick
    for place in set(range(MEMBERS)) - {sick}:
        state, own_losses, own_judged = expected(case, kernel)[place]
        if kernel != "masked_dense":
            assert_same(together.take(place), state)
            assert torch.equal(losses[place], own_losses)
            assert judged.loss[place] == own_judged.loss
            found = diagnose(state.network, split.images, split.labels)
            assert (units[0][place], units[1][place]) == (len(found.saturated), len(found.dead))
        else:
            assert_close(together.take(place), state, tolerance(case))


def test_a_huge_loss_is_no_divergence() -> None:
    """The sum of such losses over the images overflows quietly."""
    state = member([16, 3], 0.0, 0, dtype=torch.float64)
    state.network.values.detach()[:] = torch.tensor([1e308, 0.0, 0.0], dtype=torch.float64)
    together = Cohort([state], [0.1])
    judged = together.evaluate(judged_split(torch.float64))
    assert not together.diverged().any()
    assert np.isinf(judged.loss).all() and np.isnan(judged.accuracy).all()
