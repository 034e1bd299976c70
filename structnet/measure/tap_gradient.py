"""The gradient by every tap of a link between maps, whether it exists or not, without a copy for each offset.

The source lies on sheets with a border of zeros, one for each remainder of the stride, and the error on a sheet of
their width: what a tap at an offset sees is then a run of the sheet, which begins elsewhere for each offset, and a
product of matrices takes it where it lies. Against a copy of the source for each offset 4 times as fast for 8 maps of
28 × 28.
"""

from __future__ import annotations

import torch

from structnet.network.architecture import Architecture

NUMBERS = 2**17  # of activations and errors that are in the caches at once


def tap_gradient(
    shape: Architecture, pair: tuple[int, int], error: torch.Tensor, source: torch.Tensor
) -> torch.Tensor:
    """(target maps, source maps, offsets of the window) sums of error times activation over positions and images.

    error, source: (maps, positions · images) of the two groups of the link.
    """
    errors = error.view(len(error), *shape.sides[pair[1]], -1)
    maps = source.view(len(source), *shape.sides[pair[0]], -1)
    found = error.new_zeros(len(error), len(source), shape.window**2)
    block = max(1, NUMBERS // (maps[..., 0].numel() + errors[..., 0].numel()))
    for begin in range(0, maps.shape[3], block):
        here = slice(begin, begin + block)
        found += _of_block(shape, pair, errors[..., here], maps[..., here])
    return found


def _of_block(
    shape: Architecture, pair: tuple[int, int], error: torch.Tensor, maps: torch.Tensor
) -> torch.Tensor:
    """`tap_gradient` of some images. error, maps: (maps, height, width, images)."""
    (high, wide), reach = shape.sides[pair[1]], shape.window // 2
    geometry, images = shape.geometry(pair), maps.shape[3]
    rows, columns = (
        [divmod(geometry.start[axis] + offset, geometry.stride[axis]) for offset in range(-reach, reach + 1)]
        for axis in (0, 1)
    )
    first = rows[0][0], columns[0][0]
    # Rows of a sheet, of which the last is cut where the last run ends, and columns.
    size = high + rows[-1][0] - first[0], wide + columns[-1][0] - first[1]
    run = ((high - 1) * size[1] + wide) * images
    spread = error.new_zeros(len(error), high, size[1], images)
    spread[:, :, :wide] = error
    errors = spread.view(len(error), -1)[:, :run]
    sheets: dict[tuple[int, int], torch.Tensor] = {}
    found = error.new_empty(len(error), len(maps), shape.window**2)
    for code in range(shape.window**2):
        (down, row), (right, column) = rows[code // shape.window], columns[code % shape.window]
        if (row, column) not in sheets:
            sheets[row, column] = _sheet(maps, (row, column), geometry.stride, first, size)
        begin = ((down - first[0]) * size[1] + right - first[1]) * images
        found[:, :, code] = errors @ sheets[row, column][:, begin : begin + run].t()
    return found


def _sheet(
    maps: torch.Tensor,
    remainder: tuple[int, int],
    stride: tuple[int, int],
    first: tuple[int, int],
    size: tuple[int, int],
) -> torch.Tensor:
    """(maps, numbers of a sheet) every so many rows and columns of the maps from a remainder on, after a border.

    first: row and column of the source, in strides, that lies at the beginning of the sheet. size: of the sheet.
    """
    found = maps.new_zeros(len(maps), *size, maps.shape[3])
    seen = maps[:, remainder[0] :: stride[0], remainder[1] :: stride[1]]
    here, there = [], []
    for axis in (0, 1):
        begin, end = max(0, first[axis]), min(seen.shape[axis + 1], first[axis] + size[axis])
        here.append(slice(begin - first[axis], max(begin, end) - first[axis]))
        there.append(slice(begin, max(begin, end)))
    found[:, here[0], here[1]] = seen[:, there[0], there[1]]
    return found.view(len(found), -1)
