"""Adam on one flat vector, with state that can be carried through an edit by index."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from structnet.network.edit import Edit


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

    def update(
        self,
        values: torch.Tensor,
        gradient: torch.Tensor,
        learning_rate: float | torch.Tensor,
        owner: torch.Tensor | None = None,
    ) -> None:
        """One step, in place.

        learning_rate: one for all, or (owners,) float64 with owner, (parameters,), saying whose each parameter is.
        """
        self.step += 1
        self.first.lerp_(gradient, 1 - self.beta1)
        self.second.mul_(self.beta2).addcmul_(gradient, gradient, value=1 - self.beta2)
        # Both bias corrections as factors of the rate and of epsilon: one pass less over the vector.
        correction = math.sqrt(1 - self.beta2**self.step)
        spread = self.second.sqrt().add_(self.epsilon * correction)
        rate = learning_rate * correction / (1 - self.beta1**self.step)
        if isinstance(rate, torch.Tensor):
            # The same three roundings as below, so that a rate of one's own changes no bit.
            values.sub_(rate.to(values.dtype)[owner].mul_(self.first).div_(spread))
        else:
            values.addcdiv_(self.first, spread, value=-rate)

    def carried(self, edit: Edit) -> Adam:
        """The state after an edit.

        What survives keeps its moments to the bit. What is new starts with first moment 0 and with the median
        of the non-zero second moments: with zeros the first step would be about (1-β₁)/√(1-β₂) ≈ 3.2 times
        too large.
        """
        known = self.second[self.second > 0]
        typical = known.median() if len(known) else self.second.new_zeros(())
        origin = torch.from_numpy(np.maximum(edit.origin, 0)).to(self.first.device)
        is_new = torch.from_numpy(edit.origin < 0).to(self.first.device)
        first = self.first[origin].masked_fill(is_new, 0.0)
        second = torch.where(is_new, typical, self.second[origin])
        return Adam(first, second, self.step, self.beta1, self.beta2, self.epsilon)

    def copy(self) -> Adam:
        return Adam(self.first.clone(), self.second.clone(), self.step, self.beta1, self.beta2, self.epsilon)
