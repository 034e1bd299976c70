"""What a network lacks: saturated and dead units, gradient flow, and where a new connection would help most.

Everything comes from one forward and one backward pass over training images. The gradient of the loss by a
connection that does not exist is the product of the error at its target and the activation at its source,
averaged over the images (Evci et al. 2020, RigL), so one matrix product per pair of groups ranks all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch

from structnet.measure.ports import seen_at
from structnet.measure.tap_gradient import tap_gradient
from structnet.network.activations import Activation, activation_named
from structnet.network.block_normalisation import BlockNormalisation
from structnet.network.network import StructNet
from structnet.network.propagation import backpropagate, flatten, propagate, reaching_output
from structnet.network.tap_propagation import TapPass
from structnet.network.topology import Topology

SMALLEST_NORM = 1e-6
LARGEST_NORM = 10.0  # times the median of all links
SILENT = 0.01  # a bounded activation within this of 0 does not fire
AT_BOUND = 0.95
DEAD_BELOW = 0.01  # share of the images
SATURATED_ABOVE = 3.0  # robust standard deviations above the median of the group
EXTREMA_SHARE = 0.3


@dataclass
class Diagnosis:
    """A network on n training images; what is not needed is not computed.

    loss: mean cross-entropy in nats. activations: per group (units, n). errors: per group (units, n), the
    derivative of the mean loss by the pre-activation; None for the input and where nothing reaches the output. Of
    feature maps every position of an image is a sample, (units, positions · n), and errors are those before maps are
    normalised, by what they are on these images. statistics: their means and variances there, (2, units behind the
    input), or None where nothing is normalised. gradient: (parameters,) of the mean loss by the flat vector.
    dead_below, saturated_above: as in `diagnose`.
    """

    topology: Topology
    activation: Activation
    loss: float
    activations: list[torch.Tensor]
    errors: list[torch.Tensor | None]
    gradient: torch.Tensor
    dead_below: float = DEAD_BELOW
    saturated_above: float = SATURATED_ABOVE
    statistics: np.ndarray | None = None
    _products: dict[tuple[int, int], torch.Tensor] = field(default_factory=dict, repr=False)
    _absent: dict[tuple[int, int], torch.Tensor] = field(default_factory=dict, repr=False)

    @cached_property
    def firing_rate(self) -> np.ndarray:
        """(units,) share of the images on which each unit fires, over all groups."""
        return np.concatenate([firing_rate(group, self.activation) for group in self.activations])

    @cached_property
    def mean_activation(self) -> np.ndarray:
        """(units,) over all groups."""
        return np.concatenate([group.mean(dim=1).double().cpu().numpy() for group in self.activations])

    @cached_property
    def saturated(self) -> np.ndarray:
        """Numbers of the hidden units that are, ascending."""
        found = [
            np.flatnonzero(saturated_units(self.activations[group], self.activation, self.saturated_above))
            + self.topology.units_of(group).start
            for group in range(1, self.topology.groups - 1)
        ]
        return np.concatenate([np.empty(0, dtype=np.int64), *found])

    @cached_property
    def dead(self) -> np.ndarray:
        """Numbers of the hidden units that are, ascending."""
        hidden = np.arange(self.topology.hidden.start, self.topology.hidden.stop)
        return hidden[self.firing_rate[hidden] < self.dead_below]

    @cached_property
    def gradient_norms(self) -> dict[tuple[int, int], float]:
        """By link."""
        return {pair: float(self.gradient[span].norm()) for pair, span in self.topology.links.items()}

    @property
    def warnings(self) -> list[str]:
        """On the flow of gradients, one line each."""
        return _warnings(self.gradient_norms)

    @cached_property
    def spread(self) -> np.ndarray:
        """(units,) standard deviation of the activation over the images; exactly 0 where it is only rounding."""
        return np.concatenate([spread_of(group) for group in self.activations])

    def outer(self, source_group: int, target_group: int) -> torch.Tensor:
        """(target units, source ports) mean outer product of error and activation.

        It is the gradient of the loss by each connection, whether it exists or not: the columns are those of
        `Topology.positions`. Zero where the target group reaches no output.
        """
        pair = source_group, target_group
        if pair not in self._products:
            self._products[pair] = self._product(pair)
        return self._products[pair]

    def _product(self, pair: tuple[int, int]) -> torch.Tensor:
        error, source = self.errors[pair[1]], self.activations[pair[0]]
        columns, rows = self.topology.shape_of(pair)
        if error is None:
            return source.new_zeros(rows, columns)
        shape = self.topology.architecture
        if not (shape.is_plain(pair[0]) or shape.is_plain(pair[1])):
            return tap_gradient(shape, pair, error, source).view(rows, columns)
        parts = [error @ seen_at(shape, pair, code, source).t() for code in shape.port_range(pair)]
        return parts[0] if len(parts) == 1 else torch.stack(parts, dim=2).view(rows, columns)

    def absent(
        self,
        source_group: int,
        target_group: int,
        k: int,
        *,
        sources: Sequence[int] | np.ndarray | None = None,
        targets: Sequence[int] | np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The k absent connections between two groups with the largest |gradient|, largest first.

        Returns source ports, target units and the gradients, fewer than k where fewer have one; equal
        gradients come in the order of (target, source). The groups need not be linked. sources, targets: only
        connections between these units.
        """
        matrix = self.absent_gradient(source_group, target_group)
        rows = self._positions(targets, target_group)
        ports = len(self.topology.architecture.port_range((source_group, target_group)))
        units = self._positions(sources, source_group)
        columns = (units[:, None] * ports + np.arange(ports)).reshape(-1)
        if targets is not None:
            matrix = matrix[torch.from_numpy(rows).to(matrix.device)]
        if sources is not None:
            matrix = matrix[:, torch.from_numpy(columns).to(matrix.device)]
        row, column, gradient = largest(matrix, k)
        return *self.topology.ends((source_group, target_group), rows[row], columns[column]), gradient

    def absent_gradient(self, source_group: int, target_group: int) -> torch.Tensor:
        """As `outer`, and 0 for connections that exist."""
        pair = source_group, target_group
        if pair not in self._absent:
            matrix = self.outer(*pair).clone()
            matrix.view(-1)[torch.from_numpy(self.topology.cells(pair)).to(matrix.device)] = 0.0
            self._absent[pair] = matrix
        return self._absent[pair]

    def _positions(self, units: Sequence[int] | np.ndarray | None, group: int) -> np.ndarray:
        if units is None:
            return np.arange(self.topology.architecture[group])
        positions = self.topology.position_in(group, np.unique(np.asarray(units, dtype=np.int64)))
        if np.any((positions < 0) | (positions >= self.topology.architecture[group])):
            raise ValueError(f"units {list(units)} are not all of group {group}")
        return positions


def diagnose(
    network: StructNet,
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    dead_below: float = DEAD_BELOW,
    saturated_above: float = SATURATED_ABOVE,
) -> Diagnosis:
    """Diagnoses a network on training images, (n, ...), with labels, (n,): 1,000 or more for steady results.

    dead_below: a hidden unit is dead if it fires on a smaller share of the images. It fires where its
    activation is above 0, or, if the activation is bounded, further than 0.01 from 0. saturated_above: a unit
    is saturated if its mean activation lies more than so many robust standard deviations (1.4826 · MAD) above
    the median of its group; where the activation is bounded, if it is within 5 % of the bound on most images.
    Raises ValueError if there are no images, or not one label each.
    """
    if len(images) == 0 or len(images) != len(labels):
        raise ValueError(f"{len(images)} images and {len(labels)} labels, but one label each is needed")
    inputs = flatten(images, network.values.dtype)
    return diagnose_inputs(network, inputs, labels, dead_below=dead_below, saturated_above=saturated_above)


def diagnose_inputs(
    network: StructNet,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    *,
    dead_below: float = DEAD_BELOW,
    saturated_above: float = SATURATED_ABOVE,
) -> Diagnosis:
    """As `diagnose`, of inputs as links take them, (features, n)."""
    values, images = network.values.detach(), inputs.shape[1]
    if network.topology.architecture.has_maps and network.is_compiled:
        return _diagnose_maps(network, inputs, labels, dead_below, saturated_above)
    own = network.statistics
    normalisation = None if own is None else BlockNormalisation(network.topology, own, images, images)
    activations = propagate(network, values, inputs, normalisation=normalisation)
    loss, error = _cross_entropy(activations[-1], labels)
    gradient, errors = backpropagate(network, values, activations, error, normalisation=normalisation)
    return Diagnosis(
        network.topology,
        activation_named(network.activation),
        loss,
        activations,
        errors,
        gradient,
        dead_below,
        saturated_above,
        None if normalisation is None else normalisation.statistics.double().cpu().numpy(),
    )


def _diagnose_maps(
    network: StructNet,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    dead_below: float,
    saturated_above: float,
) -> Diagnosis:
    """As `diagnose_inputs`, of a compiled network of feature maps, normalised by these images as in training."""
    seen = TapPass(network, network.values.detach(), inputs, by_batch=True)
    activations = seen.activations
    loss, error = _cross_entropy(activations[-1], labels)
    gradient, errors = seen.backward(error)
    reaching = reaching_output(network.topology)
    return Diagnosis(
        network.topology,
        activation_named(network.activation),
        loss,
        activations,
        [found if group in reaching and group else None for group, found in enumerate(errors)],
        gradient,
        dead_below,
        saturated_above,
        seen.statistics if seen.by_batch else None,
    )


def unhealthy_units(network: StructNet, inputs: torch.Tensor) -> tuple[int, int]:
    """How many hidden units `diagnose` finds saturated and dead on inputs (features, images)."""
    saturated, dead = unhealthy_by_group(network, inputs)
    return sum(saturated), sum(dead)


def unhealthy_by_group(network: StructNet, inputs: torch.Tensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """As `unhealthy_units`, of each group: (saturated, dead), each (groups,), and 0 for input and output.

    A forward pass of the network in use: maps are normalised by what the network holds.
    """
    hidden = propagate(network, network.values.detach(), inputs)[1:-1]
    activation = activation_named(network.activation)
    saturated = [int(saturated_units(units, activation, SATURATED_ABOVE).sum()) for units in hidden]
    dead = [int((firing_rate(units, activation) < DEAD_BELOW).sum()) for units in hidden]
    return (0, *saturated, 0), (0, *dead, 0)


def largest(matrix: torch.Tensor, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row, column and value of the k entries of largest |value|, largest first; entries of 0 are left out.

    Equal ones come in the order of (row, column), also where they compete for the last place: torch.topk
    alone would leave that to the machine.
    """
    magnitude = matrix.abs().reshape(-1)
    k = min(k, int(torch.count_nonzero(magnitude)))
    if k < 1:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), np.empty(0)
    least = torch.topk(magnitude, k).values[-1]
    cells = (magnitude >= least).nonzero()[:, 0]
    cells = cells[torch.sort(magnitude[cells], descending=True, stable=True).indices[:k]]
    value = matrix.reshape(-1)[cells].double().cpu().numpy()
    place = cells.cpu().numpy()
    return place // matrix.shape[1], place % matrix.shape[1], value


def bottlenecks(diagnosis: Diagnosis, above: float = EXTREMA_SHARE) -> list[int]:
    """The hidden groups of which more than this share of the units is saturated or dead, the worst first."""
    topology = diagnosis.topology
    extrema = topology.group_of(np.union1d(diagnosis.saturated, diagnosis.dead))
    share = np.bincount(extrema, minlength=topology.groups) / topology.architecture
    order = np.argsort(-share, kind="stable")
    positions: list[int] = order[share[order] > above].tolist()
    return positions


def _cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> tuple[float, torch.Tensor]:
    """Mean loss in nats, and its derivative by the logits; logits: (classes, n)."""
    log_probability = torch.log_softmax(logits, dim=0)
    image = torch.arange(len(labels), device=logits.device)
    loss = float(-log_probability[labels, image].mean())
    error = log_probability.exp()
    error[labels, image] -= 1
    return loss, error / len(labels)


def firing_rate(units: torch.Tensor, activation: Activation) -> np.ndarray:
    """(units,) share of the images, of activations (units, n), on which each unit fires."""
    fires = units > 0 if activation.ceiling is None else units.abs() > SILENT
    return (torch.count_nonzero(fires, dim=1).double() / units.shape[1]).cpu().numpy()


def spread_of(units: torch.Tensor) -> np.ndarray:
    """(units,) standard deviation of activations, (units, n); exactly 0 where it is only rounding."""
    spread = units.std(dim=1, correction=0)
    is_real = spread > 1e-6 * units.abs().amax(dim=1)
    return torch.where(is_real, spread, torch.zeros_like(spread)).double().cpu().numpy()


def saturated_units(units: torch.Tensor, activation: Activation, above: float) -> np.ndarray:
    """(units,) booleans of one hidden group with activations (units, n); above: as in `diagnose`."""
    if activation.ceiling is not None:
        return ((units.abs() > AT_BOUND * activation.ceiling).double().mean(dim=1) > 0.5).cpu().numpy()
    mean = units.double().mean(dim=1).cpu().numpy()
    distance = mean - np.median(mean)
    spread = 1.4826 * float(np.median(np.abs(distance)))
    # Where most units do the same, rounding is all the spread there is, and every other unit would stand out.
    if spread <= 1e-6 * float(np.abs(mean).max()):
        return np.zeros(len(mean), dtype=bool)
    saturated: np.ndarray = distance > above * spread
    return saturated


def _warnings(norms: dict[tuple[int, int], float]) -> list[str]:
    typical = float(np.median(list(norms.values()))) if norms else 0.0
    warnings = []
    for (source, target), norm in norms.items():
        if norm < SMALLEST_NORM:
            warnings.append(f"link {source}→{target}: gradient norm {norm:.3g} is below {SMALLEST_NORM:g}")
        elif norm > LARGEST_NORM * typical:
            warnings.append(
                f"link {source}→{target}: gradient norm {norm:.3g} is above {LARGEST_NORM:g} × the median, "
                f"{typical:.3g}"
            )
    return warnings
