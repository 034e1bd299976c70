"""Steps of a model with attention heads: rates by layer, clipped gradients, gates that rise, and what is random."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from helpers.head_cases import IMAGES, plant_uniform, stripes, transformer

from structnet.data.dataset import Dataset
from structnet.heads.surgery import regrow, remove
from structnet.heads.training import CLIP, HeadState, Tuning, judge, scoring_batches, train

TUNING = Tuning(20, 0, touched_rate=3.0, ramp=4)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return stripes()


def one_step(state: HeadState, data: Dataset, **changed: Any) -> dict[str, torch.Tensor]:
    """How far each parameter moved."""
    before = copy.deepcopy(state.model.module.state_dict())
    train(state, data.train, TUNING, 1, lambda step: 1e-3)
    return {name: value - before[name] for name, value in state.model.module.state_dict().items()}


def test_attention_that_lost_heads_moves_as_many_times_as_far(data: Dataset) -> None:
    """A first step of Adam is the rate for each parameter, whatever its gradient."""
    state = HeadState.fresh(transformer(IMAGES))
    state.touched = {1}
    moved = one_step(state, data)
    for layer, rate in ((0, 1e-3), (1, 3e-3)):
        typical = float(moved[f"blocks.{layer}.attention.joint.weight"].abs().median())
        assert typical == pytest.approx(rate, rel=0.05)
    assert float(moved["blocks.1.perceptron.0.weight"].abs().median()) == pytest.approx(1e-3, rel=0.05)


def test_gradients_are_clipped(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    state = HeadState.fresh(transformer(IMAGES))
    with torch.no_grad():
        state.model.module.output.weight *= 100  # type: ignore[union-attr]
    norms = []

    def step(*_: Any) -> None:
        gradients = [one.grad.flatten() for one in state.model.module.parameters() if one.grad is not None]
        norms.append(float(torch.cat(gradients).norm()))

    monkeypatch.setattr(state.optimizer, "step", step)
    train(state, data.train, TUNING, 2, lambda step: 1e-3)
    assert norms == pytest.approx([CLIP] * 2, rel=1e-4)


def test_the_gate_of_a_head_that_comes_back_rises_with_the_steps(data: Dataset) -> None:
    state = HeadState.fresh(transformer(IMAGES))
    train(state, data.train, TUNING, 5, lambda step: 1e-3)
    remove(state.model, [(1, 2)], state.optimizer)
    regrow(state.model, [(1, 2)], torch.Generator().manual_seed(0), state.optimizer)
    state.begun = {(1, 2): state.step}
    seen = []
    for _ in range(5):
        train(state, data.train, TUNING, 1, lambda step: 1e-3)
        seen.append(float(state.model.layers[1].gate[2]))
    assert seen == [0.25, 0.5, 0.75, 1.0, 1.0] and state.begun == {}
    assert state.model.layers[0].gate.tolist() == [1, 1, 1, 1]


def test_what_a_model_drops_is_a_function_of_the_step(data: Dataset) -> None:
    """And nobody else's random numbers are touched."""

    def dropping() -> HeadState:
        model = transformer(IMAGES)
        model.blocks[0].perceptron.append(torch.nn.Dropout(0.5))  # type: ignore[operator, union-attr]
        return HeadState.fresh(model)

    whole, cut = dropping(), dropping()
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    losses = train(whole, data.train, TUNING, 4, lambda step: 1e-3)
    assert torch.equal(torch.rand(3), expected)
    parts = []
    for steps in (1, 3):
        torch.rand(11)
        parts.append(train(cut, data.train, TUNING, steps, lambda step: 1e-3))
    assert np.array_equal(np.concatenate(parts), losses)
    other = HeadState.fresh(transformer(IMAGES))
    assert not np.array_equal(train(other, data.train, TUNING, 4, lambda step: 1e-3), losses)


def test_scoring_batches_are_training_data_drawn_for_the_step(data: Dataset) -> None:
    first, second = scoring_batches(data.train, TUNING, 3)
    assert len(first[1]) == len(second[1]) == 20
    rows = {tuple(image.flatten().tolist()) for image in data.train.images}
    drawn = [tuple(image.flatten().tolist()) for image in torch.cat([first[0], second[0]])]
    assert set(drawn) <= rows and len(set(drawn)) == 40
    again, other = (scoring_batches(data.train, TUNING, step)[0][1] for step in (3, 4))
    assert torch.equal(again, first[1]) and not torch.equal(other, first[1])


def test_judging_does_not_depend_on_blocks_or_train_anything(data: Dataset) -> None:
    model = transformer(IMAGES).train()
    plant_uniform(model, 0, 0)
    one, other = (judge(model, data.test, block=block) for block in (7, 80))
    np.testing.assert_allclose(one.log2_likelihood, other.log2_likelihood, rtol=1e-5)
    assert model.training and one.accuracy == other.accuracy
