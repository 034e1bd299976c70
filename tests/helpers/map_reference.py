"""What networks of feature maps should compute: dense convolutions of torch, differentiable.

Images and maps are (images, maps, height, width), as torch has them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch.nn.functional import conv2d, cross_entropy, pad

from structnet import StructNet
from structnet.network.architecture import Architecture
from structnet.network.normalisation import LEAST_VARIANCE
from structnet.network.topology import Topology

ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}
# Group and its maps before the bias, (images, maps, height, width) -> the same, normalised.
Normalise = Callable[[int, torch.Tensor], torch.Tensor]


def map_network(
    architecture: Architecture,
    taps: Sequence[tuple[int, int, int, float]],
    biases: Sequence[float],
    kernel: str = "auto",
) -> StructNet:
    """A float64 network of these (source unit, code of its port, target unit, value); units are numbered through."""
    nothing = np.empty(0, dtype=np.int32)
    bare = Topology(architecture, nothing, nothing)
    unit, code, target, value = (np.array(column) for column in zip(*taps))
    topology, order = Topology.sorted(architecture, bare.port_of(unit, code), target)
    values = torch.from_numpy(np.concatenate([value[order], biases]).astype(np.float64))
    return StructNet.from_parts(topology, values, kernel=kernel)


def activations_of(
    topology: Topology,
    activation: str,
    values: torch.Tensor,
    images: torch.Tensor,
    normalise: Normalise | None = None,
) -> list[torch.Tensor]:
    """Of all groups, (images, maps, height, width); the last are the logits."""
    shape, seen = topology.architecture, [images]
    for group in range(1, len(shape)):
        state = images.new_zeros(len(images), shape[group], *shape.sides[group])
        for pair, span in topology.links.items():
            if pair[1] == group:
                state = state + _product(topology, pair, values[span], seen[pair[0]])
        if normalise is not None and not shape.is_plain(group):
            state = normalise(group, state)
        state = state + values[topology.bias_spans[group]].view(1, -1, 1, 1)
        seen.append(ACTIVATIONS[activation](state) if group < len(shape) - 1 else state)
    return seen


def logits_of(
    topology: Topology,
    activation: str,
    values: torch.Tensor,
    images: torch.Tensor,
    normalise: Normalise | None = None,
) -> torch.Tensor:
    """(images, classes); see `activations_of`."""
    return activations_of(topology, activation, values, images, normalise)[-1].flatten(1)


def _product(
    topology: Topology, pair: tuple[int, int], values: torch.Tensor, source: torch.Tensor
) -> torch.Tensor:
    """What a link adds to its target: (images, maps, height, width)."""
    shape, span = topology.architecture, topology.links[pair]
    unit = torch.from_numpy(topology.source_unit[span] - topology.offsets[pair[0]]).long()
    target = torch.from_numpy(topology.target[span] - topology.offsets[pair[1]]).long()
    code = torch.from_numpy(topology.code_of_port(topology.source[span])).long()
    ports = shape.port_counts[pair[0]]
    weights = values.new_zeros(shape[pair[1]], shape[pair[0]], ports).index_put((target, unit, code), values)
    window = shape.window
    if shape.is_plain(pair[1]):
        return torch.einsum("nup,tup->nt", _seen(shape, pair[0], source), weights)[:, :, None, None]
    taps = weights[:, :, : window**2].view(*weights.shape[:2], window, window)
    (down, right), (top, left) = shape.geometry(pair)
    # Zeros on all sides, more than any window reaches into.
    far = window + max(shape.sides[pair[1]]) * max(down, right)
    corner = far - window // 2
    around = pad(source, (far, far, far, far))[:, :, corner + top :, corner + left :]
    high, wide = shape.sides[pair[1]]
    return conv2d(around, taps, stride=(down, right))[:, :, :high, :wide]


def _seen(shape: Architecture, group: int, source: torch.Tensor) -> torch.Tensor:
    """(images, units, ports) of a group for a plain one; 0 at ports that are for maps alone."""
    positions = source.flatten(2)
    if shape.is_plain(group):
        return positions
    window = positions.new_zeros(*positions.shape[:2], shape.window**2)
    parts = [window, positions.mean(dim=2, keepdim=True), *([positions] if group in shape.flat else [])]
    return torch.cat(parts, dim=2)


def by_statistics(network: StructNet) -> Normalise | None:
    """As a network in use normalises; None if it does not."""
    if network.statistics is None:
        return None
    statistics, topology = network.statistics, network.topology

    def normalise(group: int, maps: torch.Tensor) -> torch.Tensor:
        units = topology.units_of(group)
        here = slice(units.start - topology.architecture[0], units.stop - topology.architecture[0])
        mean, variance = statistics[:, here, None, None]
        return (maps - mean) / (variance + LEAST_VARIANCE).sqrt()

    return normalise


def by_images(statistics: dict[int, torch.Tensor] | None = None) -> Normalise:
    """As a network in training normalises a block; statistics: by group filled with (2, maps) of what was found.

    By its definition: torch's own batch_norm has wrong derivatives on a CPU for an image alone whose errors come with
    the maps innermost.
    """

    def normalise(group: int, maps: torch.Tensor) -> torch.Tensor:
        variance, mean = torch.var_mean(maps, dim=(0, 2, 3), correction=0, keepdim=True)
        if statistics is not None:
            statistics[group] = torch.stack([mean, variance]).detach().view(2, -1)
        return (maps - mean) / (variance + LEAST_VARIANCE).sqrt()

    return normalise


def step_of(
    network: StructNet, images: torch.Tensor, labels: torch.Tensor, width: int
) -> tuple[torch.Tensor, torch.Tensor, dict[int, torch.Tensor]]:
    """Loss and gradient of a batch, normalised by blocks of so many images if the network does.

    Third, by group of maps, the means and variances of the blocks, (2, maps), averaged over the images.
    """
    values = network.values.detach().clone().requires_grad_()
    loss, seen = values.new_zeros(()), {}
    for begin in range(0, len(images), width):
        block, found = images[begin : begin + width], {}
        normalise = None if network.statistics is None else by_images(found)
        logits = logits_of(network.topology, network.activation, values, block, normalise)
        share = len(block) / len(images)
        loss = loss + share * cross_entropy(logits, labels[begin : begin + width])
        for group, both in found.items():
            seen[group] = seen.get(group, 0) + share * both
    (gradient,) = torch.autograd.grad(loss, values)
    return loss.detach(), gradient, seen
