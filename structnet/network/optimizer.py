"""Adam on one flat vector, with state that can be carried through an edit by index."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch


@dataclass
class Adam:
    """Adam (Kingma & Ba 2015) for the flat vector of a network.

    first, second: (parameters,) running means of the gradient and of its square. step: updates made so far.
    Unlike torch.optim.Adam it works on plain tensors, so a fork, an edit or a snapshot of its state is an
    indexing operation, and an update costs six passes over one vector.
    """

    first: torch.Tensor
    second: torch.Tensor
    step: int = 0
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    @classmethod
    def for_values(cls, values: torch.Tensor) -> Adam:
        """Fresh state for a flat vector."""
        return cls(torch.zeros_like(values), torch.zeros_like(values))

    def update(self, values: torch.Tensor, gradient: torch.Tensor, learning_rate: float) -> None:
        """One step, in place."""
        self.step += 1
        root, divisor = self.corrections(self.step)
        self.move(values, gradient, learning_rate * root / divisor, self.epsilon * root)

    def corrections(self, step: int) -> tuple[float, float]:
        """Of the biases of both moments in the update of this number, from 1.

        They go to the rate, times the first and divided by the second, and to epsilon, times the first: one
        pass less over the vector than to divide the moments by them.
        """
        return math.sqrt(1 - self.beta2**step), 1 - self.beta1**step

    def move(
        self,
        values: torch.Tensor,
        gradient: torch.Tensor,
        rate: float | torch.Tensor,
        epsilon: float | torch.Tensor,
    ) -> None:
        """One step, in place and not counted, by a rate and an epsilon that have the corrections in them.

        rate: a number or a tensor, (), (1,) or (parameters,). epsilon: a number or a tensor, (). Tensors have
        the number type of the values.
        """
        self.first.lerp_(gradient, 1 - self.beta1)
        self.second.mul_(self.beta2).addcmul_(gradient, gradient, value=1 - self.beta2)
        values.addcdiv_(self.first * rate, self.second.sqrt().add_(epsilon), value=-1)

    def carried(self, origin: np.ndarray) -> Adam:
        """The state after an edit; origin: (parameters,) index of each parameter before it, -1 where it is new.

        What survives keeps its moments to the bit. What is new starts with first moment 0 and with the median
        of the non-zero second moments: with zeros the first step would be about (1-β₁)/√(1-β₂) ≈ 3.2 times
        too large.
        """
        known = self.second[self.second > 0]
        typical = known.median() if len(known) else self.second.new_zeros(())
        before = torch.from_numpy(np.maximum(origin, 0)).to(self.first.device)
        is_new = torch.from_numpy(origin < 0).to(self.first.device)
        first = self.first[before].masked_fill(is_new, 0.0)
        return self.with_moments(first, torch.where(is_new, typical, self.second[before]))

    def with_moments(self, first: torch.Tensor, second: torch.Tensor) -> Adam:
        """The same optimizer with other moments, each (parameters,), which are not copied."""
        return replace(self, first=first, second=second)

    def copy(self) -> Adam:
        """With moments of its own."""
        return self.with_moments(self.first.clone(), self.second.clone())

    def to_arrays(self) -> dict[str, Any]:
        """Plain arrays and numbers for `from_arrays`; on the CPU the moments are views."""
        return {
            "first": self.first.cpu().numpy(),
            "second": self.second.cpu().numpy(),
            "optimizer_step": self.step,
            "optimizer_options": (self.beta1, self.beta2, self.epsilon),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any], device: torch.device | str = "cpu") -> Adam:
        """The optimizer of `to_arrays`, with moments of its own; arrays that go with it are left aside."""
        first, second = (torch.from_numpy(np.array(arrays[name])).to(device) for name in ("first", "second"))
        return cls(first, second, int(arrays["optimizer_step"]), *arrays["optimizer_options"])
