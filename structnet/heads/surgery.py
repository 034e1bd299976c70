"""Heads gated, frozen, removed and grown again, in place; an optimizer is told.

Gated to 0, with zeroed rows of the output projection, or removed, a head has the same effect on what is computed: none.
Only removal makes the model smaller and faster.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import nn
from torch.optim import Optimizer

from structnet.heads.layers import HeadLayer, HeadModel
from structnet.modules import optimizer as told

# Head by (layer, number).
Head = tuple[int, int]


def by_layer(heads: Iterable[Head]) -> dict[int, list[int]]:
    """Layer -> numbers, both in order."""
    found: dict[int, list[int]] = {}
    for layer, number in sorted(heads):
        found.setdefault(layer, []).append(number)
    return found


def all_heads(model: HeadModel) -> list[Head]:
    """Those that are there."""
    return [(layer, number) for layer, one in enumerate(model.layers) for number in one.kept]


@torch.no_grad()
def set_gates(model: HeadModel, heads: Iterable[Head], value: float) -> None:
    """What these heads find is multiplied by the value from here on."""
    for layer, numbers in by_layer(heads).items():
        one = model.layers[layer]
        one.gate[[one.place(number) for number in numbers]] = value


@torch.no_grad()
def zero(model: HeadModel, heads: Iterable[Head], optimizer: Optimizer | None = None) -> None:
    """Zeroes the rows of the output projection, and what an optimizer remembers of them, and freezes the heads.

    The bias of the projection belongs to all heads together and stays.
    """
    for layer, numbers in by_layer(heads).items():
        one = model.layers[layer]
        for part in one.parts:
            if part.is_output:
                rows = part.rows([one.place(n) for n in numbers], one.heads).to(part.parameter.device)
                state = optimizer.state.get(part.parameter, {}) if optimizer else {}
                for tensor in (part.parameter, *state.values()):
                    if torch.is_tensor(tensor) and tensor.dim():
                        tensor.index_fill_(part.dim, rows, 0)
        one.frozen |= frozenset(numbers)


@torch.no_grad()
def hold_frozen(model: HeadModel) -> None:
    """Between the backward pass and the step: no frozen head has a gradient, so that what is zero stays exactly zero.

    Adam without it moves rows of zeros in its first step, by the noise of the momentum alone.
    """
    for one in model.layers:
        if not one.frozen:
            continue
        places = [one.place(number) for number in sorted(one.frozen)]
        for part in one.parts:
            if part.parameter.grad is not None:
                rows = part.rows(places, one.heads).to(part.parameter.device)
                part.parameter.grad.index_fill_(part.dim, rows, 0)


@torch.no_grad()
def remove(model: HeadModel, heads: Iterable[Head], optimizer: Optimizer | None = None) -> None:
    """Takes heads out, with all that belongs to them; what is computed is as with their gates at 0.

    Raises ValueError for a head that is not there, or the last ones of a layer.
    """
    for layer, numbers in by_layer(heads).items():
        one = model.layers[layer]
        gone = {one.place(number) for number in numbers}
        left = [place for place in range(one.heads) if place not in gone]
        if not left:
            raise ValueError(f"layer {layer} would have no heads")
        _rebuild(one, left, optimizer)
        one.frozen -= frozenset(numbers)
        one.kept = [one.kept[place] for place in left]
        one.resized(one.heads)


@torch.no_grad()
def regrow(
    model: HeadModel,
    heads: Iterable[Head],
    generator: torch.Generator,
    optimizer: Optimizer | None = None,
) -> None:
    """Puts heads of these numbers, which were removed, back with fresh values; nothing of what is computed changes.

    Their rows of the output projection are 0, so that they have a gradient at once and no effect. The others are drawn
    with the spread that those of the heads beside them have. Raises ValueError for a head that is there.
    """
    for layer, numbers in by_layer(heads).items():
        one = model.layers[layer]
        if there := set(numbers) & set(one.kept):
            raise ValueError(f"heads {sorted(there)} of layer {layer} are there already")
        before, after = one.kept, sorted([*one.kept, *numbers])
        places = [before.index(number) if number in before else -1 for number in after]
        spreads = {id(part): float(part.parameter.std(correction=0)) for part in one.parts}
        _rebuild(one, places, optimizer)
        one.kept = after
        new = [place for place, number in enumerate(after) if number in numbers]
        for part in one.parts:
            if not part.is_output and part.parameter.dim() > 1:
                rows = part.rows(new, one.heads).to(part.parameter.device)
                _draw(part.parameter, part.dim, rows, spreads[id(part)], generator)
        one.resized(one.heads)


def parameters_of(model: HeadModel, layers: Iterable[int]) -> list[nn.Parameter]:
    """The parameters of these layers' attention, each once."""
    found = {id(part.parameter): part.parameter for layer in layers for part in model.layers[layer].parts}
    return list(found.values())


def ramp(model: HeadModel, begun: Mapping[Head, int], step: int, length: int) -> None:
    """Gates of heads that are new rise along a line from 1 ÷ length in their first step to 1. begun: head -> step."""
    for head, first in begun.items():
        set_gates(model, [head], min(1.0, (step - first + 1) / max(1, length)))


def _rebuild(one: HeadLayer, places: Sequence[int], optimizer: Optimizer | None) -> None:
    """Puts in the place of every parameter one of the heads at these places, -1 for one that is new: zeros."""
    for part in one.parts:
        old = part.parameter
        kept = torch.cat(
            [
                part.rows([max(place, 0)], one.heads)[run * part.size : (run + 1) * part.size]
                if place >= 0
                else torch.full((part.size,), -1)
                for run in range(part.fused)
                for place in places
            ]
        ).to(old.device)
        new = nn.Parameter(told.taken(old.detach(), part.dim, kept), requires_grad=old.requires_grad)
        setattr(part.owner, part.name, new)
        if optimizer is not None and id(old) in told.ids_of(optimizer):
            told.exchange(optimizer, old, new, part.dim, kept)
    gate = one.gate
    one.gate = torch.stack([gate[place] if place >= 0 else gate.new_ones(()) for place in places])


def _draw(
    parameter: nn.Parameter, dim: int, rows: torch.Tensor, spread: float, generator: torch.Generator
) -> None:
    """Uniform values of this standard deviation; drawn on the CPU, so that they are the same on every device."""
    shape = list(parameter.shape)
    shape[dim] = len(rows)
    drawn = torch.rand(shape, generator=generator, dtype=torch.float32) * 2 - 1
    parameter.index_copy_(dim, rows, (drawn * spread * math.sqrt(3)).to(parameter))
