"""Which heads a model can do without: scores of every head, the higher the sooner it goes.

A new score is a function here and an entry in SCORES. All are measured on training data: validation data chooses among
what came of it, and could not be fair any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from structnet.errors import UserError
from structnet.heads.layers import HeadModel
from structnet.heads.surgery import Head, all_heads
from structnet.modules.evaluation import Batch

Scores = dict[Head, float]


@dataclass(frozen=True)
class Measured:
    """What single heads of a model are like on some batches; head -> number.

    gradient: the mean norm of its slice of the output projection's gradient. entropy: of what its queries look at, as
    a share of the largest that there can be, in [0, 1]. saliency: the mean over examples of |gate × gradient of gate|.
    """

    gradient: Scores
    entropy: Scores
    saliency: Scores


def loss_of(model: HeadModel, batch: Batch, *, reduction: str = "mean") -> torch.Tensor:
    """Cross-entropy in nats, over images or over characters."""
    inputs, labels = batch
    logits = model.logits(inputs)
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1), reduction=reduction)


def measure(model: HeadModel, batches: Sequence[Batch]) -> Measured:
    """Everything that scores are made of. The model is as it was, but for gradients, of which there are none then."""
    was_training = model.module.training
    model.module.eval()
    gradient, entropy, saliency = (dict.fromkeys(all_heads(model), 0.0) for _ in range(3))
    for batch in batches:
        for head, value in _gradients(model, batch).items():
            gradient[head] += value / len(batches)
        for head, value in _saliencies(model, batch).items():
            saliency[head] += value / len(batches)
        for head, value in entropies(model, batch[0]).items():
            entropy[head] += value / len(batches)
    model.module.zero_grad(set_to_none=True)
    model.module.train(was_training)
    return Measured(gradient, entropy, saliency)


def _gradients(model: HeadModel, batch: Batch) -> Scores:
    parts = [next(part for part in layer.parts if part.is_output) for layer in model.layers]
    found = torch.autograd.grad(loss_of(model, batch), [part.parameter for part in parts])
    norms = {}
    for layer, (one, part, gradient) in enumerate(zip(model.layers, parts, found)):
        for place, number in enumerate(one.kept):
            rows = part.rows([place], one.heads).to(gradient.device)
            norms[layer, number] = float(gradient.index_select(part.dim, rows).norm())
    return norms


def _saliencies(model: HeadModel, batch: Batch) -> Scores:
    """By one backward pass: a gate for every example (Michel et al. 2019)."""
    with _gates_of_examples(model, len(batch[0])) as gates:
        # A sum, so that the gradient of an example's gates is that of its own loss.
        labels = batch[1].numel() // len(batch[1])
        loss = loss_of(model, batch, reduction="sum") / labels
        found = torch.autograd.grad(loss, gates)
    sizes = [(gate.detach() * gradient).abs().mean(dim=0) for gate, gradient in zip(gates, found)]
    return {
        (layer, number): float(size[place])
        for layer, (one, size) in enumerate(zip(model.layers, sizes))
        for place, number in enumerate(one.kept)
    }


@contextmanager
def _gates_of_examples(model: HeadModel, examples: int) -> Iterator[list[torch.Tensor]]:
    """With gates (examples, heads) in the place of (heads,)."""
    before = [layer.gate for layer in model.layers]
    wide = [gate.detach().expand(examples, -1).clone().requires_grad_() for gate in before]
    try:
        for layer, gate in zip(model.layers, wide):
            layer.gate = gate
        yield wide
    finally:
        for layer, gate in zip(model.layers, before):
            layer.gate = gate


@torch.no_grad()
def entropies(model: HeadModel, inputs: torch.Tensor) -> Scores:
    """Of every head the mean over its queries of −Σ p·ln p ÷ ln n, where n keys can be seen.

    Queries that see a single key have no choice and do not count.
    """
    found: Scores = {}
    for layer, (one, seen) in enumerate(zip(model.layers, model.attentions(inputs))):
        queries, keys = seen.shape[-2:]
        visible = torch.full((queries,), keys)
        if model.is_causal:
            visible = torch.arange(keys - queries + 1, keys + 1)
        has_choice = (visible > 1).to(seen.device)
        most = visible.to(seen).log()
        rows = torch.special.entr(seen).sum(-1)[..., has_choice] / most[has_choice]
        means = rows.mean(dim=(0, 2)).view(one.heads, one.group).mean(dim=1)
        found |= {(layer, number): float(means[place]) for place, number in enumerate(one.kept)}
    return found


def scaled(values: Scores) -> Scores:
    """From 0 for the least to 1 for the greatest; 0 where all are the same."""
    low, high = min(values.values()), max(values.values())
    return {head: (value - low) / (high - low) if high > low else 0.0 for head, value in values.items()}


def _negative(values: Scores) -> Scores:
    return {head: -value for head, value in values.items()}


def _combined(measured: Measured) -> Scores:
    gradient, entropy = scaled(measured.gradient), scaled(measured.entropy)
    return {head: 0.6 * entropy[head] + 0.4 * (1 - gradient[head]) for head in gradient}


# Name -> what measurements, and a stream of its own for the one that asks nobody, come to.
SCORES: Mapping[str, Callable[[Measured, np.random.Generator], Scores]] = {
    "gradient": lambda measured, rng: _negative(measured.gradient),
    "entropy": lambda measured, rng: measured.entropy,
    "combined": lambda measured, rng: _combined(measured),
    "saliency": lambda measured, rng: _negative(measured.saliency),
    "random": lambda measured, rng: dict(
        zip(measured.gradient, rng.permutation(len(measured.gradient)) * 1.0)
    ),
}


def heads_to_remove(model: HeadModel, level: float) -> int:
    """Of a model at its beginning: a share of all heads, rounded down; raises UserError for no share or none at all."""
    heads = sum(layer.heads for layer in model.layers)
    if not 0 < level < 1:
        raise UserError(f"level is {level:g}, but must be in (0, 1): it is the share of heads to remove")
    if int(heads * level) < 1:
        raise UserError(
            f"level is {level:g}, but of {heads} heads that is none: give at least {1 / heads:.3g}"
        )
    return int(heads * level)


def chosen(scores: Scores, count: int, model: HeadModel, floor: int = 1) -> list[Head]:
    """The heads of highest score, over all layers, so that every layer is left with `floor` heads at least.

    Equal scores: the earlier head goes first. Raises UserError where there are not so many.
    """
    room = {layer: max(0, one.heads - floor) for layer, one in enumerate(model.layers)}
    if count > sum(room.values()):
        raise UserError(
            f"{count} heads are to go, but only {sum(room.values())} can, as each of {len(room)} layers keeps {floor}: "
            "lower the level or the floor"
        )
    found: list[Head] = []
    for head in sorted(scores, key=lambda head: (-scores[head], head)):
        if len(found) < count and room[head[0]]:
            room[head[0]] -= 1
            found.append(head)
    return found
