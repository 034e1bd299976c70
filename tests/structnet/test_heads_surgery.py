"""Heads gated, zeroed, removed and grown again: what is computed, what is trained, what an optimizer keeps."""

from __future__ import annotations

import copy

import pytest
import torch
from helpers.head_cases import FORMS, IMAGES, batch_for, transformer
from hypothesis import given
from hypothesis import strategies as st

from structnet.heads.layers import HeadModel, Part
from structnet.heads.scores import loss_of
from structnet.heads.surgery import (
    Head,
    all_heads,
    hold_frozen,
    parameters_of,
    ramp,
    regrow,
    remove,
    set_gates,
    zero,
)
from structnet.heads.training import HeadState
from structnet.heads.transformer import Form, Transformer
from structnet.modules.evaluation import parameters_in
from structnet.modules.optimizer import ids_of

GONE: list[Head] = [(0, 1), (0, 3), (1, 0)]


def a_step(state: HeadState, form: Form, rng_seed: int) -> None:
    loss = loss_of(state.model, batch_for(form, rng_seed=rng_seed))
    state.optimizer.zero_grad()
    loss.backward()
    hold_frozen(state.model)
    state.optimizer.step()


def trained(form: Form, steps: int = 3) -> HeadState:
    state = HeadState.fresh(transformer(form))
    for step in range(steps):
        a_step(state, form, step)
    return state


def test_rows_of_heads_in_a_joint_matrix() -> None:
    """Two heads of size 3, query and key behind each other: 0-2, 3-5 | 6-8, 9-11."""
    part = Part(torch.nn.Linear(1, 12), "weight", 0, size=3, fused=2)
    assert part.rows([1], heads=2).tolist() == [3, 4, 5, 9, 10, 11]
    assert part.rows([1, 0], heads=2).tolist() == [3, 4, 5, 0, 1, 2, 9, 10, 11, 6, 7, 8]


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_gates_zeroed_rows_and_removal_are_the_same(form: Form) -> None:
    inputs = batch_for(form)[0]
    whole, gated, zeroed, removed = (transformer(form) for _ in range(4))
    set_gates(gated, GONE, 0.0)
    zero(zeroed, GONE)
    remove(removed, GONE)
    expected = gated.logits(inputs)
    assert (whole.logits(inputs) - expected).abs().max() > 1e-2
    torch.testing.assert_close(zeroed.logits(inputs), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(removed.logits(inputs), expected, atol=1e-6, rtol=0)
    assert [layer.kept for layer in removed.layers] == [[0, 2], [1, 2, 3]]
    each = 3 * 4 * 16 + 3 * 4 + 16 * 4
    assert parameters_in(whole) - parameters_in(removed) == 3 * each
    assert whole.layers[0].parameters_of_head == each


@given(st.sets(st.sampled_from(all_heads(transformer(IMAGES))), min_size=1, max_size=6))
def test_any_heads_may_go_but_the_last_of_a_layer(heads: set[Head]) -> None:
    gated, removed = transformer(IMAGES), transformer(IMAGES)
    inputs = batch_for(IMAGES)[0]
    if any({(layer, number) for number in range(4)} <= heads for layer in (0, 1)):
        with pytest.raises(ValueError, match="would have no heads"):
            remove(removed, heads)
        return
    set_gates(gated, heads, 0.0)
    remove(removed, heads)
    torch.testing.assert_close(removed.logits(inputs), gated.logits(inputs), atol=1e-5, rtol=0)
    assert set(all_heads(removed)) == set(all_heads(gated)) - heads


def test_frozen_heads_stay_exactly_zero_while_the_others_train() -> None:
    state = trained(IMAGES)
    zero(state.model, GONE, state.optimizer)
    before = copy.deepcopy(state.model.state_dict())
    for step in range(5):
        a_step(state, IMAGES, 10 + step)
    for layer, number in GONE:
        attention = state.model.blocks[layer].attention
        assert torch.count_nonzero(attention.output.weight[:, 4 * number : 4 * number + 4]) == 0
    assert not torch.equal(before["blocks.0.attention.output.weight"], attention_of(state, 0).output.weight)


def attention_of(state: HeadState, layer: int) -> torch.nn.Module:
    found: torch.nn.Module = state.model.blocks[layer].attention
    return found


def test_an_optimizer_carries_what_is_left_and_trains_what_is_new() -> None:
    state = trained(IMAGES)
    whole = attention_of(state, 0).joint.weight
    moments = state.optimizer.state[whole]["exp_avg"].clone()
    remove(state.model, [(0, 1)], state.optimizer)
    cut = attention_of(state, 0).joint.weight
    kept = [row for row in range(48) if row % 16 // 4 != 1]
    assert torch.equal(cut, whole[kept])
    assert torch.equal(state.optimizer.state[cut]["exp_avg"], moments[kept])
    assert ids_of(state.optimizer) == {id(one) for one in state.model.module.parameters()}
    assert whole not in state.optimizer.state
    a_step(state, IMAGES, 20)
    assert not torch.equal(cut, whole[kept])


def test_a_head_that_comes_back_changes_nothing_and_learns_at_once() -> None:
    state = trained(IMAGES)
    remove(state.model, GONE, state.optimizer)
    inputs = batch_for(IMAGES)[0]
    expected = state.model.logits(inputs)
    regrow(state.model, [(0, 3)], torch.Generator().manual_seed(1), state.optimizer)
    assert [layer.kept for layer in state.model.layers] == [[0, 2, 3], [1, 2, 3]]
    torch.testing.assert_close(state.model.logits(inputs), expected, atol=1e-6, rtol=0)
    assert ids_of(state.optimizer) == {id(one) for one in state.model.module.parameters()}
    joint, output = attention_of(state, 0).joint.weight, attention_of(state, 0).output.weight
    assert torch.count_nonzero(joint[8:12]) == joint[8:12].numel()
    assert float(joint[8:12].detach().std()) == pytest.approx(float(joint[:8].detach().std()), rel=0.5)
    assert torch.count_nonzero(output[:, 8:]) == 0
    a_step(state, IMAGES, 30)
    assert torch.count_nonzero(output[:, 8:]) == output[:, 8:].numel()
    before = joint[8:12].clone()
    a_step(state, IMAGES, 31)
    assert not torch.equal(before, joint[8:12])


def test_gates_rise_along_a_line() -> None:
    model = transformer(IMAGES)
    for step, value in ((5, 0.25), (6, 0.5), (8, 1.0), (20, 1.0)):
        ramp(model, {(1, 2): 5}, step, 4)
        assert model.layers[1].gate.tolist() == [1, 1, value, 1]


def test_what_is_there_cannot_come_back() -> None:
    with pytest.raises(ValueError, match=r"heads \[2\] of layer 1 are there"):
        regrow(transformer(IMAGES), [(1, 2)], torch.Generator())


def test_the_attention_of_layers_has_groups_of_its_own() -> None:
    state = HeadState.fresh(transformer(IMAGES))
    groups = [{id(one) for one in group["params"]} for group in state.optimizer.param_groups]
    mine: HeadModel = state.model
    assert groups[1:] == [{id(one) for one in parameters_of(mine, [layer])} for layer in (0, 1)]
    assert set.union(*groups) == {id(one) for one in mine.module.parameters()}
    assert sum(map(len, groups)) == len(set.union(*groups))


def test_a_copy_is_whole() -> None:
    """Forks are copies: their layers, optimizer and module have to be about the same parameters."""
    state = trained(IMAGES)
    other = copy.deepcopy(state)
    remove(other.model, GONE, other.optimizer)
    a_step(other, IMAGES, 40)
    assert isinstance(other.model, Transformer)
    assert ids_of(other.optimizer) == {id(one) for one in other.model.parameters()}
    assert [layer.kept for layer in state.model.layers] == [[0, 1, 2, 3]] * 2
    assert all(
        part.owner in set(other.model.modules()) for layer in other.model.layers for part in layer.parts
    )
