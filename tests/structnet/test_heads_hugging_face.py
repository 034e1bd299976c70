"""Heads of transformers' models: gated, removed and grown alike, attended to, trained and generated with."""

from __future__ import annotations

import copy

import pytest
import torch
from helpers.hugging_face_cases import GONE, MULTI_HEAD, TOKENS, adapted, difference, model_of, removed

from structnet.errors import UserError
from structnet.heads import hugging_face, surgery
from structnet.heads.hugging_face import HuggingFaceHeads, adapt

transformers = pytest.importorskip("transformers")
transformers.logging.set_verbosity_error()
torch.set_num_threads(1)

# gemma2 bounds its scores, which sdpa cannot.
EACH = [(kind, how) for kind in sorted(hugging_face.KINDS) for how in ("sdpa", "eager")]
EACH.remove(("gemma2", "sdpa"))


@pytest.mark.parametrize(("kind", "implementation"), EACH)
def test_gate_zeroed_rows_and_removal_are_one(kind: str, implementation: str) -> None:
    """In every type that is known; in half of them query heads share key and value."""
    model = adapted(kind, **({} if kind == "gpt2" or len(kind) % 2 else MULTI_HEAD))
    model.module.set_attn_implementation(implementation)
    before = model.logits(TOKENS)
    gated, zeroed = copy.deepcopy(model), copy.deepcopy(model)
    surgery.set_gates(gated, GONE, 0.0)
    surgery.zero(zeroed, GONE)
    smaller = removed(model, GONE)
    assert [one.heads for one in smaller.layers] == [3, 2]
    assert difference(gated.logits(TOKENS), before) > 0.05
    assert difference(gated.logits(TOKENS), zeroed.logits(TOKENS)) == 0
    # Sums over fewer terms are rounded otherwise: logits are of about 1 here, so a few units in their last place.
    assert difference(gated.logits(TOKENS), smaller.logits(TOKENS)) <= 1e-6
    assert difference(model.logits(TOKENS), before) == 0


def test_adapting_changes_nothing_and_a_second_time_adds_nothing() -> None:
    plain = model_of("llama")
    before = plain(TOKENS).logits
    model = adapt(plain)
    surgery.set_gates(model, [(0, 0)], 0.5)
    halved = model.logits(TOKENS)
    again = adapt(plain)
    assert difference(again.logits(TOKENS), halved) == 0
    surgery.set_gates(again, [(0, 0)], 1.0)
    assert difference(model.logits(TOKENS), before) == 0
    assert not [name for name in plain.state_dict() if "gate" in name and "gate_proj" not in name]


def test_what_belongs_to_a_head() -> None:
    """All of a layer's projections but the bias of the output, which belongs to all heads."""
    gpt2, llama = adapted("gpt2"), adapted("llama")
    assert [one.group for one in (gpt2.layers[0], llama.layers[0])] == [1, 2]
    assert gpt2.layers[0].parameters_of_head == 4 * 32 * 8 + 3 * 8
    assert llama.layers[0].parameters_of_head == (2 + 1 + 1 + 2) * 4 * 32
    total = gpt2.module.num_parameters()
    assert total - removed(gpt2, GONE).module.num_parameters() == 3 * gpt2.layers[0].parameters_of_head


@pytest.mark.parametrize("kind", ["gpt2", "llama", "mistral", "qwen2"])
@pytest.mark.parametrize("cache", [None, "static"])
def test_a_smaller_model_generates_what_the_gated_one_does(kind: str, cache: str | None) -> None:
    model = adapted(kind)
    smaller = removed(model, GONE)
    surgery.set_gates(model, GONE, 0.0)
    settings = {"max_new_tokens": 8, "do_sample": False, "cache_implementation": cache}
    written = smaller.module.generate(TOKENS, **settings)
    assert torch.equal(written, model.module.generate(TOKENS, **settings))
    assert written.shape[1] > TOKENS.shape[1]


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_attentions_are_probabilities_of_what_is_seen(kind: str) -> None:
    """Without dropout, even in training, and the model is left as it was."""
    model = adapted(kind, **({"attn_pdrop": 0.5} if kind == "gpt2" else {"attention_dropout": 0.5}))
    surgery.remove(model, GONE)
    model.module.train()
    found = model.attentions(TOKENS)
    group = model.layers[0].group
    assert [tuple(one.shape) for one in found] == [(3, 3 * group, 9, 9), (3, 2 * group, 9, 9)]
    assert difference(torch.stack([one.sum(dim=-1).mean() for one in found]), torch.ones(2)) < 1e-6
    assert all(float(one.detach().triu(1).max()) == 0 for one in found)
    assert model.module.config._attn_implementation == "sdpa"
    assert model.module.training
    assert model.is_causal


def test_a_model_without_attentions_is_told_and_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    model = adapted("gpt2")
    with monkeypatch.context() as patch:
        # As every implementation but "eager" does: an empty tuple.
        patch.setattr(model.module, "set_attn_implementation", lambda name: None)
        with pytest.raises(UserError, match="attentions of 0 of its 2 layers"):
            model.attentions(TOKENS)

    class Nothing:
        attentions = (torch.ones(3, 4, 9, 9), None)

    monkeypatch.setattr(model.module, "forward", lambda **inputs: Nothing())
    with pytest.raises(UserError, match="attentions of 1 of its 2 layers"):
        model.attentions(TOKENS)
    with pytest.raises(UserError, match="window of 4"):
        adapted("mistral", sliding_window=4).attentions(TOKENS)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_gates_of_single_samples(kind: str) -> None:
    """Each sample is computed by its own gates, which have a gradient."""
    model = adapted(kind)
    layer = model.layers[1]
    gates = torch.rand((3, 4), generator=torch.Generator().manual_seed(0)).requires_grad_()
    layer.gate = gates
    together = model.logits(TOKENS)
    together.logsumexp(dim=-1).sum().backward()
    assert gates.grad is not None
    assert bool((gates.grad != 0).all())
    for sample in range(3):
        layer.gate = gates[sample].detach()
        assert difference(model.logits(TOKENS[sample : sample + 1]), together[sample : sample + 1]) <= 1e-6
    half = model.module.to(torch.bfloat16)
    layer.gate = torch.ones((3, 4))
    assert half(TOKENS).logits.dtype == torch.bfloat16


def loss_of(model: HuggingFaceHeads) -> torch.Tensor:
    found: torch.Tensor = model.module(input_ids=TOKENS, labels=TOKENS).loss
    return found


def step(model: HuggingFaceHeads, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    loss_of(model).backward()
    optimizer.step()


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_training_goes_on_with_the_moments_of_those_left(kind: str) -> None:
    """As of a twin that is only gated: Adam computes each value by itself."""
    twins = []
    for is_removed in (False, True):
        model = adapted(kind)
        model.module.double()
        optimizer = torch.optim.AdamW(model.module.parameters(), lr=1e-2)
        for _ in range(3):
            step(model, optimizer)
        if is_removed:
            surgery.remove(model, GONE, optimizer)
        else:
            surgery.set_gates(model, GONE, 0.0)
        told = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        assert told == {id(parameter) for parameter in model.module.parameters()}
        weight = model.layers[1].parts[0].parameter
        before = weight.detach().clone()
        for _ in range(3):
            step(model, optimizer)
        assert int(optimizer.state[weight]["step"]) == 6
        assert difference(weight, before) > 1e-3
        twins.append(model.logits(TOKENS))
    assert difference(*twins) < 1e-9


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_what_grows_again_changes_nothing_but_learns(kind: str) -> None:
    model = removed(adapted(kind), GONE)
    before = model.logits(TOKENS)
    surgery.regrow(model, [(0, 1), (1, 2)], torch.Generator().manual_seed(0))
    assert [one.kept for one in model.layers] == [[0, 1, 2, 3], [1, 2, 3]]
    assert difference(model.logits(TOKENS), before) <= 1e-6
    loss_of(model).backward()
    for layer, number in ((0, 1), (1, 2)):
        one = model.layers[layer]
        (output,) = (part for part in one.parts if part.is_output)
        rows = output.rows([one.place(number)], one.heads)
        assert float(output.parameter.detach().index_select(output.dim, rows).abs().max()) == 0
        assert output.parameter.grad is not None
        assert float(output.parameter.grad.index_select(output.dim, rows).abs().max()) > 0


def test_planted_heads_of_gpt2() -> None:
    """One whose values are 0 has no gradient at the output; one without query and key looks at all alike."""
    model = adapted("gpt2")
    one = model.layers[0]
    weight, bias, output = one.parts
    with torch.no_grad():
        for part, numbers in ((weight, (2, 3)), (bias, (2, 3))):
            query_key, value = part.rows([numbers[0]], 4)[:16], part.rows([numbers[1]], 4)[16:]
            part.parameter.index_fill_(part.dim, torch.cat((query_key, value)), 0)
    loss_of(model).backward()
    gradient = output.parameter.grad
    assert gradient is not None
    of_heads = [float(gradient[output.rows([number], 4)].abs().max()) for number in range(4)]
    assert of_heads[3] == 0
    assert min(of_heads[:3]) > 0
    uniform = torch.ones(9, 9).tril() / torch.arange(1, 10)[:, None]
    found = model.attentions(TOKENS)[0]
    assert difference(found[:, 2], uniform.expand(3, 9, 9)) < 1e-6
    assert difference(found[:, 1], uniform.expand(3, 9, 9)) > 0.01


def test_the_one_head_of_multi_query_attention_stays() -> None:
    with pytest.raises(ValueError, match="no heads"):
        surgery.remove(adapted("llama", num_key_value_heads=1), [(0, 0)])


def test_what_cannot_be_adapted_is_told_in_one_line() -> None:
    other = transformers.AutoModelForCausalLM.from_config(
        transformers.AutoConfig.for_model(
            "opt", hidden_size=12, ffn_dim=16, num_hidden_layers=1, vocab_size=9
        )
    )
    with pytest.raises(
        UserError, match=r"^models of type 'opt' are not known: take one of arcee, .*starcoder2$"
    ):
        adapt(other)
    with pytest.raises(UserError, match="'Linear' are not known"):
        adapt(torch.nn.Linear(2, 2))
    classes = transformers.GPT2ForSequenceClassification(model_of("gpt2").config)
    with pytest.raises(UserError, match="no causal language model"):
        adapt(classes)

    class Quantised(torch.nn.Linear):
        pass

    packed = model_of("llama")
    packed.model.layers[1].self_attn.v_proj = Quantised(32, 16)
    with pytest.raises(UserError, match="is a Quantised"):
        adapt(packed)
    assert not any(module._forward_pre_hooks for module in packed.modules())
