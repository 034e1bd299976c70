"""Recipe: how a network is trained, apart from its length and learning rate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from structnet.errors import UserError
from structnet.training.rates import AgeRates


@dataclass(frozen=True)
class Recipe:
    """How a network is trained, apart from its length and learning rate.

    l1: weight of the sum of absolute connection values in the loss (biases are free). input_dropout: share of
    inputs set to zero, the others scaled up. shift: images are moved by up to this many pixels each way.
    rates: learning rates by age of a parameter; None for one rate. weight_decay: share of its value that a
    connection loses in a step, per unit of learning rate (decoupled, so not a part of the gradient; biases are
    free).
    """

    batch_size: int = 128
    l1: float = 0.0
    input_dropout: float = 0.0
    shift: int = 0
    rates: AgeRates | None = None
    rng_seed: int = 0
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UserError(f"batch_size is {self.batch_size}, but must be at least 1")
        if not 0 <= self.input_dropout < 1:
            raise UserError(f"input_dropout is {self.input_dropout}, but must be in [0, 1): it is a share")
        if self.l1 < 0 or self.shift < 0:
            raise UserError(f"l1 is {self.l1} and shift {self.shift}, but neither may be negative")
        if not 0 <= self.weight_decay < math.inf:
            raise UserError(
                f"weight_decay is {self.weight_decay}, but must be at least 0: it is the shrinkage of a connection "
                "per step and unit of learning rate"
            )


def recipe_of(options: Mapping[str, Any], **more: Any) -> Recipe:
    """The recipe that options of these names ask for.

    more: its other fields. Raises UserError for values that cannot be.
    """
    return Recipe(options["batch_size"], options["l1"], options["input_dropout"], options["shift"], **more)
