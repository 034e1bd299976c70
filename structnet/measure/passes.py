"""A forward pass as in training: maps are normalised by what they are on the images that pass, all of them together."""

from __future__ import annotations

import numpy as np
import torch

from structnet.network.block_normalisation import BlockNormalisation
from structnet.network.network import StructNet
from structnet.network.propagation import propagate
from structnet.network.tap_propagation import TapPass


def as_in_training(network: StructNet, inputs: torch.Tensor) -> tuple[list[torch.Tensor], np.ndarray | None]:
    """Activations of every group, and (2, units behind the input) means and variances, where maps are normalised.

    inputs: as links take them, (features, n).
    """
    values, images = network.values.detach(), inputs.shape[1]
    if network.topology.architecture.has_maps and network.is_compiled:
        seen = TapPass(network, values, inputs, by_batch=True)
        return seen.activations, seen.statistics if seen.by_batch else None
    if network.statistics is None:
        return propagate(network, values, inputs), None
    normalisation = BlockNormalisation(network.topology, network.statistics, images, images)
    activations = propagate(network, values, inputs, normalisation=normalisation)
    return activations, normalisation.statistics.double().cpu().numpy()
