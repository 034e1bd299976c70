"""StructNet: ordered groups of units, joined by sparse links, with all values in one flat vector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import torch
from torch import nn

from structnet.network.activations import ACTIVATIONS, activation_named
from structnet.network.link import SparseLink
from structnet.network.propagation import Propagation
from structnet.network.topology import Topology, parameters_dense, random_topology
from structnet.seeds import stream


class StructNet(nn.Module):
    """A sparse network in which only what exists is stored, trained and counted.

    `values` holds the connections in the order of the topology, then the biases of all units but the input:
    one (parameters,) vector. The structure of a network never changes; an edit makes a new network
    (structnet.network.edit), so a fork is cheap and nothing that holds the old one is surprised.

    net(images): (batch, ...) -> (batch, classes) logits; everything after the first dimension is flattened.
    """

    values: nn.Parameter

    def __init__(
        self,
        architecture: Sequence[int],
        density: float = 0.02,
        *,
        rng_seed: int = 0,
        allocation: str = "proportional",
        ensure_paths: bool = False,
        activation: str = "relu",
        kernel: str = "auto",
    ) -> None:
        rng = stream(rng_seed, "seed")
        topology = random_topology(
            architecture, density, rng, allocation=allocation, ensure_paths=ensure_paths
        )
        values = initial_values(topology, rng, activation)
        self._set_up(topology, torch.from_numpy(values.astype(np.float32)), activation, kernel)

    @classmethod
    def from_parts(
        cls, topology: Topology, values: torch.Tensor, *, activation: str = "relu", kernel: str = "auto"
    ) -> StructNet:
        """The network of this topology and these (parameters,) values, on their device, without a copy."""
        network = cls.__new__(cls)
        network._set_up(topology, values, activation, kernel)
        return network

    def _set_up(self, topology: Topology, values: torch.Tensor, activation: str, kernel: str) -> None:
        super().__init__()
        activation_named(activation)
        if len(values) != topology.parameters:
            raise ValueError(f"{len(values)} values for {topology.parameters} parameters")
        self.topology = topology
        self.activation = activation
        self.kernel = kernel
        self.values = nn.Parameter(values)
        self._links: tuple[torch.device, dict[tuple[int, int], SparseLink]] | None = None

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return Propagation.apply(self.values, flatten(images, self.values.dtype), self).t()

    @property
    def architecture(self) -> list[int]:
        """Units per group, input first."""
        return list(self.topology.architecture)

    @property
    def parameter_count(self) -> int:
        """Connections that exist + biases of the units that exist."""
        return self.topology.parameters

    @property
    def connection_count(self) -> int:
        return self.topology.connections

    @property
    def parameters_dense(self) -> int:
        """Parameters of the fully connected network of the same shape."""
        return parameters_dense(self.topology.architecture)

    @property
    def links(self) -> dict[tuple[int, int], SparseLink]:
        """(source group, target group) -> link, for the device the values are on."""
        device = self.values.device
        if self._links is None or self._links[0] != device:
            pairs = self.topology.links
            self._links = (
                device,
                {pair: SparseLink(self.topology, pair, device, self.kernel) for pair in pairs},
            )
        return self._links[1]

    @property
    def incoming(self) -> list[list[SparseLink]]:
        """The links that end at each group."""
        incoming: list[list[SparseLink]] = [[] for _ in self.topology.architecture]
        for pair, link in self.links.items():
            incoming[pair[1]].append(link)
        return incoming

    @cached_property
    def bias_spans(self) -> list[slice]:
        """Where the biases of each group lie in the flat vector; the input's entry is empty."""
        first = self.topology.connections - int(self.topology.offsets[1])
        spans = [self.topology.units_of(group) for group in range(1, self.topology.groups)]
        return [slice(0, 0)] + [slice(first + span.start, first + span.stop) for span in spans]

    def fork(self) -> StructNet:
        """A copy with values of its own; the topology, which never changes, is shared."""
        return StructNet.from_parts(
            self.topology, self.values.detach().clone(), activation=self.activation, kernel=self.kernel
        )

    def save(
        self, path: str, *, preprocessing: dict[str, Any] | None = None, class_names: Sequence[str] = ()
    ) -> None:
        """Writes path.safetensors and path.json, without optimizer and ages (structnet.storage.snapshot)."""
        from structnet.network.state import TrainState
        from structnet.storage.snapshot import save_snapshot

        state = TrainState.fresh(self)
        save_snapshot(path, state, preprocessing=preprocessing or {}, class_names=class_names)

    @classmethod
    def load(cls, path: str) -> StructNet:
        """The network of a snapshot, on the CPU. Raises UserError if it is missing or damaged."""
        from structnet.storage.snapshot import load_snapshot

        return load_snapshot(path).state.network

    def become(self, other: StructNet) -> None:
        """Takes over structure and values of another network; optimizers of the old values are void."""
        self.topology, self.activation, self.kernel = other.topology, other.activation, other.kernel
        self._links = None
        self.__dict__.pop("bias_spans", None)
        self.values = nn.Parameter(other.values.detach().clone())

    def describe(self) -> str:
        """One line: architecture, parameters, connections, density."""
        shape = "-".join(map(str, self.architecture))
        return (
            f"{shape}: {self.parameter_count:,} parameters ({self.connection_count:,} connections, "
            f"density {self.topology.density:.4f}; dense {self.parameters_dense:,})"
        )

    def extra_repr(self) -> str:
        return self.describe()

    def _save_to_state_dict(self, destination: dict, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[prefix + "architecture"] = torch.tensor(self.topology.architecture)
        destination[prefix + "source"] = torch.from_numpy(self.topology.source.copy())
        destination[prefix + "target"] = torch.from_numpy(self.topology.target.copy())
        destination[prefix + "activation"] = torch.tensor(list(ACTIVATIONS).index(self.activation))

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *arguments: Any, **options: Any
    ) -> None:
        """Takes over the structure as well: a state dict is the whole network, whatever this one was."""
        if prefix + "source" in state_dict:
            loaded = StructNet.from_state_dict(
                {key[len(prefix) :]: value for key, value in state_dict.items() if key.startswith(prefix)}
            )
            loaded.to(self.values.device, self.values.dtype)
            self.become(loaded)
            state_dict = {
                key: value
                for key, value in state_dict.items()
                if key[len(prefix) :] not in ("architecture", "source", "target", "activation")
            }
        super()._load_from_state_dict(state_dict, prefix, *arguments, **options)

    @classmethod
    def from_state_dict(cls, state: Mapping[str, torch.Tensor], *, kernel: str = "auto") -> StructNet:
        """The network that a state dict describes. Raises ValueError if the parts do not fit each other."""
        topology, order = Topology.sorted(
            state["architecture"].tolist(), state["source"].cpu().numpy(), state["target"].cpu().numpy()
        )
        if np.any(np.diff(order) < 0):
            raise ValueError("the connections are not in their order")
        names = list(ACTIVATIONS)
        code = int(state["activation"])
        if not 0 <= code < len(names):
            raise ValueError(f"unknown activation number {code}")
        return cls.from_parts(topology, state["values"].clone(), activation=names[code], kernel=kernel)


def flatten(images: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(batch, ...) -> (features, batch), contiguous: the layout in which links compute."""
    return images.reshape(len(images), prod(images.shape[1:])).to(dtype).t().contiguous()


def initial_values(topology: Topology, rng: np.random.Generator, activation: str = "relu") -> np.ndarray:
    """(parameters,) float64: normal with variance gain ÷ fan-in that exists (He et al. 2015); biases 0.

    The gain is 2 for ReLU units and 1 for others and for the output.
    """
    hidden_gain = 2.0 if activation == "relu" else 1.0
    gain = np.where(topology.target < topology.offsets[-2], hidden_gain, 1.0)
    spread = np.sqrt(gain / topology.fan_in()[topology.target])
    return np.concatenate([rng.standard_normal(topology.connections) * spread, np.zeros(topology.biases)])
