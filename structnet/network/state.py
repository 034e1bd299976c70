"""TrainState: everything that training goes on from - network, optimizer, ages - as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from structnet.network.edit import Edit
from structnet.network.network import StructNet
from structnet.network.optimizer import Adam


@dataclass
class TrainState:
    """A network in training.

    step: optimizer steps so far along its line. born: (parameters,) int64, the step at which each parameter
    came to be. Random streams are functions of (rng_seed, purpose, step), so the step is all their state.
    """

    network: StructNet
    optimizer: Adam
    step: int
    born: np.ndarray

    @classmethod
    def fresh(cls, network: StructNet) -> TrainState:
        """A network before its first step."""
        born = np.zeros(network.parameter_count, dtype=np.int64)
        return cls(network, Adam.for_values(network.values.detach()), 0, born)

    def edited(self, edit: Edit) -> TrainState:
        """The state after an edit of its network: moments and ages carried by index, new parts born now."""
        born = np.where(edit.origin < 0, self.step, self.born[np.maximum(edit.origin, 0)])
        return TrainState(edit.network, self.optimizer.carried(edit.origin), self.step, born)

    def copy(self) -> TrainState:
        """With values, moments and ages of its own."""
        return TrainState(self.network.fork(), self.optimizer.copy(), self.step, self.born.copy())

    def to_arrays(self) -> dict[str, Any]:
        """Plain arrays and numbers: what a fork costs to send, about 24 bytes a parameter.

        On the CPU they are views of the state, so training on changes them: send them first, or copy.
        """
        return {
            **self.network.to_arrays(),
            **self.optimizer.to_arrays(),
            "step": self.step,
            "born": self.born,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any], device: torch.device | str = "cpu") -> TrainState:
        """A state of its own from `to_arrays`: it shares nothing with the arrays but the topology."""
        network, optimizer = StructNet.from_arrays(arrays, device), Adam.from_arrays(arrays, device)
        return cls(network, optimizer, int(arrays["step"]), np.array(arrays["born"]))
