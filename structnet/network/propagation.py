"""The forward and the backward pass of a sparse network, written out as pure functions.

One pass over the links in each direction is all there is to it, so training, diagnosis and autograd share
these two functions: `propagate` gives the activations of every group, `backpropagate` turns the error at
the output into the gradient of the flat vector and the error at every group.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from structnet.network.activations import activation_named

if TYPE_CHECKING:
    from structnet.network.network import StructNet


def propagate(network: StructNet, values: torch.Tensor, inputs: torch.Tensor) -> list[torch.Tensor]:
    """Activations of every group, each (units, batch), input first; the last are the logits.

    values: (parameters,) the flat vector. inputs: (input units, batch), contiguous.
    """
    activation = activation_named(network.activation).apply
    last = network.topology.groups - 1
    activations = [inputs]
    for group, incoming in enumerate(network.incoming):
        if group == 0:
            continue
        state = values[network.bias_spans[group]].unsqueeze(1)
        for link in incoming:
            state = link.kernel.forward(link, values[link.span], activations[link.pair[0]], state)
        if not incoming:
            state = state.repeat(1, inputs.shape[1])
        activations.append(state if group == last else activation(state))
    return activations


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
    the inputs if input_error is asked for, else None; a group that reaches no output has None too.
    """
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
        torch.sum(here, dim=1, out=gradient[network.bias_spans[group]])
        for link in network.incoming[group]:
            source = link.pair[0]
            link.kernel.value_gradient(link, here, activations[source], gradient[link.span])
            if source > 0 or input_error:
                upstream = link.kernel.source_gradient(link, values[link.span], here)
                known = errors[source]
                errors[source] = upstream if known is None else known + upstream
    return gradient, errors


class Propagation(torch.autograd.Function):
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
