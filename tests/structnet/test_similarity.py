"""How alike two networks are: units matched, against networks of the same degrees."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from structnet.experiments.similarity import (
    fan_in_matrix,
    input_similarity,
    similarity,
    with_swapped_connections,
)
from structnet.network.random_topology import random_topology


def test_the_order_of_units_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    matrix = rng.random((7, 20)) < 0.3
    assert similarity(matrix, matrix[rng.permutation(7)]) == 1.0
    assert input_similarity(matrix, matrix[rng.permutation(7)]) == pytest.approx(1.0)


def test_by_hand() -> None:
    """Matched crosswise, {0, 1} with {0} and {2} with {2, 3}: 2 of 3 + 3 connections, each counted in both."""
    one = np.array([[1, 1, 0, 0], [0, 0, 1, 0]], dtype=bool)
    other = np.array([[0, 0, 1, 1], [1, 0, 0, 0]], dtype=bool)
    assert similarity(one, other) == pytest.approx(2 * 2 / 6)
    assert similarity(one, np.zeros_like(one)) == 0.0
    # Degrees 1, 1, 1, 0 and 1, 0, 1, 1.
    assert input_similarity(one, other) == pytest.approx(-1 / 3)
    assert input_similarity(one, np.ones_like(one)) == 0.0


@given(seed=st.integers(0, 2**32 - 1), density=st.floats(0.05, 0.9))
def test_swapping_keeps_every_degree(seed: int, density: float) -> None:
    rng = np.random.default_rng(seed)
    matrix = rng.random((6, 15)) < density
    swapped = with_swapped_connections(matrix, rng)
    assert np.array_equal(matrix.sum(axis=0), swapped.sum(axis=0))
    assert np.array_equal(matrix.sum(axis=1), swapped.sum(axis=1))


def test_swapping_forgets_where_connections_were() -> None:
    rng = np.random.default_rng(1)
    matrix = np.zeros((10, 40), dtype=bool)
    for unit in range(10):
        matrix[unit, 4 * unit : 4 * unit + 4] = True
    assert similarity(matrix, with_swapped_connections(matrix, rng)) < 0.7


def test_the_fan_in_of_a_network() -> None:
    topology = random_topology([8, 5, 3], 0.4, np.random.default_rng(0))
    matrix = fan_in_matrix(topology)
    span = topology.links[0, 1]
    assert matrix.shape == (5, 8)
    assert matrix.sum() == span.stop - span.start
    assert np.array_equal(matrix.sum(axis=1), topology.fan_in()[8:13])
