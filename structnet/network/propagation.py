"""One pass over the links in each direction: all there is to computing a network.

`propagate` gives the activations of every group, `backpropagate` turns the error at the output into the gradient of the
flat vector and the error at every group. Training, diagnosis and autograd (`Propagation`) share both. A network that
asks for no kernel of torch's is computed by compiled loops.
"""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from structnet.compiled.plan import one_blas_thread
from structnet.network.activations import ACTIVATIONS, activation_named, srelu_errors
from structnet.network.block_normalisation import BlockNormalisation
from structnet.network.link import SparseLink
from structnet.network.normalisation import folded_values, scales
from structnet.network.tap_propagation import TapPass
from structnet.network.topology import Topology


class Computed(Protocol):
    """What is computed: a structnet.network.network.StructNet, of which no more than this is needed here."""

    activation: str
    topology: Topology

    @property
    def statistics(self) -> torch.Tensor | None:
        """What feature maps are normalised by, or None."""

    @property
    def is_compiled(self) -> bool:
        """Whether compiled loops compute it."""

    @property
    def incoming(self) -> list[list[SparseLink]]:
        """The links that end at each group."""


class Dropout(NamedTuple):
    """Hidden units that are dropped. masks: factor of each, (hidden units, batch): 0, or 1 ÷ (1 - share)."""

    share: float
    masks: torch.Tensor


def propagate(
    network: Computed,
    values: torch.Tensor,
    inputs: torch.Tensor,
    dropout: Dropout | None = None,
    normalisation: BlockNormalisation | None = None,
) -> list[torch.Tensor]:
    """Activations of every group, each (units, batch), input first; the last are the logits.

    Of feature maps they are (units, positions · batch), as structnet.network.tap_propagation says.

    values: (parameters,) the flat vector. inputs: (input units, batch), contiguous, of the same number type.
    normalisation: of maps by what they are on these inputs, as in training, and not by what the network holds. Raises
    ValueError if the inputs are not that.
    """
    _check_inputs(network, values, inputs)
    if network.is_compiled and dropout is None and normalisation is None:
        if network.topology.architecture.has_maps:
            return TapPass(network, values, inputs).activations
        return [inputs, *_groups_of(network, _compiled_activations(network, values, inputs))]
    values = folded_values(network, values) if normalisation is None else values
    activation = activation_named(network.activation)
    last = network.topology.groups - 1
    shape = network.topology.architecture
    activations = [inputs.view(shape[0], shape.area(0) * inputs.shape[1])]
    for group in range(1, last + 1):
        state = _state_of(network, values, activations, group, normalisation)
        if group < last:
            state = activation.of(state, _shapes_of(network, values, group))
            if dropout is not None:
                state = state * dropout.masks[_hidden_of(network.topology, group)]
        activations.append(state)
    return activations


def _state_of(
    network: Computed,
    values: torch.Tensor,
    activations: list[torch.Tensor],
    group: int,
    normalisation: BlockNormalisation | None = None,
) -> torch.Tensor:
    """What a group is before its activation, (units, batch), by torch; activations: of the groups before it."""
    bias = values[network.topology.bias_spans[group]]
    own = normalisation if normalisation is not None and normalisation.normalises(group) else None
    state = (bias if own is None else torch.zeros_like(bias)).unsqueeze(1)
    incoming = network.incoming[group]
    for link in incoming:
        state = link.kernel.forward(link, values[link.span], activations[link.pair[0]], state)
    if not incoming:
        shape = network.topology.architecture
        state = state.repeat(1, activations[0].shape[1] // shape.area(0) * shape.area(group))
    return state if own is None else own.after(group, state, bias)


def _hidden_of(topology: Topology, group: int) -> slice:
    """The units of a hidden group among all hidden units."""
    units = topology.units_of(group)
    return slice(units.start - topology.hidden.start, units.stop - topology.hidden.start)


def _shapes_of(network: Computed, flat: torch.Tensor, group: int) -> torch.Tensor:
    """What shapes the activations of a hidden group, as a view of (units, numbers)."""
    topology = network.topology
    shapes = topology.shapes(flat).view(topology.hidden.stop - topology.hidden.start, topology.shape_numbers)
    return shapes[_hidden_of(topology, group)]


def _check_inputs(network: Computed, values: torch.Tensor, inputs: torch.Tensor) -> None:
    """Compiled loops look at no bounds, so that none but what fits may reach them."""
    units = network.topology.architecture.inputs
    if inputs.dim() != 2 or len(inputs) != units:
        raise ValueError(
            f"inputs are {tuple(inputs.shape)}, but the network has {units} input units: (units, batch)"
        )
    if inputs.dtype != values.dtype or not inputs.is_contiguous():
        layout = "" if inputs.is_contiguous() else ", not contiguous"
        raise ValueError(f"inputs are {inputs.dtype}{layout}, but must be contiguous {values.dtype}")
    if len(values) != network.topology.parameters:
        raise ValueError(f"{len(values)} values for {network.topology.parameters} parameters")


def backpropagate(
    network: Computed,
    values: torch.Tensor,
    activations: list[torch.Tensor],
    error: torch.Tensor,
    *,
    input_error: bool = False,
    dropout: Dropout | None = None,
    normalisation: BlockNormalisation | None = None,
) -> tuple[torch.Tensor, list[torch.Tensor | None]]:
    """Gradient of the flat vector, (parameters,), and the error at every group's pre-activation, (units, batch).

    error: (classes, batch) derivative of the loss by the logits. The entry of group 0 is the derivative by
    the inputs if input_error is asked for, else None; a group that reaches no output has None too. dropout,
    normalisation: of the forward pass. Raises ValueError if the error is not of the logits' shape.
    """
    if error.shape != activations[-1].shape:
        raise ValueError(
            f"the error at the output is {tuple(error.shape)}, but the logits {tuple(activations[-1].shape)}"
        )
    if network.is_compiled and dropout is None and normalisation is None:
        if network.topology.architecture.has_maps:
            return _through_maps(network, values, activations, error, input_error)
        return _compiled_gradients(network, values, activations, error, input_error)
    is_folded = network.statistics is not None and normalisation is None
    values = folded_values(network, values) if is_folded else values
    gradient = torch.zeros_like(values)
    errors: list[torch.Tensor | None] = [None] * len(activations)
    errors[-1] = error.contiguous()
    for group in range(len(activations) - 1, 0, -1):
        here = errors[group]
        if here is None:
            continue
        if group < len(activations) - 1:
            here = errors[group] = _before_activation(
                network, values, activations, group, here, gradient, dropout
            )
        torch.sum(here, dim=1, out=gradient[network.topology.bias_spans[group]])
        if normalisation is not None and normalisation.normalises(group):
            here = errors[group] = normalisation.before(group, here)
        _return_links(network, values, activations, errors, gradient, group, input_error)
    if is_folded:
        gradient *= scales(network)[0]
    if errors[0] is not None:
        errors[0] = errors[0].view(network.topology.architecture.inputs, error.shape[1])
    return gradient, errors


def _return_links(
    network: Computed,
    values: torch.Tensor,
    activations: list[torch.Tensor],
    errors: list[torch.Tensor | None],
    gradient: torch.Tensor,
    group: int,
    input_error: bool,
) -> None:
    """Fills the gradient of the links that end at a group, and adds to the errors of the groups they come from."""
    here = errors[group]
    assert here is not None
    for link in network.incoming[group]:
        source = link.pair[0]
        link.kernel.value_gradient(link, here, activations[source], gradient[link.span])
        if source > 0 or input_error:
            upstream = link.kernel.source_gradient(link, values[link.span], here)
            known = errors[source]
            errors[source] = upstream if known is None else known + upstream


def _before_activation(
    network: Computed,
    values: torch.Tensor,
    activations: list[torch.Tensor],
    group: int,
    error: torch.Tensor,
    gradient: torch.Tensor,
    dropout: Dropout | None,
) -> torch.Tensor:
    """The error before the activation of a hidden group, for that behind it; fills its part of the shapes' gradient."""
    activation, seen = activation_named(network.activation), activations[group]
    if dropout is not None:
        error = error * dropout.masks[_hidden_of(network.topology, group)]
        seen = seen * (1 - dropout.share)
    if not activation.shape:
        return activation.slope(seen).mul_(error)
    state, shapes = _state_of(network, values, activations, group), _shapes_of(network, values, group)
    error, by_shapes = srelu_errors(state, shapes, error)
    _shapes_of(network, gradient, group).copy_(by_shapes)
    return error


def _groups_of(network: Computed, rows: torch.Tensor) -> list[torch.Tensor]:
    """The rows behind the input, (units, batch), by group."""
    sizes = list(network.topology.architecture[1:])
    return list(torch.split(rows[: sum(sizes)], sizes))


def _compiled_activations(network: Computed, values: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
    from structnet.compiled.passes import activations

    plan, seen = network.topology.plan, inputs.detach().numpy()
    code = ACTIVATIONS[network.activation].code
    state = np.empty((plan.state_rows(code), seen.shape[1]), dtype=seen.dtype)
    matrix = np.empty(plan.cells, dtype=seen.dtype)
    with one_blas_thread(plan):
        activations(plan, code, values.detach().numpy(), seen, state, matrix)
    return torch.from_numpy(state)


def _compiled_gradients(
    network: Computed,
    values: torch.Tensor,
    activations: list[torch.Tensor],
    error: torch.Tensor,
    input_error: bool,
) -> tuple[torch.Tensor, list[torch.Tensor | None]]:
    from structnet.compiled.passes import gradients, input_errors

    topology, flat = network.topology, values.detach().numpy()
    plan = topology.plan
    inputs = activations[0].detach().numpy()
    if topology.shape_numbers:  # which need what was there before them
        state = _compiled_activations(network, values, activations[0]).numpy()
    else:
        state = torch.cat(activations[1:]).numpy()
    errors, gradient = np.empty((plan.rows, inputs.shape[1]), dtype=state.dtype), np.zeros_like(flat)
    errors[-len(error) :] = error.numpy()
    matrix = np.empty(plan.cells, dtype=flat.dtype)
    into = np.zeros_like(inputs) if input_error else None
    with one_blas_thread(plan):
        gradients(plan, ACTIVATIONS[network.activation].code, flat, inputs, state, errors, gradient, matrix)
        if into is not None:
            input_errors(plan, flat, errors, matrix, into)
    reaching = reaching_output(topology)
    groups = _groups_of(network, torch.from_numpy(errors))
    first = None if into is None else torch.from_numpy(into)
    return torch.from_numpy(gradient), [
        first,
        *(found if group in reaching else None for group, found in enumerate(groups, start=1)),
    ]


def _through_maps(
    network: Computed,
    values: torch.Tensor,
    activations: list[torch.Tensor],
    error: torch.Tensor,
    input_error: bool,
) -> tuple[torch.Tensor, list[torch.Tensor | None]]:
    """As `_compiled_gradients`, of a network of feature maps, whose forward pass is made once more."""
    inputs = activations[0].reshape(network.topology.architecture.inputs, -1)
    gradient, errors = TapPass(network, values, inputs).backward(error, input_error=input_error)
    reaching = reaching_output(network.topology)
    first = errors[0].reshape(inputs.shape) if input_error else None
    return gradient, [
        first,
        *(found if group in reaching else None for group, found in enumerate(errors) if group),
    ]


def reaching_output(topology: Topology) -> set[int]:
    """The groups from which connections lead to the output, itself included."""
    reaching = {topology.groups - 1}
    for source, target in sorted(topology.links, key=lambda pair: -pair[1]):
        if target in reaching:
            reaching.add(source)
    return reaching


class Propagation(torch.autograd.Function):
    """`propagate` for autograd: differentiable by the values and by the inputs, once."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, inputs: torch.Tensor, network: Computed) -> torch.Tensor:
        """(classes, batch) logits."""
        activations = propagate(network, values, inputs)
        ctx.network = network
        ctx.save_for_backward(values, *activations)
        return activations[-1]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, error: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None, None]:
        """The derivatives by values and inputs."""
        values, *activations = ctx.saved_tensors
        wants_input = ctx.needs_input_grad[1]
        gradient, errors = backpropagate(
            ctx.network, values, list(activations), error, input_error=wants_input
        )
        if not wants_input:
            return gradient, None, None
        inputs = ctx.network.topology.architecture.inputs
        none = torch.zeros_like(activations[0]).reshape(inputs, -1)
        return gradient, none if errors[0] is None else errors[0], None


def flatten(images: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(batch, ...) -> (features, batch), contiguous: the layout in which links compute."""
    return images.reshape(len(images), prod(images.shape[1:])).to(dtype).t().contiguous()
