"""What the table `networks` has on a network: its structure, and how good it is."""

from __future__ import annotations

import math
from typing import Any

from structnet.data.dataset import Split
from structnet.measure.information import label_entropy
from structnet.measure.size import multiply_adds, stored_bytes
from structnet.network.architecture import Architecture, hidden_units
from structnet.network.network import StructNet
from structnet.training.evaluation import chance_accuracy
from structnet.trials.champions import efficiency


def structure_columns(network: StructNet) -> dict[str, Any]:
    """Its structure."""
    return {
        **shape_columns(network.topology.architecture),
        "density_real": network.topology.density,
        "parameters": network.parameter_count,
        "parameters_dense": network.parameters_dense,
        "hidden_units": hidden_units(network.architecture),
        "bytes": stored_bytes(network.topology),
        "macs": multiply_adds(network.topology),
    }


def shape_columns(architecture: Architecture) -> dict[str, Any]:
    """Its groups: units, and where there are maps their sides, the window, and which are read by position."""
    return {"architecture": list(architecture), **map_columns(architecture)}


def map_columns(architecture: Architecture) -> dict[str, Any]:
    """What `shape_columns` says of maps."""
    if not architecture.has_maps:
        return {"sides": None, "window": None, "flat": None}
    return {
        "sides": [list(side) for side in architecture.sides],
        "window": architecture.window,
        "flat": sorted(architecture.flat),
    }


class Reference:
    """What accuracy and loss are measured against on validation data: chance, and the label entropy in bits."""

    def __init__(self, validation: Split, classes: int) -> None:
        self.chance = chance_accuracy(validation.labels, classes)
        self.entropy = label_entropy(validation.labels)

    def columns(
        self, accuracy: float, loss: float, parameters: int, balanced: float | None = None
    ) -> dict[str, Any]:
        """How good a network of so many parameters is; loss in nats, balanced: accuracy averaged over the classes."""
        return {
            "accuracy": accuracy,
            "balanced_accuracy": balanced,
            "majority": self.chance,
            "loss": loss,
            "information": self.entropy - loss / math.log(2),
            "efficiency": efficiency(accuracy, self.chance, parameters),
        }
