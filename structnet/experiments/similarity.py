"""How alike are two sparse networks that were grown from different seeds?

Hidden units have no order, so they are matched first: one to one, such that the overlap of their fan-ins is largest
(Kuhn 1955). What is left to explain is compared with a null that keeps every degree: the same network with its
connections swapped in pairs, so that every unit has as many inputs and every input as many units as before (Maslov
& Sneppen 2002).
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from structnet.network.topology import Topology

SWAPS_EACH = 10  # per connection: enough to forget where it was


def fan_in_matrix(topology: Topology, group: int = 1) -> np.ndarray:
    """(units, inputs) booleans: which inputs feed which unit of a group."""
    inputs, units = topology.shape_of((0, group))
    matrix = np.zeros((units, inputs), dtype=bool)
    matrix[topology.positions((0, group))] = True
    return matrix


def similarity(one: np.ndarray, other: np.ndarray) -> float:
    """Share of the connections that two fan-in matrices, (units, inputs), have in common, units matched: in [0, 1].

    0 where one of them has no connection.
    """
    common = one.astype(np.int64) @ other.T.astype(np.int64)
    rows, columns = linear_sum_assignment(common, maximize=True)
    total = int(one.sum()) + int(other.sum())
    return 2 * float(common[rows, columns].sum()) / total if one.any() and other.any() else 0.0


def input_similarity(one: np.ndarray, other: np.ndarray) -> float:
    """Correlation of how many units each input feeds; 0 where that is the same for all inputs."""
    degrees = one.sum(axis=0).astype(np.float64), other.sum(axis=0).astype(np.float64)
    if min(degree.std() for degree in degrees) == 0:
        return 0.0
    return float(np.corrcoef(*degrees)[0, 1])


def with_swapped_connections(matrix: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A fan-in matrix of the same degrees with its connections swapped in pairs, at random."""
    unit, source = np.nonzero(matrix)
    found = matrix.copy()
    count = len(unit)
    if count < 2:
        return found
    for first, second in rng.integers(0, count, (SWAPS_EACH * count, 2)):
        a, b, c, d = unit[first], source[first], unit[second], source[second]
        if a != c and b != d and not found[a, d] and not found[c, b]:
            found[a, b] = found[c, d] = False
            found[a, d] = found[c, b] = True
            source[first], source[second] = d, b
    return found
