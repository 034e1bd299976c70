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
from scipy.linalg import solve_triangular

from structnet.diagnosis import Diagnosis
from structnet.errors import UserError
from structnet.network import StructNet

MOST_PARAMETERS = 20_000  # with a thousand images W then takes 160 MB
DAMPING = 1e-2  # λ, as a share of the mean diagonal of the Fisher without it


@dataclass(frozen=True)
class Surgeon:
    """values: (parameters,), connections first. root: W, (parameters, n) float64. damping: λ, above 0."""

    values: np.ndarray
    root: np.ndarray
    damping: float
    connections: int

    @classmethod
    def of(cls, values: np.ndarray, gradients: np.ndarray, damping: float, connections: int) -> Surgeon:
        """gradients: (parameters, n), one column for each image."""
        scaled = gradients / np.sqrt(gradients.shape[1])
        inner = scaled.T @ scaled
        inner[np.diag_indices(len(inner))] += damping
        root = solve_triangular(np.linalg.cholesky(inner), scaled.T, lower=True).T
        return cls(values, root, damping, connections)

    def worth(self) -> np.ndarray:
        """(connections,) nats that the loss rises by without each connection, the others making up for it."""
        diagonal = (1 - np.square(self.root[: self.connections]).sum(axis=1)) / self.damping
        return self.values[: self.connections] ** 2 / (2 * diagonal)

    def without(self, gone: np.ndarray) -> np.ndarray:
        """(parameters,) values with these connections at exactly 0 and the others moved to make up for them."""
        pull = self._pull(gone) / self.damping
        values = self.values + self.root @ (self.root[gone].T @ pull)
        values[gone] = 0.0
        return values

    def loss_without(self, gone: np.ndarray) -> float:
        """Nats that the loss rises by, to second order, when all of these go together."""
        return 0.5 * float(self.values[gone] @ self._pull(gone))

    def _pull(self, gone: np.ndarray) -> np.ndarray:
        """(gone,) the solution of F⁻¹[S, S] x = w_S."""
        rows = self.root[gone]
        inverse = (np.eye(len(gone)) - rows @ rows.T) / self.damping
        return np.linalg.solve(inverse, self.values[gone])


def surgeon(network: StructNet, diagnosis: Diagnosis, *, images: int = 512) -> Surgeon:
    """The surgeon of a network, from the first so many images of a diagnosis of it.

    It takes time in proportion to parameters × images²: for 4,000 parameters and 512 images, half a second. Raises
    UserError for a network that is too large for it.
    """
    parameters = network.parameter_count
    if parameters > MOST_PARAMETERS:
        raise UserError(
            f"the network has {parameters:,} parameters, but the exact optimal brain surgeon is for at most "
            f"{MOST_PARAMETERS:,}: sell by w²·√v or magnitude"
        )
    gradients = per_image_gradients(network, diagnosis, images).numpy()
    typical = float(np.square(gradients).mean())
    values = network.values.detach().double().cpu().numpy()
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
    biases = error[int(topology.offsets[1]) :]
    return torch.cat([error[target] * activation[source], biases])
