"""StructNet: ordered groups of units, joined by sparse links, with all values in one flat vector.

How it is computed is said in structnet.network.propagation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from structnet.errors import UserError
from structnet.network.activations import ACTIVATIONS, activation_named
from structnet.network.architecture import architecture_of, parameters_dense
from structnet.network.initial_values import initial_values
from structnet.network.link import SparseLink
from structnet.network.map_link import link_of
from structnet.network.normalisation import first_statistics, folded_values
from structnet.network.optimizer import Adam
from structnet.network.propagation import Propagation, flatten
from structnet.network.random_topology import random_topology
from structnet.network.structure_arrays import (
    STRUCTURE,
    architecture_in,
    check_statistics,
    structure_arrays,
    topology_in,
)
from structnet.network.topology import Topology
from structnet.seeds import stream
from structnet.storage.snapshot_files import read_files, write_files


class StructNet(nn.Module):
    """A sparse network in which only what exists is stored, trained and counted.

    `values` holds the connections in the order of the topology, then the biases of all units but the input:
    one (parameters,) vector. The structure of a network never changes; an edit makes a new network
    (structnet.network.edit), so a fork is cheap and nothing that holds the old one is surprised.

    Feature maps are normalised in training; `statistics`, (2, units behind the input), are the means and variances that
    stand for those of a batch when the network is used. None where nothing is normalised, as in networks without maps.

    net(images): (batch, ...) -> (batch, classes) logits; everything after the first dimension is flattened.
    """

    values: nn.Parameter
    statistics: torch.Tensor | None

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
            architecture,
            density,
            rng,
            allocation=allocation,
            ensure_paths=ensure_paths,
            shape_numbers=len(activation_named(activation).shape),
        )
        values = torch.from_numpy(initial_values(topology, rng, activation).astype(np.float32))
        self._set_up(topology, values, activation, kernel, first_statistics(topology))

    @classmethod
    def from_parts(
        cls,
        topology: Topology,
        values: torch.Tensor,
        *,
        activation: str = "relu",
        kernel: str = "auto",
        statistics: torch.Tensor | None = None,
    ) -> StructNet:
        """The network of this topology and these (parameters,) values, on their device, without a copy."""
        network = cls.__new__(cls)
        network._set_up(topology, values, activation, kernel, statistics)
        return network

    def _set_up(
        self,
        topology: Topology,
        values: torch.Tensor,
        activation: str,
        kernel: str,
        statistics: torch.Tensor | None,
    ) -> None:
        super().__init__()
        numbers = len(activation_named(activation).shape)
        if topology.shape_numbers != numbers:
            raise ValueError(
                f"{topology.shape_numbers} numbers a unit, but {activation} has {numbers} that shape it"
            )
        if len(values) != topology.parameters:
            raise ValueError(f"{len(values)} values for {topology.parameters} parameters")
        if numbers and topology.architecture.has_maps:
            raise UserError(
                f"activation is '{activation}', whose units learn a shape of their own, but feature maps have relu, "
                "tanh or sigmoid: choose one of these"
            )
        self.register_buffer("statistics", statistics, persistent=False)
        self.topology = topology
        self.activation = activation
        self.kernel = kernel
        self.values = nn.Parameter(values)
        self._links: tuple[torch.device, dict[tuple[int, int], SparseLink]] | None = None

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(batch, ...) -> (batch, classes) logits; differentiable once."""
        logits: torch.Tensor = Propagation.apply(self.values, flatten(images, self.values.dtype), self)
        return logits.t()

    @property
    def architecture(self) -> list[int]:
        """Units per group, input first."""
        return list(self.topology.architecture)

    @property
    def parameter_count(self) -> int:
        """Connections that exist + biases, and shapes of activations, of the units that exist."""
        return self.topology.parameters

    @property
    def connection_count(self) -> int:
        """Connections that exist."""
        return self.topology.connections

    @property
    def parameters_dense(self) -> int:
        """Parameters of the fully connected network of the same shape."""
        return parameters_dense(self.topology.architecture, self.topology.shape_numbers)

    @property
    def is_compiled(self) -> bool:
        """Whether compiled loops compute it: on a CPU, unless it asks for a kernel of torch's."""
        return (
            self.kernel == "auto"
            and self.values.device.type == "cpu"
            and self.values.dtype in (torch.float32, torch.float64)
        )

    @property
    def links(self) -> dict[tuple[int, int], SparseLink]:
        """(source group, target group) -> link, for the device the values are on."""
        device = self.values.device
        if self._links is None or self._links[0] != device:
            pairs = self.topology.links
            self._links = (
                device,
                {pair: link_of(self.topology, pair, device, self.kernel) for pair in pairs},
            )
        return self._links[1]

    @property
    def incoming(self) -> list[list[SparseLink]]:
        """The links that end at each group."""
        incoming: list[list[SparseLink]] = [[] for _ in self.topology.architecture]
        for pair, link in self.links.items():
            incoming[pair[1]].append(link)
        return incoming

    def like(
        self,
        topology: Topology,
        values: torch.Tensor | np.ndarray,
        statistics: torch.Tensor | np.ndarray | None = None,
    ) -> StructNet:
        """A network with this one's activation, kernel, device and number type, of this topology and these values.

        values: (parameters,), statistics: (2, units behind the input) or None for a network that does not normalise;
        they are not copied where they are tensors of that device and type.
        """
        flat, kept = (
            None if part is None else torch.as_tensor(part).to(self.values.device, self.values.dtype)
            for part in (values, statistics)
        )
        assert flat is not None
        return StructNet.from_parts(
            topology, flat, activation=self.activation, kernel=self.kernel, statistics=kept
        )

    def with_values(self, values: torch.Tensor | np.ndarray) -> StructNet:
        """The same connections with other (parameters,) values; see `like`."""
        return self.like(self.topology, values, None if self.statistics is None else self.statistics.clone())

    def folded(self) -> StructNet:
        """The network that computes the same without normalising: itself where nothing is normalised."""
        if self.statistics is None:
            return self
        return self.like(self.topology, folded_values(self, self.values.detach()))

    def fork(self) -> StructNet:
        """A copy with values of its own; the topology, which never changes, is shared."""
        return self.with_values(self.values.detach().clone())

    def to_arrays(self) -> dict[str, Any]:
        """Plain arrays and names from which `from_arrays` makes the network; on the CPU values are a view."""
        arrays = {
            "architecture": self.topology.architecture,
            "source": self.topology.source,
            "target": self.topology.target,
            "activation": self.activation,
            "kernel": self.kernel,
            "values": self.values.detach().cpu().numpy(),
        }
        return arrays if self.statistics is None else arrays | {"statistics": self.statistics.cpu().numpy()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any], device: torch.device | str = "cpu") -> StructNet:
        """The network of `to_arrays`, with values of its own; arrays that go with it are left aside."""
        numbers = len(activation_named(arrays["activation"]).shape)
        topology = Topology(
            architecture_of(arrays["architecture"]), arrays["source"], arrays["target"], numbers
        )
        values = torch.from_numpy(np.array(arrays["values"])).to(device)
        kept = arrays.get("statistics")
        return cls.from_parts(
            topology,
            values,
            activation=arrays["activation"],
            kernel=arrays.get("kernel", "auto"),
            statistics=None if kept is None else torch.from_numpy(np.array(kept)).to(device),
        )

    def save(
        self, path: str, *, preprocessing: dict[str, Any] | None = None, class_names: Sequence[str] = ()
    ) -> None:
        """Writes path.safetensors and path.json, a snapshot without a past: fresh optimizer, ages of 0."""
        fresh = Adam.for_values(self.values.detach()).to_arrays()
        fresh |= {"step": 0, "born": np.zeros(self.parameter_count, dtype=np.int64)}
        write_files(
            path, self.to_arrays() | fresh, preprocessing=preprocessing or {}, class_names=class_names
        )

    @classmethod
    def load(cls, path: str) -> StructNet:
        """The network of a snapshot, on the CPU. Raises UserError if it is missing or damaged."""
        return cls.from_arrays(read_files(path).arrays)

    def become(self, other: StructNet) -> None:
        """Takes over structure and values of another network; optimizers of the old values are void."""
        self.topology, self.activation, self.kernel = other.topology, other.activation, other.kernel
        self._links = None
        self.values = nn.Parameter(other.values.detach().clone())
        self.statistics = None if other.statistics is None else other.statistics.clone()

    def describe(self) -> str:
        """One line: architecture, parameters, connections, density."""
        shape = str(self.topology.architecture).replace(",", "-")
        return (
            f"{shape}: {self.parameter_count:,} parameters ({self.connection_count:,} connections, "
            f"density {self.topology.density:.4f}; dense {self.parameters_dense:,})"
        )

    def extra_repr(self) -> str:
        """What torch prints in brackets."""
        return self.describe()

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for name, array in structure_arrays(self.topology).items():
            destination[prefix + name] = torch.from_numpy(array.copy())
        if self.statistics is not None:
            destination[prefix + "statistics"] = self.statistics if keep_vars else self.statistics.detach()
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
            taken = {prefix + name for name in (*STRUCTURE, "statistics", "activation")}
            state_dict = {key: value for key, value in state_dict.items() if key not in taken}
        super()._load_from_state_dict(state_dict, prefix, *arguments, **options)

    @classmethod
    def from_state_dict(cls, state: Mapping[str, torch.Tensor], *, kernel: str = "auto") -> StructNet:
        """The network that a state dict describes. Raises ValueError if the parts do not fit each other."""
        names = list(ACTIVATIONS)
        code = int(state["activation"])
        if not 0 <= code < len(names):
            raise ValueError(f"unknown activation number {code}")
        arrays = {name: state[name].cpu().numpy() for name in STRUCTURE if name in state}
        numbers = len(ACTIVATIONS[names[code]].shape)
        topology = topology_in(arrays, architecture_in(arrays), numbers)
        kept = state.get("statistics")
        if kept is not None:
            check_statistics(kept.cpu().numpy(), topology)
        return cls.from_parts(
            topology,
            state["values"].clone(),
            activation=names[code],
            kernel=kernel,
            statistics=None if kept is None else kept.clone(),
        )
