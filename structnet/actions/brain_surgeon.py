"""Exact optimal brain surgeon: which connections can go for the least loss, and how the others make up for it.

With F the empirical Fisher information, (1/n) Σ g gᵀ + λI over per-image gradients g, taking away the set S of
parameters costs least, to second order, if the others move by −F⁻¹[:, S] (F⁻¹[S, S])⁻¹ w_S; the loss then rises by
½ w_Sᵀ (F⁻¹[S, S])⁻¹ w_S (Hassibi & Stork 1993; Singh & Alistarh 2020 for the Fisher). F is never stored: by the
identity of Woodbury its inverse is (I − W Wᵀ) ÷ λ, with one row of n numbers in W for each parameter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from structnet.errors import UserError
from structnet.measure.diagnosis import Diagnosis
from structnet.network.network import StructNet

MOST_PARAMETERS = 20_000  # W then takes 40 MB
DAMPING = 1e-2  # λ, as a share of the mean diagonal of the Fisher without it


@dataclass(frozen=True)
class Surgeon:
    """A network's values, and the inverse of its Fisher information.

    values: (parameters,), connections first. root: W, (parameters, n). damping: λ, above 0. All float64, on torch:
    numpy would compute with as many threads as there are, and give other bits with every number of them.
    """

    values: torch.Tensor
    root: torch.Tensor
    damping: float
    connections: int

    @classmethod
    def of(cls, values: torch.Tensor, gradients: torch.Tensor, damping: float, connections: int) -> Surgeon:
        """gradients: (parameters, n), one column for each image."""
        scaled = gradients / gradients.shape[1] ** 0.5
        inner = scaled.t() @ scaled
        inner.diagonal().add_(damping)
        factor = torch.linalg.cholesky(inner)
        root = torch.linalg.solve_triangular(factor, scaled.t(), upper=False).t()
        return cls(values, root, damping, connections)

    def worth(self) -> np.ndarray:
        """(connections,) nats that the loss rises by without each connection, the others making up for it."""
        diagonal = (1 - self.root[: self.connections].square().sum(dim=1)) / self.damping
        return (self.values[: self.connections].square() / (2 * diagonal)).numpy()

    def without(self, gone: np.ndarray) -> np.ndarray:
        """(parameters,) values with these connections at exactly 0 and the others moved to make up for them."""
        where = torch.from_numpy(gone)
        pull = self._pull(where) / self.damping
        values = self.values + self.root @ (self.root[where].t() @ pull)
        values[where] = 0.0
        return values.numpy()

    def loss_without(self, gone: np.ndarray) -> float:
        """Nats that the loss rises by, to second order, when all of these go together."""
        where = torch.from_numpy(gone)
        return 0.5 * float(self.values[where] @ self._pull(where))

    def _pull(self, where: torch.Tensor) -> torch.Tensor:
        """(gone,) the solution of F⁻¹[S, S] x = w_S, by the same identity: n equations, however many go."""
        rows, own = self.root[where], self.values[where]
        inner = torch.eye(rows.shape[1], dtype=rows.dtype) - rows.t() @ rows
        solved: torch.Tensor = torch.linalg.solve(inner, rows.t() @ own)
        return self.damping * (own + rows @ solved)


def surgeon(network: StructNet, diagnosis: Diagnosis, *, images: int = 256) -> Surgeon:
    """The surgeon of a network, from the first so many images of a diagnosis of it.

    It takes time in proportion to parameters × images². Raises UserError for a network that is too large for it, and
    for one with feature maps, whose images share their statistics in training.
    """
    if network.topology.architecture.has_maps:
        raise UserError(
            f"the network is {network.topology.architecture}, but the exact optimal brain surgeon is for networks "
            "without feature maps: prune by w²·√v or magnitude"
        )
    parameters = network.parameter_count
    if parameters > MOST_PARAMETERS:
        raise UserError(
            f"the network has {parameters:,} parameters, but the exact optimal brain surgeon is for at most "
            f"{MOST_PARAMETERS:,}: prune by w²·√v or magnitude"
        )
    gradients = per_image_gradients(network, diagnosis, images)
    typical = float(gradients.square().mean())
    values = network.values.detach().double().cpu()
    return Surgeon.of(values, gradients, DAMPING * typical or 1.0, network.connection_count)


def per_image_gradients(network: StructNet, diagnosis: Diagnosis, images: int) -> torch.Tensor:
    """(parameters, n) float64: the gradient of the loss of each of the first n images, not of their mean.

    The gradient by a connection is the error at its target times the activation at its source.
    """
    topology = network.topology
    all_images = diagnosis.activations[0].shape[1]
    activations = [group[:, :images] for group in diagnosis.activations]
    errors = [
        torch.zeros_like(activation) if error is None else error[:, :images] * all_images
        for activation, error in zip(activations, diagnosis.errors, strict=True)
    ]
    activation, error = torch.cat(activations).double().cpu(), torch.cat(errors).double().cpu()
    source, target = torch.from_numpy(topology.source), torch.from_numpy(topology.target)
    return torch.cat([error[target] * activation[source], error[topology.hidden.start :]])
