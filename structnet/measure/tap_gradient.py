"""The gradient by every tap of a link between maps, whether it exists or not: by the loops that train taps."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch

from structnet.compiled.arrays import aligned_zeros
from structnet.compiled.sheets import ORIGIN, PITCH, ROW, SHEET, UNITS, Sheets
from structnet.measure.ports import seen_at
from structnet.network.architecture import POINT, Architecture
from structnet.network.topology import Topology

IMAGES = 64  # at once, so that what is loaded stays in the caches


def tap_gradient(
    shape: Architecture, pair: tuple[int, int], error: torch.Tensor, source: torch.Tensor
) -> torch.Tensor:
    """(target maps, source maps, offsets of the window) sums of error times activation over positions and images.

    error, source: (maps, positions · images) of the two groups of the link.
    """
    if error.device.type != "cpu":
        return torch.stack(
            [error @ seen_at(shape, pair, code, source).t() for code in shape.port_range(pair)], dim=2
        )
    from structnet.compiled.tap_step import multiply_taps_of

    sides = shape.sides[pair[0]], shape.sides[pair[1]]
    plan = _plan_of(len(source), len(error), *sides, shape.window)
    maps = source.numpy().reshape(len(source) * shape.area(pair[0]), -1)
    errors = error.numpy().reshape(len(error), *sides[1], -1)
    width = min(IMAGES, maps.shape[1])
    state, behind = (aligned_zeros((plan.rows, width), maps.dtype) for _ in range(2))
    inner, gradient = _inside(plan, behind, sides[1]), np.zeros(plan.members[1, 0], dtype=maps.dtype)
    for begin in range(0, maps.shape[1], width):
        count = min(width, maps.shape[1] - begin)
        state[: len(maps), :count] = maps[:, begin : begin + count]
        inner[..., :count] = errors[..., begin : begin + count]
        inner[..., count:] = 0
        multiply_taps_of(plan, state, behind, gradient, 0)
    taps = len(error), len(source), shape.window**2
    return torch.from_numpy(gradient[: math.prod(taps)]).view(taps)


def _inside(plan: Sheets, rows: np.ndarray, side: tuple[int, int]) -> np.ndarray:
    """(maps, height, width, images) of the maps behind the input in a workspace, without their borders."""
    of = plan.groups[1]
    sheets = rows[of[ROW] : of[ROW] + of[UNITS] * of[SHEET]].reshape(of[UNITS], -1, of[PITCH], rows.shape[1])
    top, left = divmod(int(of[ORIGIN]), int(of[PITCH]))
    return sheets[:, top : top + side[0], left : left + side[1]]


@lru_cache(maxsize=64)
def _plan_of(sources: int, targets: int, side: tuple[int, int], to: tuple[int, int], window: int) -> Sheets:
    """Of a network of one link, of which all taps exist."""
    nothing = np.empty(0, dtype=np.int32)
    bare = Topology(Architecture([sources, targets, 1], [side, to, POINT], window), nothing, nothing)
    columns, rows = bare.shape_of((0, 1))
    cells = np.arange(rows * columns)
    ends = bare.ends((0, 1), cells // columns, cells % columns)
    return Topology.sorted(bare.architecture, *ends)[0].sheets
