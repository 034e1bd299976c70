"""Activation functions of hidden units, each with its derivative as a function of its own output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from structnet.compiled.plan import RELU, SIGMOID, TANH
from structnet.errors import UserError


@dataclass(frozen=True)
class Activation:
    """apply: pre-activation -> activation, in place. slope: activation -> derivative there.

    code: its number in compiled loops (structnet.compiled.functions). floor and ceiling bound the activation where it
    is bounded (None: unbounded). idempotent: applying it twice changes nothing, so an identity layer can be inserted
    after it (Chen et al. 2016, Net2Net).
    """

    apply: Callable[[torch.Tensor], torch.Tensor]
    slope: Callable[[torch.Tensor], torch.Tensor]
    code: int
    floor: float | None
    ceiling: float | None
    idempotent: bool = False


def _sigmoid_(x: torch.Tensor) -> torch.Tensor:
    """The sigmoid, in place.

    Torch's own rounds the last numbers of a tensor differently from the others, so that a unit would depend on how
    many others lie behind it.
    """
    return x.neg_().exp_().add_(1).reciprocal_()


ACTIVATIONS = {
    # The sign of an activation that is never negative is 0 or 1, and costs a sixth of a comparison and a cast.
    "relu": Activation(torch.relu_, torch.sign, RELU, 0.0, None, idempotent=True),
    "tanh": Activation(torch.tanh_, lambda a: 1 - a * a, TANH, -1.0, 1.0),
    "sigmoid": Activation(_sigmoid_, lambda a: a * (1 - a), SIGMOID, 0.0, 1.0),
}


def activation_named(name: str) -> Activation:
    """The activation of this name; raises UserError for an unknown one."""
    if name not in ACTIVATIONS:
        raise UserError(f"activation is '{name}', but must be one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]
