"""Halve: the maps of a hidden group get half the height and width, and those behind it no more than that.

Nothing is added: every tap stays where it is in its window, and the strides grow. What read a map position by position
has fewer to read (structnet.network.resolution). The network computes something else, so means and variances are those
of the images diagnosed. It costs up to three quarters fewer multiply-adds from there on, and sees further; what it
loses comes back slowly, so that short heats misjudge it.
"""

from __future__ import annotations

import numpy as np
import torch

from structnet.actions.base import Context, Proposal
from structnet.measure.passes import as_in_training
from structnet.network.edit import Edit, normalised_by
from structnet.network.network import StructNet
from structnet.network.resolution import halved, with_sides


def propose(context: Context) -> list[Proposal]:
    """One for every hidden group of maps that still can be halved."""
    found = [_halved(context, group) for group in range(1, context.topology.groups - 1)]
    return [proposal for proposal in found if proposal is not None]


def apply(network: StructNet, proposal: Proposal) -> Edit:
    plan = proposal.plan
    edit = with_sides(network, [(int(high), int(wide)) for high, wide in plan["sides"]])
    if "statistics" not in plan:
        return edit
    topology = network.topology
    return normalised_by(edit, np.arange(topology.hidden.start, topology.units), plan["statistics"])


def _halved(context: Context, group: int) -> Proposal | None:
    shape, network = context.topology.architecture, context.state.network
    sides = None if shape.is_plain(group) else halved(shape, group)
    if sides is None:
        return None
    edit = with_sides(network, sides)
    inputs = context.diagnosis.activations[0].reshape(shape.inputs, -1)
    activations, statistics = as_in_training(edit.network, inputs)
    high, wide = sides[group]
    return Proposal(
        "halve",
        f"group {group}: maps of {high} × {wide} instead of {shape.sides[group][0]} × {shape.sides[group][1]}",
        edit.added,
        -_divergence(context.diagnosis.activations[-1], activations[-1]),
        plan={"sides": np.array(sides), **({} if statistics is None else {"statistics": statistics})},
    )


def _divergence(before: torch.Tensor, after: torch.Tensor) -> float:
    """Bits per image by which one answer misses another: what is lost at once, if the first is right.

    before, after: (classes, images) logits.
    """
    said = torch.log_softmax(before.double(), dim=0)
    missed = (said.exp() * (said - torch.log_softmax(after.double(), dim=0))).sum(dim=0)
    return float(missed.mean() / np.log(2))
