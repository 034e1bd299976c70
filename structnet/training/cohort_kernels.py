"""The kernels of networks that lie side by side: batched dense matrices, and the rule that picks one per link.

A link of a tile (structnet.training.tile) is block-diagonal: as one dense matrix it would be nearly all zeros, take
as many times the work as there are members, and let a member that diverges poison the others, because 0 × NaN is NaN.
As a batch of dense matrices, one per member, no member meets the numbers of another. A link from the input is
different: all members read the same units, so its blocks lie one above the other in one matrix without a cell too
many, and a row of a product depends on its own row alone as long as the input is finite.
"""

from __future__ import annotations

import numpy as np
import torch
from typing_extensions import override

from structnet.network.link import KERNELS, Kernel, SparseLink, pick_kernel
from structnet.network.network import StructNet


class BatchedDense(Kernel):
    """A dense matrix per member that exists for one product, all of them multiplied as one batch.

    link: of a tile, not from the input. widths_in, widths_out: (members,) units of each member in the source
    and the target group. Matrices are (members, widest out, widest in), zero where nothing exists.
    """

    def __init__(self, link: SparseLink, widths_in: np.ndarray, widths_out: np.ndarray) -> None:
        self._source = _Padding(widths_in, link.device)
        self._target = _Padding(widths_out, link.device)
        self._shape = len(widths_in), self._target.widest, self._source.widest
        row, column = self._target.place[link.row], self._source.place[link.column]
        self._cell = row * self._source.widest + column % self._source.widest

    @override
    def forward(
        self, link: SparseLink, values: torch.Tensor, source: torch.Tensor, start: torch.Tensor
    ) -> torch.Tensor:
        product = torch.bmm(self._matrices(values), self._source.padded(source))
        return self._target.units(product).add_(start)

    @override
    def value_gradient(
        self, link: SparseLink, error: torch.Tensor, source: torch.Tensor, out: torch.Tensor
    ) -> None:
        product = torch.bmm(self._target.padded(error), self._source.padded(source).transpose(1, 2))
        torch.index_select(product.view(-1), 0, self._cell, out=out)

    @override
    def source_gradient(self, link: SparseLink, values: torch.Tensor, error: torch.Tensor) -> torch.Tensor:
        product = torch.bmm(self._matrices(values).transpose(1, 2), self._target.padded(error))
        return self._source.units(product)

    def _matrices(self, values: torch.Tensor) -> torch.Tensor:
        cells = values.new_zeros(self._shape)
        cells.view(-1).scatter_(0, self._cell, values)
        return cells


class _Padding:
    """The units of a joint group, (units, batch), as (members, widest, batch) and back.

    place: (units,) position of each unit among the padded ones.
    """

    def __init__(self, widths: np.ndarray, device: torch.device) -> None:
        self.members, self.widest = len(widths), int(widths.max())
        first = np.cumsum(widths) - widths
        within = np.arange(int(widths.sum())) - np.repeat(first, widths)
        place = np.repeat(np.arange(len(widths)) * self.widest, widths) + within
        self.place = torch.from_numpy(place).to(device)
        self._even = bool(np.all(widths == self.widest))

    def padded(self, units: torch.Tensor) -> torch.Tensor:
        shape = self.members, self.widest, units.shape[1]
        if self._even:
            return units.reshape(shape)
        wide = units.new_zeros(self.members * self.widest, units.shape[1])
        return wide.index_copy_(0, self.place, units).view(shape)

    def units(self, padded: torch.Tensor) -> torch.Tensor:
        flat = padded.reshape(self.members * self.widest, padded.shape[2])
        return flat if self._even else flat.index_select(0, self.place)


def pick_in_tile(shapes: np.ndarray, pair: tuple[int, int], connections: int, device: torch.device) -> str:
    """The name of the kernel for a link of a tile: a rule, not a timing, so that runs repeat.

    shapes: (members, groups) units. pair: (source group, target group).

    CPU: sparse rows always, as they alone give a member the same bits whoever its neighbours are. Elsewhere the
    rule for single links, applied to the matrices with their padding. It has not been measured for tiles: no
    GPU was at hand, and where batched products really stop paying has to be found on one.
    """
    if device.type == "cpu":
        return "sparse_rows"
    source, target = pair
    if source == 0:
        return pick_kernel(int(shapes[0, 0]), int(shapes[:, target].sum()), connections, device)
    rows = len(shapes) * int(shapes[:, target].max())
    picked = pick_kernel(int(shapes[:, source].max()), rows, connections, device)
    return "batched_dense" if picked == "masked_dense" else picked


def use_tile_kernels(network: StructNet, shapes: np.ndarray, kernel: str) -> None:
    """Gives every link of a tile the kernel it is computed with.

    shapes: (members, groups) units of the members in their order. kernel: what the members ask for, where
    `masked_dense` means batched dense for all links but those from the input.
    """
    for pair, link in network.links.items():
        name = kernel
        if kernel == "auto":
            name = pick_in_tile(shapes, pair, link.connections, link.device)
        elif kernel == "masked_dense" and pair[0] > 0:
            name = "batched_dense"
        link.kernel_name = name
        if name == "batched_dense":
            link.kernel = BatchedDense(link, shapes[:, pair[0]], shapes[:, pair[1]])
        else:
            link.kernel = KERNELS[name]
