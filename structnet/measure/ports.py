"""What a connection sees: the maps of a group at one of their ports, at every position of a link's target."""

from __future__ import annotations

import torch

from structnet.network.architecture import Architecture


def seen_at(shape: Architecture, pair: tuple[int, int], code: int, source: torch.Tensor) -> torch.Tensor:
    """The units of the source group of a link as their ports of this code show them.

    source: (units, positions · images) activations of the source group. Returns (units, positions of the target ·
    images); 0 where a window leaves the source.
    """
    if shape.is_plain(pair[0]):
        return source
    high, wide = shape.sides[pair[0]]
    maps = source.view(len(source), high, wide, -1)
    if shape.is_plain(pair[1]):
        if code == shape.window**2:
            return maps.mean(dim=(1, 2))
        row, column = _position(shape, pair[0], code)
        return maps[:, row, column].contiguous()
    out = maps.new_zeros(len(maps), *shape.sides[pair[1]], maps.shape[3])
    found = _overlap(shape, pair, code)
    if found is not None:
        here, there = found
        out[:, *here] = maps[:, *there]
    return out.view(len(out), -1)


def sent_back(shape: Architecture, pair: tuple[int, int], code: int, error: torch.Tensor) -> torch.Tensor:
    """Errors at the target of a link, as they arrive at its source through ports of this code: `seen_at` transposed.

    error: (rows, positions of the target · images). Returns (rows, positions of the source · images).
    """
    if shape.is_plain(pair[0]):
        return error
    high, wide = shape.sides[pair[0]]
    if shape.is_plain(pair[1]):
        if code == shape.window**2:
            return (error / (high * wide)).repeat(1, high * wide)
        out = error.new_zeros(len(error), high, wide, error.shape[1])
        row, column = _position(shape, pair[0], code)
        out[:, row, column] = error
        return out.view(len(out), -1)
    maps = error.view(len(error), *shape.sides[pair[1]], -1)
    out = error.new_zeros(len(error), high, wide, maps.shape[3])
    found = _overlap(shape, pair, code)
    if found is not None:
        here, there = found
        out[:, *there] = maps[:, *here]
    return out.view(len(out), -1)


def _position(shape: Architecture, group: int, code: int) -> tuple[int, int]:
    """Row and column of the position that a port of flat maps shows."""
    return divmod(code - shape.window**2 - 1, shape.sides[group][1])


def _overlap(
    shape: Architecture, pair: tuple[int, int], code: int
) -> tuple[tuple[slice, slice], tuple[slice, slice]] | None:
    """Which rows and columns of the target see the source at this offset, and which of the source they see."""
    geometry, reach = shape.geometry(pair), shape.window // 2
    here, there = [], []
    for axis, offset in enumerate((code // shape.window - reach, code % shape.window - reach)):
        step, start = geometry.stride[axis], geometry.start[axis] + offset
        first = max(0, -(start // step))
        last = min(shape.sides[pair[1]][axis], (shape.sides[pair[0]][axis] - 1 - start) // step + 1)
        if last <= first:
            return None
        here.append(slice(first, last))
        there.append(slice(first * step + start, (last - 1) * step + start + 1, step))
    return (here[0], here[1]), (there[0], there[1])
