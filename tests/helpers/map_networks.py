"""Random networks of feature maps: odd sides, strides, maps of one pixel, skips, flat groups, windows of all sizes."""

from __future__ import annotations

import numpy as np
import torch

from structnet import StructNet
from structnet.data.dataset import Split
from structnet.network.architecture import Architecture
from structnet.network.topology import Topology

WINDOWS = (1, 3, 5)


def random_architecture(rng: np.random.Generator, side: tuple[int, int] | None = None) -> Architecture:
    """Up to three hidden groups, whose sides fall from those of the input, down to plain ones; 2 to 4 classes.

    side: of the input, by default up to 7 × 7.
    """
    sides = [side or (int(rng.integers(2, 8)), int(rng.integers(2, 8)))]
    units = [int(rng.integers(1, 4))]
    for _ in range(rng.integers(1, 4)):
        high, wide = sides[-1]
        same = rng.random() < 0.4
        sides.append(
            (high, wide) if same else (int(rng.integers(1, high + 1)), int(rng.integers(1, wide + 1)))
        )
        units.append(int(rng.integers(1, 5)))
    flat = [group for group in range(len(units)) if rng.random() < 0.3]
    units.append(int(rng.integers(2, 5)))
    return Architecture(units, [*sides, (1, 1)], int(rng.choice(WINDOWS)), flat)


def random_map_network(
    rng: np.random.Generator,
    architecture: Architecture | None = None,
    *,
    normalised: bool | None = None,
    share: float | None = None,
    activation: str = "relu",
    kernel: str = "auto",
    dtype: torch.dtype = torch.float32,
) -> StructNet:
    """A network of this architecture, or a random one, with a share of all connections of every pair of groups.

    Of pairs that are no neighbours half are not linked at all. normalised: whether it has statistics, means and
    variances in [0.5, 2]; at random by default.
    """
    shape = architecture or random_architecture(rng)
    share = float(rng.uniform(0.1, 0.9)) if share is None else share
    topology = random_taps(rng, shape, share)
    values = torch.from_numpy(rng.standard_normal(topology.parameters) / 2).to(dtype)
    statistics = None
    if normalised or (normalised is None and rng.random() < 0.5):
        biases = topology.bias_count
        found = np.stack([rng.standard_normal(biases) / 2, rng.uniform(0.5, 2, biases)])
        statistics = torch.from_numpy(found).to(dtype)
    return StructNet.from_parts(topology, values, activation=activation, kernel=kernel, statistics=statistics)


def random_taps(rng: np.random.Generator, architecture: Architecture, share: float) -> Topology:
    """A share of all connections of neighbouring groups, at least one of each pair, and of half of the skips."""
    nothing = np.empty(0, dtype=np.int32)
    bare = Topology(architecture, nothing, nothing)
    groups, ends = len(architecture), []
    for source in range(groups - 1):
        for target in range(source + 1, groups):
            if target > source + 1 and rng.random() < 0.5:
                continue
            n_in, n_out = bare.shape_of((source, target))
            cells = rng.permutation(n_in * n_out)[: max(1, round(share * n_in * n_out))]
            ends.append(bare.ends((source, target), cells // n_in, cells % n_in))
    return Topology.sorted(architecture, *(np.concatenate(part) for part in zip(*ends)))[0]


def random_images(
    rng: np.random.Generator, architecture: Architecture, images: int = 40, dtype: torch.dtype = torch.float32
) -> Split:
    """Images that fit the architecture, with labels at random."""
    pixels = torch.from_numpy(rng.random((images, architecture[0], *architecture.sides[0]))).to(dtype)
    return Split(pixels, torch.from_numpy(rng.integers(0, architecture[-1], images)))
