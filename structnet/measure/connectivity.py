"""Where the connections of the input lie in the image: what topology a network has learned.

Ratios compare a region with the whole image and are 1 where nothing was learned. The curve over central squares and the
centre are those of studies of SET with regularisation, the ring that of its authors' tutorial (Mocanu et al. 2018).
"""

from __future__ import annotations

import math

import numpy as np

from structnet.errors import UserError
from structnet.network.topology import Topology

RING = 3  # pixels


def degrees(topology: Topology, pair: tuple[int, int] = (0, 1)) -> np.ndarray:
    """(n_in,) int64 connections of every source unit of a link."""
    if pair not in topology.links:
        return np.zeros(topology.architecture[pair[0]], dtype=np.int64)
    _, column = topology.positions(pair)
    return np.bincount(column, minlength=topology.architecture[pair[0]])


def heat_map(connections: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(height, width) connections of every pixel, summed over channels. shape: (channels, height, width)."""
    heat: np.ndarray = connections.reshape(shape).sum(axis=0)
    return heat


def check_images(shape: tuple[int, ...]) -> None:
    """Raises UserError for data that are no images, or of less than two pixels a side."""
    if len(shape) != 3 or min(shape[1:]) < 2:
        raise UserError(
            f"the data have the shape {'×'.join(map(str, shape))}, but what is learned is measured where pixels lie: "
            "give images"
        )


def trend_curve(heat: np.ndarray) -> np.ndarray:
    """Mean connections of a pixel in the central squares, smallest first; the last is of the whole image.

    Of 28×28 pixels the squares have 2, 4, … 28 a side.
    """
    count = min(heat.shape) // 2
    return np.array([_centre(heat, count - 1 - index).mean() for index in range(count)])


def centre_ratio(heat: np.ndarray) -> float:
    """Mean connections in the central half of each side, to those of all: R14 of 28×28 pixels."""
    return float(_centre(heat, min(heat.shape) // 4).mean() / heat.mean())


def ring_ratio(heat: np.ndarray) -> float:
    """Mean connections in the outer ring of three pixels, to those of all; of small images a ring of one."""
    width = RING if min(heat.shape) > 4 * RING else 1
    inner = _centre(heat, width)
    return float((heat.sum() - inner.sum()) / (heat.size - inner.size) / heat.mean())


def centre_error(topology: Topology, shape: tuple[int, ...], pair: tuple[int, int] = (0, 1)) -> float:
    """The standard deviation of `centre_ratio` where nothing was learned and connections lie at random.

    So many of all cells, drawn without putting back: the number in the centre is hypergeometric.
    """
    cells, drawn = topology.possible_of(pair), len(topology.cells(pair))
    heat = np.empty(shape[1:])
    share = _centre(heat, min(heat.shape) // 4).size / heat.size
    variance = drawn * share * (1 - share) * (cells - drawn) / (cells - 1)
    return math.sqrt(variance) / (drawn * share)


def _centre(heat: np.ndarray, margin: int) -> np.ndarray:
    height, width = heat.shape
    return heat[margin : height - margin, margin : width - margin]
