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
    window = shape.window**2
    if shape.is_plain(pair[1]):
        if code == window:
            return maps.mean(dim=(1, 2))
        down, right = divmod(code - window - 1, wide)
        return maps[:, down, right].contiguous()
    return _shifted(shape, pair, code, maps)


def _shifted(shape: Architecture, pair: tuple[int, int], code: int, maps: torch.Tensor) -> torch.Tensor:
    geometry, reach = shape.geometry(pair), shape.window // 2
    out = maps.new_zeros(len(maps), *shape.sides[pair[1]], maps.shape[3])
    here: list[slice] = []
    there: list[slice] = []
    for axis, offset in enumerate((code // shape.window - reach, code % shape.window - reach)):
        step, start = geometry.stride[axis], geometry.start[axis] + offset
        first = max(0, -(start // step))
        last = min(shape.sides[pair[1]][axis], (shape.sides[pair[0]][axis] - 1 - start) // step + 1)
        if last <= first:
            return out.view(len(out), -1)
        here.append(slice(first, last))
        there.append(slice(first * step + start, (last - 1) * step + start + 1, step))
    out[:, here[0], here[1]] = maps[:, there[0], there[1]]
    return out.view(len(out), -1)
