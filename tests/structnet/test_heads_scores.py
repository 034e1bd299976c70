"""Scores of heads: planted ones are found, and measurements are what they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from helpers.head_cases import (
    FORMS,
    IMAGES,
    TEXT,
    batch_for,
    plant_uniform,
    plant_zero_values,
    transformer,
)

from structnet.errors import UserError
from structnet.heads.scores import (
    SCORES,
    Measured,
    chosen,
    entropies,
    heads_to_remove,
    loss_of,
    measure,
    scaled,
)
from structnet.heads.surgery import Head, all_heads, remove
from structnet.heads.transformer import Form

PLANTED: Head = (1, 2)


def ranked(measured: Measured, name: str) -> list[Head]:
    scores = SCORES[name](measured, np.random.default_rng(0))
    return sorted(scores, key=lambda head: -scores[head])


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_head_that_finds_nothing_goes_first(form: Form) -> None:
    """Without values its rows of the output projection have no gradient, and its gate has none either."""
    model = transformer(form)
    plant_zero_values(model, *PLANTED)
    measured = measure(model, [batch_for(form, rng_seed=seed) for seed in (0, 1)])
    assert measured.gradient[PLANTED] == measured.saliency[PLANTED] == 0
    assert sorted(measured.gradient.values())[1] > 0
    assert ranked(measured, "gradient")[0] == ranked(measured, "saliency")[0] == PLANTED


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_head_that_looks_at_all_alike_goes_first(form: Form) -> None:
    model = transformer(form)
    plant_uniform(model, *PLANTED)
    measured = measure(model, [batch_for(form)])
    assert measured.entropy[PLANTED] == pytest.approx(1.0, abs=1e-4)
    assert max(value for head, value in measured.entropy.items() if head != PLANTED) < 1 - 1e-4
    assert ranked(measured, "entropy")[0] == PLANTED


def test_entropy_by_hand() -> None:
    """A causal head of two characters that weighs them 3 to 1 in the last row; the first row has no choice."""

    class Fixed:
        layers = transformer(TEXT).layers[:1]
        is_causal = True

        def attentions(self, inputs: torch.Tensor) -> list[torch.Tensor]:
            rows = torch.tensor([[1.0, 0.0], [0.75, 0.25]])
            return [rows.expand(1, 4, 2, 2)]

    expected = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) / math.log(2)
    found = entropies(Fixed(), torch.zeros(1, 2))  # type: ignore[arg-type]
    assert found == pytest.approx(dict.fromkeys([(0, head) for head in range(4)], expected), abs=1e-6)


def test_saliency_is_the_mean_over_examples() -> None:
    """Of |gate × gradient|, each example by itself."""
    model, (inputs, labels) = transformer(IMAGES), batch_for(IMAGES, 4)
    expected = torch.zeros(4)
    for one in range(4):
        gate = torch.ones(4, requires_grad=True)
        model.layers[0].gate = gate
        loss = loss_of(model, (inputs[one : one + 1], labels[one : one + 1]))
        expected += torch.autograd.grad(loss, gate)[0].abs() / 4
        model.layers[0].gate = torch.ones(4)
    found = measure(model, [(inputs, labels)]).saliency
    assert [found[0, head] for head in range(4)] == pytest.approx(expected.tolist(), rel=1e-4)


def test_gradients_by_head_add_up_to_that_of_the_projection() -> None:
    model, batch = transformer(IMAGES), batch_for(IMAGES)
    found = measure(model, [batch]).gradient
    loss_of(model, batch).backward()
    gradient = model.blocks[0].attention.output.weight.grad
    assert gradient is not None
    assert sum(found[0, head] ** 2 for head in range(4)) == pytest.approx(
        float(gradient.norm()) ** 2, rel=1e-4
    )


def test_measuring_leaves_the_model_as_it_is() -> None:
    model = transformer(IMAGES).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    gates = [layer.gate for layer in model.layers]
    measure(model, [batch_for(IMAGES)])
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(layer.gate is gate for layer, gate in zip(model.layers, gates))
    assert model.training and all(one.grad is None for one in model.parameters())


def test_heads_keep_their_numbers() -> None:
    model = transformer(IMAGES)
    remove(model, [(0, 0), (1, 2)])
    measured = measure(model, [batch_for(IMAGES)])
    assert list(measured.gradient) == list(measured.entropy) == list(measured.saliency) == all_heads(model)
    assert (0, 0) not in measured.gradient and (1, 3) in measured.gradient


def test_combined_by_hand() -> None:
    heads = [(0, 0), (0, 1), (0, 2)]
    gradient, entropy = (dict(zip(heads, values)) for values in ([1.0, 3.0, 2.0], [0.5, 0.5, 1.0]))
    found = SCORES["combined"](Measured(gradient, entropy, gradient), np.random.default_rng(0))
    assert list(found.values()) == pytest.approx([0.4, 0.0, 0.6 + 0.4 * 0.5])
    assert list(scaled(dict.fromkeys(heads, 2.0)).values()) == [0, 0, 0]


def test_random_asks_nobody() -> None:
    model = transformer(IMAGES)
    measured = measure(model, [batch_for(IMAGES)])
    draws = [tuple(SCORES["random"](measured, np.random.default_rng(seed)).values()) for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    assert sorted(draws[0]) == list(range(8))


@pytest.mark.parametrize(("heads", "level", "gone"), [(4, 0.2, 1), (4, 0.5, 4), (8, 0.3, 4)])
def test_the_share_of_heads_is_rounded_down(heads: int, level: float, gone: int) -> None:
    model = transformer(Form((1, 8, 8), 3, layers=2, heads=heads, width=16, patch=4))
    assert heads_to_remove(model, level) == gone


def test_the_numbers_of_the_source() -> None:
    """distilgpt2 has 72 heads and gpt2 144; a fifth is 14 and 28."""
    for layers, gone in ((6, 14), (12, 28)):
        model = transformer(Form((4,), 3, layers=layers, heads=12, width=12))
        assert heads_to_remove(model, 0.2) == gone


def test_every_layer_keeps_some() -> None:
    model = transformer(IMAGES)
    scores = {head: float(10 - head[0] * 4 - head[1]) for head in all_heads(model)}
    assert chosen(scores, 4, model, floor=2) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    with pytest.raises(UserError, match="5 heads are to go, but only 4 can, as each of 2 layers keeps 2"):
        chosen(scores, 5, model, floor=2)


@pytest.mark.parametrize(
    ("level", "said"), [(0.0, "share of heads"), (1.0, "share of"), (0.1, "that is none")]
)
def test_levels_that_cannot_be(level: float, said: str) -> None:
    with pytest.raises(UserError, match=said):
        heads_to_remove(transformer(IMAGES), level)
