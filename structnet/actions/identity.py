"""The identity: units that hand on what other units of an earlier group are, so that nothing changes (Net2Net).

After ReLU one connection of value 1 and a bias of 0 do that (Chen et al. 2016); of maps it is the tap in the middle of
the window. A map x that is normalised in training comes out as x ÷ deviation, if its bias is mean ÷ deviation and its
mean and variance are those of x: relu((x − mean) ÷ deviation + mean ÷ deviation), where x is never negative. Whoever
reads it multiplies by the deviation. So the network in use computes what it did, and so does that in training on the
images by which mean and variance were found.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from structnet.actions.base import Context, assigned, flat_gradient, flat_values, index_now
from structnet.actions.firing import deviations, moments, normal
from structnet.measure.diagnosis import Diagnosis
from structnet.measure.ports import sent_back
from structnet.network.activations import activation_named
from structnet.network.edit import Edit, add_group, connect, redirect
from structnet.network.network import StructNet
from structnet.network.topology import Topology

ROUNDINGS = 16


def biases_of(network: StructNet, count: int, statistics: np.ndarray | None) -> np.ndarray:
    """(units,) of so many units that hand on others; statistics: (2, units) of these, where they are normalised.

    Less by a few roundings, so that what was 0 comes out as 0, where nothing passes, and not as a little more.
    """
    if statistics is None:
        return np.zeros(count)
    exact = statistics[0] / deviations(statistics)
    biases: np.ndarray = exact - ROUNDINGS * torch.finfo(network.values.dtype).eps * np.abs(exact)
    return biases


def straight(topology: Topology, units: np.ndarray, group: int) -> np.ndarray:
    """The ports at which a group sees these units of one earlier group, as far as it can, as they are.

    Plain groups see maps as their mean.
    """
    shape = topology.architecture
    source = int(topology.group_of(units[0]))
    if shape.is_plain(source):
        return topology.port_of(units)
    return topology.port_of(units, shape.window**2 if shape.is_plain(group) else shape.centre)


def passed_on(
    network: StructNet, position: int, units: np.ndarray, statistics: np.ndarray | None = None
) -> Edit:
    """A new group before group `position`: the identity of these units, which hand it their outgoing connections.

    units: of one earlier hidden group, ascending; the new group has its sides. statistics: (2, units) of these units,
    where they are normalised. The output stays as it is where the activation is idempotent.
    """
    shape, group = network.topology.architecture, int(network.topology.group_of(units[0]))
    edit = add_group(
        network,
        position,
        biases_of(network, len(units), statistics),
        shape.sides[group],
        flat=group in shape.flat,
        statistics=statistics,
    )
    before, copies = edit.number_now(units), edit.new_units
    topology = edit.network.topology
    place = np.full(topology.units, -1, dtype=np.int64)
    place[before] = np.arange(len(units))
    leaving = np.flatnonzero(place[topology.source_unit] >= 0)
    of_unit = place[topology.source_unit[leaving]]
    code = topology.code_of_port(topology.source[leaving])
    handed_over = redirect(edit.network, leaving, topology.port_of(copies[of_unit], code))
    if statistics is not None:
        scaled = flat_values(edit.network)[leaving] * deviations(statistics)[of_unit]
        handed_over = assigned(handed_over, index_now(handed_over, leaving), scaled)
    edit = edit.then(handed_over)
    return edit.then(connect(edit.network, straight(topology, before, position), copies, 1.0))


def handed_on(context: Context, units: np.ndarray) -> np.ndarray | None:
    """(2, units) statistics of units of one hidden group on the images diagnosed; None where nothing is normalised."""
    group = int(context.topology.group_of(units[0]))
    if not context.normalises(group):
        return None
    key = moments, group
    if key not in context.found:
        context.found[key] = moments(context.diagnosis.activations[group])
    statistics: np.ndarray = context.found[key][:, context.topology.position_in(group, units)]
    return statistics


def at_identity(context: Context, group: int) -> Context:
    """The context with the errors that units handing on those of a hidden group would have, in the place of theirs.

    Activation and slope are the same, so without normalising the errors are. With it, what a unit gets back is
    normalised by what it hands on, and not by what the unit before it was.
    """
    if not context.normalises(group) or context.diagnosis.errors[group] is None:
        return context
    key = at_identity, group
    if key not in context.found:
        context.found[key] = replace(context, diagnosis=_with_errors_at(context, group))
    handing_on: Context = context.found[key]
    return handing_on


def _with_errors_at(context: Context, group: int) -> Diagnosis:
    diagnosis = context.diagnosis
    seen = diagnosis.activations[group]
    error = _error_behind(context, group)
    error *= activation_named(context.state.network.activation).slope(seen)
    brought, _ = normal(seen)
    share = (error * brought).mean(dim=1, keepdim=True)
    error -= error.mean(dim=1, keepdim=True)
    errors = list(diagnosis.errors)
    errors[group] = error.sub_(brought.mul_(share))
    return replace(diagnosis, errors=errors, _products={}, _absent={})


def gradients_at(
    context: Context, units: np.ndarray, statistics: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """(units,) each, of units that hand on these of one group: of the connection that does, and of the bias.

    context: that of `at_identity`. statistics: (2, units), where they are normalised.
    """
    topology, diagnosis = context.topology, context.diagnosis
    group = int(topology.group_of(units[0]))
    error, position = diagnosis.errors[group], topology.position_in(group, units)
    assert error is not None
    through = diagnosis.outer(group, group)[position, straight_columns(topology, group)[position]]
    if statistics is not None:
        # What is scaled down is read the more, so that its bias counts for more than that of its unit.
        return through.double().cpu().numpy(), flat_gradient(context)[topology.bias_of(units)] * deviations(
            statistics
        )
    return through.double().cpu().numpy(), error.sum(dim=1).double().cpu().numpy()[position]


def straight_columns(topology: Topology, group: int) -> np.ndarray:
    """(units,) the columns, in the matrix of a group's connections to itself, at which each unit is seen as it is."""
    shape = topology.architecture
    ports = len(shape.port_range((group, group)))
    return np.arange(shape[group]) * ports + (0 if shape.is_plain(group) else shape.centre)


def _error_behind(context: Context, group: int) -> torch.Tensor:
    """(units, positions · images) derivative of the loss by the activations of a group."""
    topology, diagnosis = context.topology, context.diagnosis
    shape, values = topology.architecture, flat_values(context.state.network)
    found = torch.zeros_like(diagnosis.activations[group])
    for pair, span in topology.links.items():
        error = diagnosis.errors[pair[1]]
        if pair[0] != group or error is None:
            continue
        row, column = topology.positions(pair)
        ports = shape.port_range(pair)
        for place, code in enumerate(ports):
            here = np.flatnonzero(column % len(ports) == place)
            if len(here):
                weight = np.zeros((shape[group], shape[pair[1]]))
                weight[column[here] // len(ports), row[here]] = values[span][here]
                found += sent_back(shape, pair, code, torch.from_numpy(weight).to(error) @ error)
    return found
