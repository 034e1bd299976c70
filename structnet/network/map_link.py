"""Links of feature maps by torch: convolutions with dense kernels, and what plain groups read of maps.

Activations and errors are (units, positions · images) with the images innermost, as
structnet.network.tap_propagation says. For the moment of a convolution they are (images, units, height, width).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.functional import conv2d, pad
from torch.nn.grad import conv2d_input, conv2d_weight
from typing_extensions import override

from structnet.network.architecture import Architecture, Side
from structnet.network.link import Kernel, SparseLink
from structnet.network.topology import Topology


def link_of(topology: Topology, pair: tuple[int, int], device: torch.device, kernel: str) -> SparseLink:
    """A link with the kernel that it is computed with; kernel: as StructNet takes it, for links without maps."""
    link, shape = SparseLink(topology, pair, device, kernel), topology.architecture
    if not shape.is_plain(pair[1]):
        link.kernel_name, link.kernel = "convolution", Convolution(shape, pair)
    elif not shape.is_plain(pair[0]):
        link.kernel = Reading(link.kernel, shape.area(pair[0]), is_flat=pair[0] in shape.flat)
    return link


class Convolution(Kernel):
    """A convolution whose kernel exists for one product, with 0 for every tap that does not exist.

    pair: (source group, target group), both of maps. Sources are padded, or cut off, to where the windows of the first
    and of the last position of the target end.
    """

    def __init__(self, shape: Architecture, pair: tuple[int, int]) -> None:
        self._side_in, self._side_out = (shape.sides[group] for group in pair)
        self._window = shape.window
        self._stride, start = shape.geometry(pair)
        reach = shape.window // 2
        along = [
            (reach - first, first + (size_out - 1) * step + reach - (size_in - 1))
            for size_in, size_out, step, first in zip(self._side_in, self._side_out, self._stride, start)
        ]
        # As torch wants them: the last axis first, before and behind.
        self._margins = [*along[1], *along[0]]

    @override
    def forward(
        self, link: SparseLink, values: torch.Tensor, source: torch.Tensor, start: torch.Tensor
    ) -> torch.Tensor:
        with _exact():
            found = conv2d(self._seen(source), self._taps(link, values), stride=self._stride)
        return _images_last(found).add_(start)

    @override
    def value_gradient(
        self, link: SparseLink, error: torch.Tensor, source: torch.Tensor, out: torch.Tensor
    ) -> None:
        maps, errors = self._seen(source), _images_first(error, self._side_out)
        size = errors.shape[1], maps.shape[1], self._window, self._window
        with _exact():
            found = conv2d_weight(maps, size, errors, stride=self._stride)  # type: ignore[no-untyped-call]
        torch.index_select(found.reshape(-1), 0, link.cell, out=out)

    @override
    def source_gradient(self, link: SparseLink, values: torch.Tensor, error: torch.Tensor) -> torch.Tensor:
        taps, errors = self._taps(link, values), _images_first(error, self._side_out)
        left, right, top, bottom = self._margins
        high, wide = self._side_in
        size = len(errors), taps.shape[1], high + top + bottom, wide + left + right
        with _exact():
            found = conv2d_input(size, taps, errors, stride=self._stride)  # type: ignore[no-untyped-call]
        return _images_last(pad(found, [-margin for margin in self._margins]))

    def _seen(self, source: torch.Tensor) -> torch.Tensor:
        return pad(_images_first(source, self._side_in), self._margins)

    def _taps(self, link: SparseLink, values: torch.Tensor) -> torch.Tensor:
        """(maps out, maps in, window, window)."""
        return link.dense(values).view(link.n_out, -1, self._window, self._window)


class Reading(Kernel):
    """A link from maps to a plain group: their means, and where they are flat their positions, as others see units.

    kernel: of a link from as many units as there are ports. positions: of each map.
    """

    def __init__(self, kernel: Kernel, positions: int, *, is_flat: bool) -> None:
        self._kernel, self._positions, self._is_flat = kernel, positions, is_flat

    @override
    def forward(
        self, link: SparseLink, values: torch.Tensor, source: torch.Tensor, start: torch.Tensor
    ) -> torch.Tensor:
        return self._kernel.forward(link, values, self._ports(link, source), start)

    @override
    def value_gradient(
        self, link: SparseLink, error: torch.Tensor, source: torch.Tensor, out: torch.Tensor
    ) -> None:
        self._kernel.value_gradient(link, error, self._ports(link, source), out)

    @override
    def source_gradient(self, link: SparseLink, values: torch.Tensor, error: torch.Tensor) -> torch.Tensor:
        ports = self._kernel.source_gradient(link, values, error)
        by_unit = ports.view(-1, 1 + self._positions * self._is_flat, ports.shape[1])
        share = by_unit[:, :1] / self._positions
        maps = by_unit[:, 1:] + share if self._is_flat else share.expand(-1, self._positions, -1)
        return maps.contiguous().view(len(by_unit), -1)

    def _ports(self, link: SparseLink, source: torch.Tensor) -> torch.Tensor:
        """(ports, images)."""
        maps = source.view(len(source), self._positions, -1)
        means = maps.mean(dim=1, keepdim=True)
        return (torch.cat([means, maps], dim=1) if self._is_flat else means).view(link.n_in, -1)


def _images_first(maps: torch.Tensor, side: Side) -> torch.Tensor:
    """(units, positions · images) as (images, units, height, width), a view."""
    return maps.view(len(maps), *side, -1).permute(3, 0, 1, 2)


def _images_last(maps: torch.Tensor) -> torch.Tensor:
    """(images, units, height, width) as (units, positions · images), contiguous."""
    return maps.permute(1, 2, 3, 0).contiguous().view(maps.shape[1], -1)


@contextmanager
def _exact() -> Iterator[None]:
    """Convolutions on CUDA with all bits of float32 and always the same, as matrix products are by default.

    An edit that must not change the output could not be told from one that does by ten bits.
    """
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        yield
