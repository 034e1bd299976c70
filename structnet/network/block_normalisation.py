"""Batch normalisation of feature maps by torch, as structnet.compiled.normalise has it: by blocks of the images."""

from __future__ import annotations

from typing import NamedTuple

import torch

from structnet.compiled.normalise import FOLLOWED, LEAST_VARIANCE
from structnet.network.normalisation import Normalised, map_spans
from structnet.network.topology import Topology

BLOCK = 32  # images, at most


def block_width(batch: int) -> int:
    """Images of every block of a batch but the last, which may have fewer."""
    return -(-batch // -(-batch // BLOCK))


class _Kept(NamedTuple):
    """What the way back needs of neighbouring blocks of one width.

    normal: (units, positions, blocks, images), maps between normalising and bias. scale: (units, 1, blocks, 1), one by
    their deviation.
    """

    normal: torch.Tensor
    scale: torch.Tensor


class BlockNormalisation:
    """The normalisation of one pass through a network in training, there and back.

    topology, like: of the network, and a tensor of its number type and device. images: of the pass, in blocks of this
    width but for the last. share: of the images of a batch that these are. seen: (2, units behind the input), what
    these images add to the means and variances of the blocks of the batch, averaged over its images; 0 for neurons.
    """

    def __init__(
        self, topology: Topology, like: torch.Tensor, images: int, width: int, share: float = 1.0
    ) -> None:
        self.seen = like.new_zeros(2, topology.bias_count)
        self._images, self._width, self._share = images, width, share
        self._spans = map_spans(topology)
        self._kept: dict[int, list[_Kept]] = {}

    @property
    def statistics(self) -> torch.Tensor:
        """(2, units behind the input) of a pass over a whole batch; means of 0 and variances of 1 for neurons."""
        found = torch.zeros_like(self.seen)
        found[1] = 1.0
        for span in self._spans.values():
            found[:, span] = self.seen[:, span]
        return found

    def normalises(self, group: int) -> bool:
        """Whether the units of a group are maps."""
        return group in self._spans

    def after(self, group: int, state: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """The maps of a group brought to mean 0 and variance 1 in each block, plus their biases, (units,).

        state: (units, positions · images).
        """
        kept = [self._normalised(group, block) for block in self._blocks(state)]
        self._kept[group] = kept
        return _joined([block.normal + bias.view(-1, 1, 1, 1) for block in kept], state)

    def _normalised(self, group: int, maps: torch.Tensor) -> _Kept:
        mean = maps.mean(dim=(1, 3), keepdim=True)
        centred = maps - mean
        variance = centred.square().mean(dim=(1, 3), keepdim=True)
        both = torch.stack([mean, variance]).sum(dim=3).view(2, -1)
        self.seen[:, self._spans[group]].add_(both, alpha=self._share * maps.shape[3] / self._images)
        scale = (variance + LEAST_VARIANCE).rsqrt()
        return _Kept(centred.mul_(scale), scale)

    def before(self, group: int, error: torch.Tensor) -> torch.Tensor:
        """From the errors of a group of maps behind normalising those before it, (units, positions · images) both."""
        found = []
        for errors, (normal, scale) in zip(self._blocks(error), self._kept[group]):
            mean = errors.mean(dim=(1, 3), keepdim=True)
            slope = (errors * normal).mean(dim=(1, 3), keepdim=True)
            found.append((errors - mean).sub_(normal * slope).mul_(scale))
        return _joined(found, error)

    def _blocks(self, maps: torch.Tensor) -> list[torch.Tensor]:
        """Views of (units, positions · images) as (units, positions, blocks, images): the full blocks, and the rest."""
        by_image = maps.view(len(maps), -1, self._images)
        rest = self._images % self._width
        parts = torch.split(by_image, [self._images - rest, rest], dim=2)
        widths = self._width, rest
        return [part.view(*part.shape[:2], -1, width) for part, width in zip(parts, widths) if part.shape[2]]


def normalisation_of(network: Normalised, images: int, batch: int) -> BlockNormalisation | None:
    """Of a pass over so many images of a batch, which are whole blocks of it; None where nothing is normalised."""
    if network.statistics is None:
        return None
    width, share = block_width(batch), images / batch
    return BlockNormalisation(network.topology, network.statistics, images, width, share)


def follow(statistics: torch.Tensor, topology: Topology, seen: torch.Tensor) -> None:
    """Lets statistics of a network follow those of a batch, (2, units behind the input) both, in place."""
    for span in map_spans(topology).values():
        statistics[:, span].lerp_(seen[:, span], FOLLOWED)


def _joined(blocks: list[torch.Tensor], like: torch.Tensor) -> torch.Tensor:
    """Back from views of `_blocks`."""
    parts = [block.flatten(2) for block in blocks]
    return (parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)).view(like.shape)
