"""Activation functions of hidden units, each with its derivative as a function of its own output.

One has a shape that every unit learns for itself: SReLU (Jin et al. 2016), whose derivatives need what it was given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from structnet.compiled.plan import RELU, SIGMOID, SRELU, TANH
from structnet.errors import UserError


@dataclass(frozen=True)
class Activation:
    """apply: pre-activation -> activation, in place. slope: activation -> derivative there.

    code: its number in compiled loops (structnet.compiled.functions). floor and ceiling bound the activation where it
    is bounded (None: unbounded). gain: variance of a unit's fan-in times its size at the start (He et al. 2015).
    idempotent: applying it twice changes nothing, so an identity layer can be inserted after it (Chen et al. 2016,
    Net2Net). shape: with which numbers each unit begins, if it learns any; apply and slope are then those of a unit
    that has learned nothing yet.
    """

    apply: Callable[[torch.Tensor], torch.Tensor]
    slope: Callable[[torch.Tensor], torch.Tensor]
    code: int
    floor: float | None
    ceiling: float | None
    gain: float = 1.0
    idempotent: bool = False
    shape: tuple[float, ...] = ()

    def of(self, state: torch.Tensor, shapes: torch.Tensor) -> torch.Tensor:
        """The activations of units, (units, images), with shapes, (units, numbers), of their own or none."""
        return srelu(state, shapes) if self.shape else self.apply(state)


def _sigmoid_(x: torch.Tensor) -> torch.Tensor:
    """The sigmoid, in place.

    Torch's own rounds the last numbers of a tensor differently from the others, so that a unit would depend on how
    many others lie behind it.
    """
    return x.neg_().exp_().add_(1).reciprocal_()


def srelu(state: torch.Tensor, shapes: torch.Tensor) -> torch.Tensor:
    """SReLU of (units, images): the identity between two thresholds of each unit, of a slope of its own outside.

    shapes: (units, 4), left threshold l, slope below it, width w, slope above r = l + |w|.
    """
    left, below, _, above = shapes.t()[:, :, None]
    right = _right(shapes)
    low, high = left + below * (state - left), right + above * (state - right)
    return torch.where(state >= right, high, torch.where(state < left, low, state))


def srelu_errors(
    state: torch.Tensor, shapes: torch.Tensor, errors: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """From the errors behind SReLU, (units, images), those before it, and the gradient of the shapes, (units, 4).

    state: what the units were before it.
    """
    left, below, width, above = shapes.t()[:, :, None]
    right, zero = _right(shapes), torch.zeros_like(errors)
    is_high, is_low = state >= right, state < left
    up, down = torch.where(is_high, errors, zero), torch.where(is_low, errors, zero)
    high = (up * (1 - above)).sum(dim=1)
    low = (down * (1 - below)).sum(dim=1)
    sign = torch.where(width[:, 0] < 0, -1.0, 1.0).to(errors.dtype)
    gradient = [
        low + high,
        (down * (state - left)).sum(dim=1),
        high * sign,
        (up * (state - right)).sum(dim=1),
    ]
    slope = torch.where(is_high, above, torch.where(is_low, below, torch.ones_like(errors)))
    return slope * errors, torch.stack(gradient, dim=1)


def _right(shapes: torch.Tensor) -> torch.Tensor:
    return (shapes[:, 0] + shapes[:, 2].abs())[:, None]


ACTIVATIONS = {
    # The sign of an activation that is never negative is 0 or 1, and costs a sixth of a comparison and a cast.
    "relu": Activation(torch.relu_, torch.sign, RELU, 0.0, None, 2.0, idempotent=True),
    "tanh": Activation(torch.tanh_, lambda a: 1 - a * a, TANH, -1.0, 1.0),
    "sigmoid": Activation(_sigmoid_, lambda a: a * (1 - a), SIGMOID, 0.0, 1.0),
    # Begins as ReLU, as in the program of Mocanu et al. (2018) but for small random numbers.
    "srelu": Activation(torch.relu_, torch.sign, SRELU, None, None, 2.0, shape=(0.0, 0.0, 0.0, 1.0)),
}


def activation_named(name: str) -> Activation:
    """The activation of this name; raises UserError for an unknown one."""
    if name not in ACTIVATIONS:
        raise UserError(f"activation is '{name}', but must be one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def gain_of(activation: str) -> float:
    """Variance of a hidden unit's fan-in times its size (He et al. 2015)."""
    return activation_named(activation).gain
