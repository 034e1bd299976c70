"""Coarse to fine: a network learns on small images first and goes on with larger ones.

Images are average-pooled (28×28 → 14×14 → 7×7). A network trained on the pooled ones becomes one on the finer
ones that computes the same function of them: every connection from a coarse pixel becomes one from each of the
pixels it was pooled from, with its value divided by their number. That multiplies the connections of the input,
so some are pruned again, at once (`pruned`) or while training goes on (structnet.training.shrinking).

Whether it pays is measured by `compare_coarse_to_fine` (structnet.experiments.initialisation). MNIST, [784, 64, 10],
1 + 1 + 1 epochs at 6e-3, validation, 3 rng_seeds: 93.0 % at 1,500 parameters and 95.8 % at 4,000; a network that
always saw 28×28 and held as many parameters at every step 91.9 and 95.4, one of fixed size 88.0 and 93.7. Most of
the gain is that of growing and pruning, and in cross-entropy the second is as good or better. In a tournament
it made no difference: MNIST, 6 epochs, 4,000 parameters, 3 rng_seeds, validation 96.04 % with and 96.07 % without
scales, at 14.8 and 15.0 million parameter-steps in all.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from math import prod, sqrt

import numpy as np
import torch

from structnet.actions.prune import RULES, freed_by
from structnet.data.dataset import Dataset, Split
from structnet.errors import UserError
from structnet.network.architecture import Architecture
from structnet.network.constant_units import constant_units
from structnet.network.edit import Edit, disconnect, fold
from structnet.network.network import StructNet
from structnet.network.state import TrainState
from structnet.network.topology import Topology
from structnet.training.shrinking import worth

MOST_SCALES, COARSEST = 3, 4  # scales by default, and pixels that the coarsest images have each way at least
BLOCK = 5_000  # images that are pooled at once


def pooled_images(images: torch.Tensor, factor: int = 2) -> torch.Tensor:
    """(n, channels, height, width) averaged over squares of factor × factor pixels.

    Raises UserError for plain columns, and for a factor that does not divide height and width.
    """
    if images.dim() != 4:
        raise UserError("pooling is for images, but this dataset has plain columns: leave them as they are")
    height, width = images.shape[-2:]
    if factor < 1 or height % factor or width % factor:
        raise UserError(
            f"the factor is {factor}, but must divide the height and width of the images, {height}×{width}: "
            "choose another one, or fewer scales"
        )
    return images if factor == 1 else torch.nn.functional.avg_pool2d(images, factor)


def check_plain(architecture: Architecture) -> None:
    """Raises UserError for feature maps, whose groups have resolutions of their own."""
    if architecture.has_maps:
        raise UserError(
            f"the architecture is {architecture}, but scales are for networks without feature maps: leave the scales "
            "out, or begin with so many inputs"
        )


def check_scales(sides: Sequence[int], shape: Sequence[int]) -> None:
    """Raises UserError for sides that inputs of this shape, (channels, height, width), cannot be seen at in turn."""
    if len(shape) != 3 or shape[1] != shape[2]:
        given = "×".join(map(str, shape[1:])) + " images" if len(shape) == 3 else "plain columns"
        raise UserError(f"scales are for square images, but this dataset has {given}: leave them out")
    named, full = ",".join(map(str, sides)), shape[1]
    if not sides or sides[0] < 1 or sides[-1] != full:
        raise UserError(
            f"scales are '{named}', but must be sides of at least 1 that end in {full}, that of the images"
        )
    if any(before >= after or after % before for before, after in pairwise(sides)):
        raise UserError(
            f"scales are '{named}', but must rise, and each must divide the next: choose among the divisors of {full}"
        )


def zoom(shape: Sequence[int], inputs: int) -> int:
    """By how much a network of so many inputs sees inputs of this shape, (channels, height, width), pooled.

    1 where it sees them as they are. Raises UserError if no square of pixels brings them to that number.
    """
    factor = max(1, round(sqrt(prod(shape) / inputs)))
    if factor == 1 and prod(shape) == inputs:
        return 1
    if len(shape) != 3 or shape[1] % factor or shape[2] % factor or prod(shape) != inputs * factor**2:
        raise UserError(
            f"a network of {inputs} inputs does not fit data of {'×'.join(map(str, shape))}: give one of {prod(shape)}"
        )
    return factor


def pooled_split(split: Split, factor: int = 2) -> Split:
    """The split with its images pooled; raises as `pooled_images`."""
    if factor == 1:
        return split
    # Block by block, so that the images are never all there at full resolution as numbers.
    blocks = [pooled_images(split.inputs(block), factor) for block in torch.split(split.stored, BLOCK)]
    return Split(torch.cat(blocks), split.labels)


def pooled(data: Dataset, factor: int = 2) -> Dataset:
    """The dataset with all its images pooled; raises as `pooled_images`.

    Its preprocessing says so, so that its fingerprint is another one. Pooling commutes with the offset and
    scale of a channel, so what was pooled before can be preprocessed by it as well.
    """
    train, validation, test = (
        pooled_split(split, factor) for split in (data.train, data.validation, data.test)
    )
    preprocessing = {
        **data.preprocessing,
        "shape": list(train.shape),
        "pooled": factor * data.preprocessing.get("pooled", 1),
    }
    return replace(data, train=train, validation=validation, test=test, preprocessing=preprocessing)


def refine_input(network: StructNet, channels: int, height: int, width: int, factor: int = 2) -> Edit:
    """The network on images finer by this factor; channels, height, width are those of the coarse images.

    It computes of fine images exactly what the network computed of them average-pooled. Skip links that start
    at the input are refined like any other.

    Every fine pixel and connection has the coarse one as its origin, so origins repeat, and `TrainState.edited`
    gives a whole family the age and the moments of its parent. For the moments that is the right scale: a
    child's gradient is error × its own pixel, whatever its value, and the mean of that over a family is error ×
    coarse pixel, the parent's gradient. So the first moment, linear in the gradient, is exact on average, and
    the second is a lower bound, exact where the fine pixels agree. What does change is the pace: one step of
    Adam moves a family as a whole factor² times as far as its parent.

    Raises UserError if the images are not what the network takes, and for a network of feature maps.
    """
    topology = network.topology
    check_plain(topology.architecture)
    if topology.architecture[0] != channels * height * width or factor < 1:
        raise UserError(
            f"images of {channels}×{height}×{width} refined by {factor} do not fit a network of "
            f"{topology.architecture[0]} inputs: give the shape of the images it was trained on, and a factor "
            "of at least 1"
        )
    children = _children(channels, height, width, factor)
    coarse, family = children.shape
    added = children.size - coarse
    from_input = topology.source < coarse
    parent = np.repeat(np.arange(topology.connections), np.where(from_input, family, 1))
    source = topology.source[parent] + added
    source[from_input[parent]] = children[topology.source[from_input]].reshape(-1)
    refined, order = Topology.sorted(
        (children.size, *topology.architecture[1:]), source, topology.target[parent] + added
    )
    parent = parent[order]
    origin = np.concatenate([parent, np.arange(topology.connections, topology.parameters)])
    values = network.values.detach()
    values = values[torch.from_numpy(origin).to(values.device)]
    values[torch.from_numpy(np.flatnonzero(from_input[parent])).to(values.device)] /= family
    pixel = np.empty(children.size, dtype=np.int64)
    pixel[children] = np.arange(coarse)[:, None]
    return Edit(
        network.like(refined, values),
        origin,
        np.concatenate([pixel, np.arange(coarse, topology.units)]),
        topology.parameters,
    )


def pruned(state: TrainState, parameters: int, rule: str = RULES[0]) -> TrainState:
    """The state after its connections of least worth are pruned at once, until it has at most so many parameters.

    As few go as will do, and units without a way in or out are folded away. rule: `w²·√v` or `magnitude`; the
    magnitude decides among equals. Just refined, all of a family are equals and go together, which leaves
    nothing fine about the weakest: train first, or prune while training. Raises UserError for an unknown rule,
    or fewer parameters than a network with these outputs can have.
    """
    if rule not in RULES:
        raise UserError(f"rule is '{rule}', but must be one of {', '.join(RULES)}")
    network = state.network
    smallest = network.architecture[-1] + 1
    if parameters < smallest:
        raise UserError(
            f"parameters is {parameters}, but must be at least {smallest}: every output has a bias, and one "
            "connection is left"
        )
    excess = network.parameter_count - parameters
    if excess <= 0:
        return state
    magnitude = network.topology.split(network.folded().values.detach())[0].abs().cpu().numpy()
    order = np.lexsort((magnitude, worth(state) if rule == RULES[0] else magnitude))
    constant = constant_units(network)
    count = bisect_left(
        range(len(order)), excess, key=lambda n: freed_by(network.topology, order[:n], constant)
    )
    edit = disconnect(network, np.sort(order[:count]))
    return state.edited(edit.then(fold(edit.network)))


def _children(channels: int, height: int, width: int, factor: int) -> np.ndarray:
    """(coarse pixels, factor²) numbers of the fine pixels that each coarse one is the average of."""
    fine = np.arange(channels * height * width * factor**2)
    squares = fine.reshape(channels, height, factor, width, factor).transpose(0, 1, 3, 2, 4)
    return squares.reshape(-1, factor**2)


def default_scales(data: Dataset) -> int:
    """How often images are halved, and once more: 1 for plain columns and for images that cannot be."""
    shape, scales = data.input_shape[1:], 1
    while (
        len(shape) == 2
        and scales < MOST_SCALES
        and all(size % 2**scales == 0 and size // 2**scales >= COARSEST for size in shape)
    ):
        scales += 1
    return scales
