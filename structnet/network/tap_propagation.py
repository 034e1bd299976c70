"""Passes through networks of feature maps by compiled loops: for autograd, diagnosis and whoever looks at activations.

Activations and errors of a group are (units, positions · images): every position of an image is a sample of its map,
rows first, images innermost. A pass is that of the network in use, whose maps have the means and variances that it
holds; or, with `by_batch`, that of training, where they have those of the images given.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch

from structnet.compiled.arrays import aligned_zeros
from structnet.compiled.normalise import Statistics
from structnet.compiled.sheets import HIGH, ORIGIN, PITCH, ROW, SHEET, UNITS, WIDE
from structnet.network.activations import ACTIVATIONS
from structnet.network.normalisation import folded_values, scales
from structnet.network.topology import Topology


class Mapped(Protocol):
    """What is computed: a structnet.network.network.StructNet with feature maps."""

    activation: str
    topology: Topology

    @property
    def statistics(self) -> torch.Tensor | None:
        """Means and variances, or None where nothing is normalised."""


class TapPass:
    """A forward pass, and what a backward one needs of it.

    statistics: of the images, if the pass is `by_batch`: mean and variance of every unit behind the input.
    """

    def __init__(
        self, network: Mapped, values: torch.Tensor, inputs: torch.Tensor, *, by_batch: bool = False
    ) -> None:
        from structnet.compiled.tap_step import pass_taps

        self.network, self.values = network, values
        self.by_batch = by_batch and network.statistics is not None
        topology = network.topology
        self._plan, self._code = topology.sheets, ACTIVATIONS[network.activation].code
        flat = values if self.by_batch else folded_values(network, values)
        self._flat = flat.detach().numpy()
        seen = inputs.detach().numpy()
        self.images = seen.shape[1]
        self._state = aligned_zeros((self._plan.rows, self.images), seen.dtype)
        self._state[: len(seen)] = seen
        before = aligned_zeros((self._plan.map_rows * self.images if self.by_batch else 0,), seen.dtype)
        self._statistics = Statistics(before, np.zeros(topology.bias_count), np.ones(topology.bias_count))
        pass_taps(self._plan, self._code, self._flat, self._statistics, self._state, self.images)

    @property
    def statistics(self) -> np.ndarray:
        """(2, units behind the input) float64."""
        return np.stack([self._statistics.mean, self._statistics.variance])

    @property
    def activations(self) -> list[torch.Tensor]:
        """Of every group, (units, positions · images); the last are the logits."""
        return self._groups(self._state)

    def backward(
        self, error: torch.Tensor, *, input_error: bool = False
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The gradient of the values, and the errors of all groups before they are normalised and activated.

        error: (classes, images). The errors of the input are 0 unless asked for.
        """
        from structnet.compiled.tap_step import return_taps

        errors = aligned_zeros(self._state.shape, self._state.dtype)
        gradient = np.zeros_like(self._flat)
        last = self._plan.groups[-1]
        errors[last[ROW] : last[ROW] + last[UNITS]] = error.detach().numpy()
        return_taps(
            self._plan,
            self._code,
            self._flat,
            self._statistics,
            self._state,
            errors,
            gradient,
            self.images,
            input_error,
        )
        found = torch.from_numpy(gradient)
        if self.network.statistics is not None and not self.by_batch:
            found *= scales(self.network)[0]
        return found, self._groups(errors)

    def _groups(self, rows: np.ndarray) -> list[torch.Tensor]:
        """Of a workspace, what lies on sheets, without their borders."""
        found = []
        for of in self._plan.groups:
            units, images = int(of[UNITS]), rows.shape[1]
            sheets = rows[of[ROW] : of[ROW] + units * of[SHEET]].reshape(units, of[SHEET], images)
            if of[PITCH] > of[WIDE]:
                high, pitch = of[SHEET] // of[PITCH], of[PITCH]
                top, left = divmod(int(of[ORIGIN]), int(pitch))
                inner = sheets.reshape(units, high, pitch, images)
                sheets = inner[:, top : top + of[HIGH], left : left + of[WIDE]]
            found.append(torch.from_numpy(np.ascontiguousarray(sheets).reshape(units, -1)))
        return found
