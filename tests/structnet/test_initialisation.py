"""The comparisons of ways to start: what is equal in their arms, and that they can tell good from bad."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.training_cases import flat, small_data

from structnet import StructNet
from structnet.data.dataset import Dataset, Split
from structnet.errors import UserError
from structnet.experiments.initialisation import (
    Arm,
    compare_coarse_to_fine,
    compare_hierarchical,
    random_network,
    train_arm,
)
from structnet.growth.placement import Placement
from structnet.network.state import TrainState
from structnet.training.evaluation import evaluate
from structnet.training.loop import train_steps
from structnet.training.recipe import Recipe
from structnet.training.schedules import constant
from structnet.training.shrinking import shrink_steps

torch.set_num_threads(1)

RECIPE = Recipe(batch_size=10)


def small_state(data: Dataset, steps: int = 60) -> TrainState:
    state = TrainState.fresh(StructNet([16, 4, 3], 0.5))
    train_steps(state, data.train, RECIPE, steps, constant(1e-2))
    return state


def arms(comparison: Any) -> list[Arm]:
    return list(vars(comparison).values())


def same(one: Any, other: Any) -> bool:
    return all(
        torch.equal(flat(a.network), flat(b.network)) and a.accuracy == b.accuracy
        for a, b in zip(arms(one), arms(other))
    )


def test_an_arm_is_trained_and_measured() -> None:
    data, network = small_data(), random_network([16, 5, 3], 60)
    expected = evaluate(network, data.validation).loss
    arm = train_arm(network, data, RECIPE, 30, 1e-2)
    assert arm.network is network
    assert (arm.steps, arm.parameter_steps) == (30, 30 * 60)
    measured = evaluate(network, data.validation)
    assert (arm.accuracy, arm.loss) == (measured.accuracy, measured.loss)
    assert arm.loss < expected


def test_coarse_to_fine_at_equal_parameters_and_steps() -> None:
    """6 batches an epoch; 4×4 images at 1×1, 2×2 and 4×4 - and the test split is not read."""
    data = small_data()
    comparison = compare_coarse_to_fine(
        data, [16, 5, 3], 50, epochs=(2, 2, 3), learning_rate=1e-2, recipe=RECIPE
    )
    through, regrown, fixed = arms(comparison)
    assert [arm.steps for arm in (through, regrown, fixed)] == [42, 42, 42]
    assert through.network.parameter_count == fixed.network.parameter_count <= 50
    assert regrown.network.parameter_count <= 50
    assert [arm.network.architecture[0] for arm in (through, regrown, fixed)] == [16, 16, 16]
    assert fixed.parameter_steps == 42 * fixed.network.parameter_count
    for arm in (through, regrown, fixed):
        measured = evaluate(arm.network, data.validation)
        assert (arm.accuracy, arm.loss) == (measured.accuracy, measured.loss)


def test_coarse_to_fine_counts_what_it_holds_on_the_way() -> None:
    """Dense on 2×2 pixels: 4·3 + 3·3 + 6 = 27 parameters in the first epoch, and never below that after it."""
    comparison = compare_coarse_to_fine(
        small_data(), [16, 3, 3], 30, epochs=(1, 1), learning_rate=1e-3, recipe=RECIPE
    )
    through, regrown, fixed = arms(comparison)
    refined = 27 + 3 * 12
    assert 6 * 27 + 6 * 30 < through.parameter_steps < 6 * 27 + 6 * refined
    assert abs(regrown.parameter_steps - through.parameter_steps) <= 12 * 3
    assert fixed.parameter_steps == 12 * through.network.parameter_count
    assert 27 < through.network.parameter_count <= 30


def test_coarse_to_fine_carries_what_was_learned() -> None:
    """With a short last scale at rates of about 0, and room for all parameters, it computes what it learned."""
    data = small_data()
    bright = data.train.images + 2.0 * data.train.labels.view(-1, 1, 1, 1)
    data = replace(data, train=Split(bright, data.train.labels), validation=Split(bright, data.train.labels))
    comparison = compare_coarse_to_fine(
        data, [16, 8, 3], 163, epochs=(60, 1), learning_rate=3e-2, recipe=RECIPE
    )
    assert comparison.coarse_to_fine.accuracy == 1.0


def test_the_comparisons_repeat_and_follow_their_seed() -> None:
    data = small_data()
    options: dict[str, Any] = {"epochs": (1, 1), "recipe": RECIPE}
    one = compare_coarse_to_fine(data, [16, 5, 3], 40, **options, rng_seed=1)
    assert same(one, compare_coarse_to_fine(data, [16, 5, 3], 40, **options, rng_seed=1))
    assert not same(one, compare_coarse_to_fine(data, [16, 5, 3], 40, **options, rng_seed=2))
    state = small_state(data)
    before = state.copy()
    options = {"epochs": 1, "recipe": RECIPE}
    two = compare_hierarchical(state, data, [16, 9, 3], 100, **options, rng_seed=1)
    assert same(two, compare_hierarchical(state, data, [16, 9, 3], 100, **options, rng_seed=1))
    assert not same(two, compare_hierarchical(state, data, [16, 9, 3], 100, **options, rng_seed=2))
    assert torch.equal(flat(state.network), flat(before.network))


def test_hierarchical_at_equal_parameters_and_steps() -> None:
    data = small_data()
    state = small_state(data, steps=60)
    size = state.network.parameter_count
    comparison = compare_hierarchical(state, data, [16, 9, 3], 110, epochs=2, recipe=RECIPE)
    assert [arm.network.parameter_count for arm in arms(comparison)] == [110] * 5
    assert [arm.network.architecture for arm in arms(comparison)] == [[16, 9, 3]] * 5
    assert [arm.steps for arm in arms(comparison)] == [12, 12, 12, 12, 12 + round(60 * size / 110)]
    assert comparison.hierarchical.parameter_steps == 12 * 110


def test_hierarchical_arms_start_where_the_small_network_is() -> None:
    """At a rate of 0 the two nested arms are as good as the small network, and placement tells them apart."""
    data = small_data()
    state = small_state(data)
    comparison = compare_hierarchical(
        state, data, [16, 9, 3], 110, epochs=1, learning_rate=0.0, recipe=RECIPE, placement=Placement(1.0)
    )
    known = evaluate(state.network, data.validation)
    for arm in (comparison.hierarchical, comparison.nested):
        assert arm.loss == pytest.approx(known.loss, abs=1e-6)
    for arm in (comparison.untrained, comparison.random):
        assert arm.loss != pytest.approx(known.loss, abs=1e-3)
    assert not torch.equal(flat(comparison.hierarchical.network), flat(comparison.nested.network))


def test_what_cannot_be_compared() -> None:
    data = small_data()
    with pytest.raises(UserError, match="the architecture has 15 inputs, but small has 16"):
        compare_coarse_to_fine(data, [15, 5, 3], 40)
    with pytest.raises(UserError, match="the factor is 8, but must divide"):
        compare_coarse_to_fine(data, [16, 5, 3], 40, epochs=(1, 1, 1, 1))
    for epochs in ((), (1, 0)):
        with pytest.raises(UserError, match="must be one or more numbers of at least 1"):
            compare_coarse_to_fine(data, [16, 5, 3], 40, epochs=epochs)
    with pytest.raises(UserError, match="parameters is 20, but must be"):
        compare_hierarchical(small_state(data), data, [16, 9, 3], 20, recipe=RECIPE)


def test_a_shift_is_of_the_finest_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 4×4 images, 3 pixels are 1 of 2×2 ones and none of 1×1; the controls are always at the finest."""
    seen = []

    def spy(state: TrainState, split: Split, recipe: Recipe, steps: int, *rest: Any) -> Any:
        seen.append((split.images.shape[-1], recipe.shift))
        return shrink_steps(state, split, recipe, steps, *rest)

    monkeypatch.setattr("structnet.experiments.initialisation.shrink_steps", spy)
    recipe = replace(RECIPE, shift=3)
    compare_coarse_to_fine(small_data(), [16, 5, 3], 40, epochs=(1, 1, 1), recipe=recipe)
    assert set(seen) == {(1, 0), (2, 1), (4, 3)}
    assert [side for side, _ in seen] == sorted(side for side, _ in seen)
