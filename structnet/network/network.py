"""StructNet: ordered groups of units, joined by sparse links, with all values in one flat vector.

One pass over the links in each direction is all there is to computing it, so training, diagnosis and autograd
share two pure functions: `propagate` gives the activations of every group, `backpropagate` turns the error at
the output into the gradient of the flat vector and the error at every group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch import nn

from structnet.compiled.plan import one_blas_thread
from structnet.network.activations import ACTIVATIONS, activation_named
from structnet.network.initial_values import initial_values
from structnet.network.link import SparseLink
from structnet.network.optimizer import Adam
from structnet.network.random_topology import random_topology
from structnet.network.topology import Topology, parameters_dense
from structnet.seeds import stream
from structnet.storage.snapshot_files import read_files, write_files


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
        """(batch, ...) -> (batch, classes) logits; differentiable once."""
        logits: torch.Tensor = _Propagation.apply(self.values, flatten(images, self.values.dtype), self)
        return logits.t()

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
        """Connections that exist."""
        return self.topology.connections

    @property
    def parameters_dense(self) -> int:
        """Parameters of the fully connected network of the same shape."""
        return parameters_dense(self.topology.architecture)

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

    def like(self, topology: Topology, values: torch.Tensor | np.ndarray) -> StructNet:
        """A network with this one's activation, kernel, device and number type, of this topology and these values.

        values: (parameters,); they are not copied where they are a tensor of that device and type.
        """
        flat = torch.as_tensor(values).to(self.values.device, self.values.dtype)
        return StructNet.from_parts(topology, flat, activation=self.activation, kernel=self.kernel)

    def with_values(self, values: torch.Tensor | np.ndarray) -> StructNet:
        """The same connections with other (parameters,) values; see `like`."""
        return self.like(self.topology, values)

    def fork(self) -> StructNet:
        """A copy with values of its own; the topology, which never changes, is shared."""
        return self.with_values(self.values.detach().clone())

    def to_arrays(self) -> dict[str, Any]:
        """Plain arrays and names from which `from_arrays` makes the network; on the CPU values are a view."""
        return {
            "architecture": self.topology.architecture,
            "source": self.topology.source,
            "target": self.topology.target,
            "activation": self.activation,
            "kernel": self.kernel,
            "values": self.values.detach().cpu().numpy(),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any], device: torch.device | str = "cpu") -> StructNet:
        """The network of `to_arrays`, with values of its own; arrays that go with it are left aside."""
        topology = Topology(tuple(arrays["architecture"]), arrays["source"], arrays["target"])
        values = torch.from_numpy(np.array(arrays["values"])).to(device)
        return cls.from_parts(
            topology, values, activation=arrays["activation"], kernel=arrays.get("kernel", "auto")
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

    def describe(self) -> str:
        """One line: architecture, parameters, connections, density."""
        shape = "-".join(map(str, self.architecture))
        return (
            f"{shape}: {self.parameter_count:,} parameters ({self.connection_count:,} connections, "
            f"density {self.topology.density:.4f}; dense {self.parameters_dense:,})"
        )

    def extra_repr(self) -> str:
        """What torch prints in brackets."""
        return self.describe()

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
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


def propagate(network: StructNet, values: torch.Tensor, inputs: torch.Tensor) -> list[torch.Tensor]:
    """Activations of every group, each (units, batch), input first; the last are the logits.

    values: (parameters,) the flat vector. inputs: (input units, batch), contiguous, of the same number type. Raises
    ValueError if the inputs are not that.
    """
    _check_inputs(network, values, inputs)
    if network.is_compiled:
        return [inputs, *_groups_of(network, _compiled_activations(network, values, inputs))]
    activation = activation_named(network.activation).apply
    last = network.topology.groups - 1
    activations = [inputs]
    for group, incoming in enumerate(network.incoming):
        if group == 0:
            continue
        state = values[network.topology.bias_spans[group]].unsqueeze(1)
        for link in incoming:
            state = link.kernel.forward(link, values[link.span], activations[link.pair[0]], state)
        if not incoming:
            state = state.repeat(1, inputs.shape[1])
        activations.append(state if group == last else activation(state))
    return activations


def _check_inputs(network: StructNet, values: torch.Tensor, inputs: torch.Tensor) -> None:
    """Compiled loops look at no bounds, so that none but what fits may reach them."""
    units = network.topology.architecture[0]
    if inputs.dim() != 2 or len(inputs) != units:
        raise ValueError(
            f"inputs are {tuple(inputs.shape)}, but the network has {units} input units: (units, batch)"
        )
    if inputs.dtype != values.dtype or not inputs.is_contiguous():
        layout = "" if inputs.is_contiguous() else ", not contiguous"
        raise ValueError(f"inputs are {inputs.dtype}{layout}, but must be contiguous {values.dtype}")
    if len(values) != network.parameter_count:
        raise ValueError(f"{len(values)} values for {network.parameter_count} parameters")


def backpropagate(
    network: StructNet,
    values: torch.Tensor,
    activations: list[torch.Tensor],
    error: torch.Tensor,
    *,
    input_error: bool = False,
) -> tuple[torch.Tensor, list[torch.Tensor | None]]:
    """Gradient of the flat vector, (parameters,), and the error at every group's pre-activation, (units, batch).

    error: (classes, batch) derivative of the loss by the logits. The entry of group 0 is the derivative by
    the inputs if input_error is asked for, else None; a group that reaches no output has None too. Raises ValueError
    if the error is not of the logits' shape.
    """
    if error.shape != activations[-1].shape:
        raise ValueError(
            f"the error at the output is {tuple(error.shape)}, but the logits {tuple(activations[-1].shape)}"
        )
    if network.is_compiled:
        return _compiled_gradients(network, values, activations, error, input_error)
    slope = activation_named(network.activation).slope
    gradient = torch.zeros_like(values)
    errors: list[torch.Tensor | None] = [None] * len(activations)
    errors[-1] = error.contiguous()
    for group in range(len(activations) - 1, 0, -1):
        here = errors[group]
        if here is None:
            continue
        if group < len(activations) - 1:
            here = errors[group] = slope(activations[group]).mul_(here)
        torch.sum(here, dim=1, out=gradient[network.topology.bias_spans[group]])
        for link in network.incoming[group]:
            source = link.pair[0]
            link.kernel.value_gradient(link, here, activations[source], gradient[link.span])
            if source > 0 or input_error:
                upstream = link.kernel.source_gradient(link, values[link.span], here)
                known = errors[source]
                errors[source] = upstream if known is None else known + upstream
    return gradient, errors


def _groups_of(network: StructNet, rows: torch.Tensor) -> list[torch.Tensor]:
    """The rows behind the input, (units, batch), by group."""
    return list(torch.split(rows, list(network.topology.architecture[1:])))


def _compiled_activations(network: StructNet, values: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
    from structnet.compiled.passes import activations

    plan, seen = network.topology.plan, inputs.detach().numpy()
    state = np.empty((plan.rows, seen.shape[1]), dtype=seen.dtype)
    matrix = np.empty(plan.cells, dtype=seen.dtype)
    with one_blas_thread(plan):
        activations(plan, ACTIVATIONS[network.activation].code, values.detach().numpy(), seen, state, matrix)
    return torch.from_numpy(state)


def _compiled_gradients(
    network: StructNet,
    values: torch.Tensor,
    activations: list[torch.Tensor],
    error: torch.Tensor,
    input_error: bool,
) -> tuple[torch.Tensor, list[torch.Tensor | None]]:
    from structnet.compiled.passes import gradients, input_errors

    plan, flat = network.topology.plan, values.detach().numpy()
    inputs, state = activations[0].detach().numpy(), torch.cat(activations[1:]).numpy()
    errors, gradient = np.empty_like(state), np.zeros_like(flat)
    errors[-len(error) :] = error.numpy()
    matrix = np.empty(plan.cells, dtype=flat.dtype)
    into = np.zeros_like(inputs) if input_error else None
    with one_blas_thread(plan):
        gradients(plan, ACTIVATIONS[network.activation].code, flat, inputs, state, errors, gradient, matrix)
        if into is not None:
            input_errors(plan, flat, errors, matrix, into)
    reaching = _reaching_output(network.topology)
    groups = _groups_of(network, torch.from_numpy(errors))
    first = None if into is None else torch.from_numpy(into)
    return torch.from_numpy(gradient), [
        first,
        *(found if group in reaching else None for group, found in enumerate(groups, start=1)),
    ]


def _reaching_output(topology: Topology) -> set[int]:
    """The groups from which connections lead to the output, itself included."""
    reaching = {topology.groups - 1}
    for source, target in sorted(topology.links, key=lambda pair: -pair[1]):
        if target in reaching:
            reaching.add(source)
    return reaching


class _Propagation(torch.autograd.Function):
    """`propagate` for autograd: differentiable by the values and by the inputs, once."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, inputs: torch.Tensor, network: StructNet) -> torch.Tensor:
        activations = propagate(network, values, inputs)
        ctx.network = network
        ctx.save_for_backward(values, *activations)
        return activations[-1]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, error: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None, None]:
        values, *activations = ctx.saved_tensors
        wants_input = ctx.needs_input_grad[1]
        gradient, errors = backpropagate(
            ctx.network, values, list(activations), error, input_error=wants_input
        )
        if not wants_input:
            return gradient, None, None
        return gradient, torch.zeros_like(activations[0]) if errors[0] is None else errors[0], None


def flatten(images: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(batch, ...) -> (features, batch), contiguous: the layout in which links compute."""
    return images.reshape(len(images), prod(images.shape[1:])).to(dtype).t().contiguous()
