"""Random networks of feature maps in training, with the images they are diagnosed on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from helpers.action_cases import Case
from helpers.map_networks import random_images, random_map_network
from hypothesis import strategies as st

from structnet.measure.diagnosis import diagnose
from structnet.network.architecture import Architecture, sizes_of
from structnet.network.edit import Edit
from structnet.network.network import StructNet
from structnet.network.state import TrainState
from structnet.network.tap_propagation import TapPass
from structnet.network.topology import Topology

IMAGES = 24


@dataclass(frozen=True)
class MapCase(Case):
    """As Case. Gradients are those of training, where maps are normalised by these images."""

    def gradient(self, network: StructNet) -> np.ndarray:
        return diagnose(network, self.images, self.labels).gradient.double().numpy()

    @property
    def tolerance(self) -> float:
        """By how much a logit may change."""
        each = 1e-10 if self.network.values.dtype == torch.float64 else 1e-5
        return each * (1 + float(self.network(self.images).detach().abs().max()))

    def change_in_training(self, edit: Edit) -> float:
        """The largest change of a logit in training, as a share of the largest."""
        before, after = (self.logits_in_training(network) for network in (self.network, edit.network))
        return float((after - before).abs().max()) / (1 + float(before.abs().max()))

    def logits_in_training(self, network: StructNet) -> torch.Tensor:
        """(classes, images)."""
        inputs = self.images.reshape(len(self.images), -1).t().contiguous()
        return TapPass(network, network.values.detach(), inputs, by_batch=True).activations[-1]


def in_training(network: StructNet, rng: np.random.Generator, images: int = IMAGES) -> MapCase:
    """The network with an optimizer that has been running for a while, and images."""
    state = TrainState.fresh(network)
    state.optimizer.first.copy_(torch.from_numpy(rng.standard_normal(network.parameter_count) * 1e-3))
    state.optimizer.second.copy_(torch.from_numpy(rng.exponential(1e-6, network.parameter_count)))
    state.optimizer.step = state.step = 500
    state.born = rng.choice([0, 100, 450], network.parameter_count)
    seen = random_images(rng, network.topology.architecture, images, network.values.dtype)
    return MapCase(state, seen.images, seen.labels)


def make_maps(
    seed: int,
    architecture: Architecture | None = None,
    *,
    dtype: torch.dtype = torch.float64,
    normalised: bool | None = None,
    share: float | None = None,
    activation: str = "relu",
    bias: float = 0.0,
) -> MapCase:
    """A random network, with this added to the biases of all hidden units."""
    rng = np.random.default_rng(seed)
    network = random_map_network(
        rng, architecture, normalised=normalised, share=share, activation=activation, dtype=dtype
    )
    topology = network.topology
    with torch.no_grad():
        biases = topology.split(network.values)[1]
        biases[: topology.hidden.stop - topology.hidden.start] += bias
    return in_training(network, rng)


@st.composite
def map_cases(
    draw: st.DrawFn,
    dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.float64),
    activations: tuple[str, ...] = ("relu", "relu", "tanh"),
) -> MapCase:
    return make_maps(
        draw(st.integers(0, 10**6)),
        dtype=draw(st.sampled_from(dtypes)),
        activation=draw(st.sampled_from(activations)),
        bias=draw(st.sampled_from([-1.5, 0.0, 1.0])),
    )


def by_hand(
    architecture: str,
    taps: list[tuple[int, int, int, float]],
    *,
    statistics: torch.Tensor | None = None,
    biases: list[float] | None = None,
) -> MapCase:
    """A network of these taps - source unit, code of its port, target unit, value - on 24 random images."""
    shape = sizes_of(architecture)
    nothing = np.empty(0, dtype=np.int32)
    source, code, target, value = (np.array(part) for part in zip(*taps))
    port = Topology(shape, nothing, nothing).port_of(source, code)
    topology, order = Topology.sorted(shape, port, target)
    of_units = torch.tensor(biases or [0.0] * topology.bias_count, dtype=torch.float64)
    values = torch.cat([torch.from_numpy(value[order]).double(), of_units])
    network = StructNet.from_parts(topology, values, statistics=statistics)
    return in_training(network, np.random.default_rng(0))
