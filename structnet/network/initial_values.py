"""What the connections and biases of a network are before training."""

from __future__ import annotations

import numpy as np

from structnet.network.topology import Topology


def initial_values(topology: Topology, rng: np.random.Generator, activation: str = "relu") -> np.ndarray:
    """(parameters,) float64: normal with variance gain ÷ fan-in that exists (He et al. 2015); biases 0.

    The gain is 2 for ReLU units and 1 for others and for the output.
    """
    hidden_gain = 2.0 if activation == "relu" else 1.0
    gain = np.where(topology.target < topology.hidden.stop, hidden_gain, 1.0)
    spread = np.sqrt(gain / topology.fan_in()[topology.target])
    return np.concatenate([rng.standard_normal(topology.connections) * spread, np.zeros(topology.bias_count)])
