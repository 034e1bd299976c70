"""SET, RigL, pruning, static and dense networks: every method keeps its size, and repeats."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers.training_cases import check_survivors, image_split, known

from structnet.errors import UserError
from structnet.experiments.baselines import Method, Moving, evolve_steps
from structnet.experiments.methods import METHODS
from structnet.network.architecture import parameters_dense
from structnet.network.pyramid import dense_architecture
from structnet.network.state import TrainState
from structnet.training.recipe import Recipe
from structnet.training.schedules import cosine

torch.set_num_threads(1)

SHAPE = (16, 12, 8, 3)
BIASES = sum(SHAPE[1:])
STEPS = 60
RECIPE = Recipe(batch_size=16, l1=1e-4, input_dropout=0.1, rng_seed=3)
SPLIT = image_split(120)


def method(name: str, parameters: int = 90, **options: Any) -> Method:
    return METHODS[name](SHAPE, parameters, STEPS, 4, **options)


def run(way: Method, cuts: tuple[int, ...] = ()) -> tuple[TrainState, torch.Tensor, int]:
    """The whole training, in parts that end at these steps, each gone on with from plain arrays."""
    state, losses, spent = TrainState.fresh(way.start()), [], 0
    for end in (*cuts, STEPS):
        state, part, cost = evolve_steps(state, way, SPLIT, RECIPE, end - state.step, cosine(2e-2, 0, STEPS))
        losses.append(part)
        spent += cost.parameter_steps
        state = TrainState.from_arrays(state.to_arrays())
    return state, torch.cat(losses), spent


def same(one: TrainState, other: TrainState) -> bool:
    left, right = one.to_arrays(), other.to_arrays()
    return all(np.array_equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("parameters", [BIASES + 12, 90, 200])
def test_every_method_ends_within_its_size(name: str, parameters: int) -> None:
    """The moving and the static ones exactly; pruning at most a unit below; dense the nearest there is."""
    way = method(name, parameters)
    state, losses, spent = run(way)
    network = state.network
    exists = network.connection_count + sum(network.architecture[1:])
    assert network.parameter_count == len(network.values) == exists
    assert len(state.optimizer.first) == len(state.optimizer.second) == len(state.born) == exists
    assert (state.step, len(losses)) == (STEPS, STEPS)
    prunes = name in ("pruning", "granet")
    assert spent >= STEPS * exists if prunes else spent == STEPS * exists
    assert STEPS * way.mean_parameters == pytest.approx(spent, rel=0.1 if prunes else 1e-9)
    if name in ("dense", "full"):
        sizes = SHAPE if name == "full" else dense_architecture(SHAPE, parameters)
        assert tuple(network.architecture) == sizes and exists == parameters_dense(sizes)
        return
    assert exists <= parameters
    assert exists == parameters or name == "pruning"
    assert exists >= parameters - max(SHAPE) - 1
    if name == "set_published":  # whose units stay, whatever they are connected to
        assert tuple(network.architecture) == SHAPE
        return
    hidden = slice(network.architecture[0], -network.architecture[-1])
    topology = network.topology
    assert np.all(topology.fan_in()[hidden])
    assert np.all(topology.fan_out()[hidden])


@pytest.mark.parametrize("name", METHODS)
def test_where_a_training_is_cut_changes_nothing(name: str) -> None:
    """Cut beside and at changes, it ends with the same bits and the same cost."""
    whole, losses, spent = run(method(name))
    for cuts in ((1,), (29,), (9, 12, 30), (44, 45, 46)):
        parts, cut_losses, cut_spent = run(method(name), cuts)
        assert same(whole, parts)
        assert torch.equal(losses, cut_losses)
        assert spent == cut_spent


@pytest.mark.parametrize("name", METHODS)
def test_every_method_learns_and_depends_on_its_rng_seed(name: str) -> None:
    state, losses, _ = run(method(name, 200))
    assert losses[-10:].mean() < 0.8 * losses[:3].mean()
    other, _, _ = run(METHODS[name](SHAPE, 200, STEPS, 5))
    assert not same(state, other)


@pytest.mark.parametrize("name", METHODS)
def test_a_step_of_another_method_leaves_moments_by_index(name: str) -> None:
    """A change in the middle of a training: what survives keeps value and moments."""
    way = method(name)
    state = TrainState.fresh(way.start())
    state, _, _ = evolve_steps(state, way, SPLIT, RECIPE, 30, cosine(2e-2, 0, STEPS))
    assert state.step % way.every == 0
    after = way.change(state, SPLIT)
    if after.network.architecture == state.network.architecture:
        gone, came = check_survivors(state, after)
        assert bool(gone) == (name not in ("static", "dense", "full"))
        assert bool(came) == (name not in ("static", "dense", "full", "pruning"))
    else:
        kept = set(state.optimizer.first.tolist())
        assert {first for _, first, _ in known(after).values()} <= kept | {0.0}


def test_set_as_published_moves_the_same_share_to_the_end() -> None:
    """A tenth of each sign (0 is with the positive ones) at every change but the first; each link keeps its size."""
    way = method("set_published", 200, share=0.1, interval=10)
    state = TrainState.fresh(way.start())
    sizes = [span.stop - span.start for span in state.network.topology.links.values()]
    assert way.change(state, SPLIT) is state
    for _ in range(5):
        state, _, _ = evolve_steps(state, way, SPLIT, RECIPE, 10, cosine(2e-2, 0, STEPS))
        before = state.network
        state = way.change(state, SPLIT)
        links, after = before.topology.links, state.network.topology.links
        assert [span.stop - span.start for span in after.values()] == sizes
        values = before.values.detach().numpy()
        leave = [
            int(0.1 * np.count_nonzero(values[span] >= 0)) + int(0.1 * np.count_nonzero(values[span] < 0))
            for pair, span in links.items()
            if before.topology.absent_of(pair)  # a full link has no place to move to
        ]
        assert 0 < np.count_nonzero(state.born == state.step) == sum(leave)


@pytest.mark.parametrize("name", METHODS)
def test_shapes_of_activations_count(name: str) -> None:
    """Of SReLU four numbers a hidden unit are a part of what a network may have."""
    way = method(name, 200, activation="srelu")
    state, _, _ = run(way)
    network = state.network
    hidden = sum(network.architecture[1:-1])
    exists = network.connection_count + sum(network.architecture[1:]) + 4 * hidden
    assert network.activation == "srelu" and len(network.values) == network.parameter_count == exists
    if name == "full":
        assert exists == parameters_dense(SHAPE) + 4 * 20
    else:
        assert exists <= 200 + (8 if name == "dense" else 0)
    assert STEPS * way.mean_parameters >= 60 * 100


def sizes_of(way: Method) -> list[tuple[int, set[Any]]]:
    """Parameters and cells of the network in every step."""
    state, found = TrainState.fresh(way.start()), []
    while state.step < STEPS:
        state, _, spent = evolve_steps(state, way, SPLIT, RECIPE, 1, cosine(2e-2, 0, STEPS))
        found.append((spent.parameter_steps, set(known(state))))
    return found


def test_moving_ends_after_three_quarters_and_keeps_the_size() -> None:
    for name in ("rigl", "set"):
        assert issubclass(METHODS[name], Moving)
        found = sizes_of(method(name, 200, share=0.6))
        assert {size for size, _ in found} == {200}
        moved = [step for step in range(1, STEPS) if found[step][1] != found[step - 1][1]]
        assert set(moved) <= set(range(3, 45, 3))
        assert max(moved) > 30


def test_each_method_may_move_on_the_schedule_of_its_paper() -> None:
    """SET and CHT the same share to the end, RigL as all do."""
    for name, is_constant in (("set", True), ("cht", True), ("rigl", False)):
        found = sizes_of(method(name, 200, share=0.3, moves="published"))
        assert {size for size, _ in found} == {200}
        moved = [step for step in range(1, STEPS) if found[step][1] != found[step - 1][1]]
        assert max(moved) == 57 if is_constant else 30 < max(moved) < 45, name


def test_pruning_starts_dense_and_ends_at_seventy_per_cent() -> None:
    sizes = [size for size, _ in sizes_of(method("pruning"))]
    assert sizes[0] == parameters_dense(SHAPE)
    assert sizes == sorted(sizes, reverse=True)
    # The cubic schedule half way: 1/8 of what is too much is left after 35 % of the training.
    assert sizes[21] == pytest.approx(90 + (sizes[0] - 90) / 8, abs=max(SHAPE) + 1)
    assert len(set(sizes[42:])) == 1


def test_granet_starts_with_half_and_ends_half_way_and_moves_on() -> None:
    found = sizes_of(method("granet"))
    sizes = [size for size, _ in found]
    assert sizes[0] == (16 * 12 + 12 * 8 + 8 * 3) // 2 + BIASES
    assert sizes == sorted(sizes, reverse=True)
    # A quarter of the way 1/8 of what is too much is left.
    assert sizes[15] == pytest.approx(90 + (sizes[0] - 90) / 8, abs=max(SHAPE) + 1)
    assert set(sizes[30:]) == {90}
    moved = [step for step in range(30, STEPS) if found[step][1] != found[step - 1][1]]
    assert moved and max(moved) < 45
    # By the paper half of each link moves at first, unless it is said otherwise.
    assert (method("granet").first_share, method("rigl").first_share) == (0.5, 0.3)
    assert method("granet", share=0.1).first_share == 0.1


def test_a_network_of_more_than_half_is_moved_alone() -> None:
    assert {size for size, _ in sizes_of(method("granet", 300))} == {300}


def test_a_step_costs_what_it_multiplies() -> None:
    """By hand: 3 links of a dense network, a batch of 16, and no error for the input."""
    way = METHODS["pruning"](SHAPE, 335, STEPS, 4)
    _, _, cost = evolve_steps(TrainState.fresh(way.start()), way, SPLIT, RECIPE, 7, cosine(2e-2, 0, STEPS))
    assert cost.multiply_adds == 7 * 16 * (2 * 16 * 12 + 3 * 12 * 8 + 3 * 8 * 3)
    assert cost.parameter_steps == 7 * 335


def test_static_stays_as_it_is() -> None:
    found = sizes_of(method("static"))
    assert all(step == found[0] for step in found)


def test_the_interval_is_the_method_s_or_the_one_given() -> None:
    for name, own in (("set", 100), ("rigl", 100), ("granet", 100), ("pruning", 50)):
        assert METHODS[name](SHAPE, 90, 100_000).every == own
        assert METHODS[name](SHAPE, 90, 100).every == 5
        assert METHODS[name](SHAPE, 90, 100_000, interval=7).every == 7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parameters": BIASES}, f"parameters is {BIASES}, but must be {BIASES + 1} to 335"),
        ({"parameters": 336}, "parameters is 336"),
        ({"share": 1.0}, "zeta is 1, but must be in"),
        ({"interval": 0}, "interval is 0"),
        ({"architecture": (16,)}, "architecture is '16'"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    fields = {"architecture": SHAPE, "parameters": 90, "steps": STEPS, **options}
    with pytest.raises(UserError, match=message):
        METHODS["set"](**fields)
