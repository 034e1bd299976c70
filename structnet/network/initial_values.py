"""What the connections and biases of a network are before training."""

from __future__ import annotations

import numpy as np

from structnet.network.activations import activation_named, gain_of
from structnet.network.topology import Topology


def initial_values(topology: Topology, rng: np.random.Generator, activation: str = "relu") -> np.ndarray:
    """(parameters,) float64: normal with variance gain ÷ fan-in that exists (He et al. 2015); biases 0.

    The gain is 2 for units that begin as ReLU and 1 for others and for the output. Shapes of activations are as these
    begin.
    """
    hidden_gain = gain_of(activation)
    gain = np.where(topology.target < topology.hidden.stop, hidden_gain, 1.0)
    spread = np.sqrt(gain / topology.fan_in()[topology.target])
    connections = rng.standard_normal(topology.connections) * spread
    return np.concatenate([connections, np.zeros(topology.bias_count), initial_shapes(topology, activation)])


def dense_initial_values(
    topology: Topology, rng: np.random.Generator, activation: str = "relu"
) -> np.ndarray:
    """(parameters,) float64: uniform within ±√(6 ÷ (n_in + n_out)) of a link, whatever exists of it; biases 0.

    Glorot & Bengio 2010, as programs have it that make dense layers and mask them. What is sparse begins faint.
    """
    connections = np.empty(topology.connections)
    for pair, span in topology.links.items():
        bound = np.sqrt(6 / topology.units_joined(pair))
        connections[span] = rng.uniform(-bound, bound, span.stop - span.start)
    return np.concatenate([connections, np.zeros(topology.bias_count), initial_shapes(topology, activation)])


def initial_shapes(topology: Topology, activation: str) -> np.ndarray:
    """(hidden units · shape_numbers,) with which activations begin."""
    units = topology.hidden.stop - topology.hidden.start
    return np.tile(np.array(activation_named(activation).shape), units)
