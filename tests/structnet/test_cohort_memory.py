"""How many members of a cohort a GPU takes at once, by plain numbers of what each needs and what is free."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers.cohort_cases import CASES, FACTOR, assert_same, expected, pool, train_split
from helpers.compiled_cases import linked, network_of
from hypothesis import given
from hypothesis import strategies as st

from structnet.network.state import TrainState
from structnet.network.topology import Topology
from structnet.training import cohort
from structnet.training.cohort import Cohort
from structnet.training.cohort_memory import (
    bounds_within,
    first_bounds,
    kept_bytes,
    parts_that_fit,
    working_bytes,
)


@pytest.mark.parametrize(
    ("sizes", "free", "bounds"),
    [
        ([1, 1, 1, 1], 4, [0, 4]),
        ([1, 1, 1, 1], 3, [0, 3, 4]),
        ([1, 1, 1, 1], 0, [0, 1, 2, 3, 4]),
        ([1, 1], -5, [0, 1, 2]),
        ([2, 9, 1, 1], 4, [0, 1, 2, 4]),
        ([9], 4, [0, 1]),
    ],
)
def test_parts_that_fit(sizes: list[int], free: int, bounds: list[int]) -> None:
    assert parts_that_fit(sizes, free) == bounds


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30), st.integers(-10, 200))
def test_parts_fit_and_the_next_member_would_not(sizes: list[int], free: int) -> None:
    bounds = parts_that_fit(sizes, free)
    assert bounds[0] == 0 and bounds[-1] == len(sizes)
    for start, stop in pairwise(bounds):
        assert start < stop
        assert stop - start == 1 or sum(sizes[start:stop]) <= free
        assert stop == len(sizes) or sum(sizes[start : stop + 1]) > free


def test_bytes_of_a_member_by_hand() -> None:
    """784-64-32-10 in float32, links between neighbours; the widest member has 100 and 50 hidden units."""
    shares, widest = [0.1, 0.0, 0.0, 0.1, 0.0, 0.001], [784, 100, 50, 10]
    topology = linked([784, 64, 32, 10], shares, np.random.default_rng(0))
    parameters, units = topology.parameters, 64 + 32 + 10
    assert kept_bytes(parameters, 4) == 48 * parameters
    plain = 4 * (6 * parameters + 3 * 512 * units)
    assert working_bytes(topology, widest, "sparse_rows", 4) == plain
    assert working_bytes(topology, widest, "masked_dense", 4) == plain + 8 * 784 * 64
    assert working_bytes(topology, widest, "auto", 4) == plain + 8 * 784 * 64
    wide = [784, 3000, 3000, 10]
    assert working_bytes(topology, wide, "masked_dense", 4) == plain + 8 * 3000 * 3000
    assert working_bytes(topology, wide, "auto", 4) == plain + 8 * 784 * 64, "too empty to be a matrix"
    nothing = Topology((3, 2), np.empty(0, dtype=np.int32), np.empty(0, dtype=np.int32))
    assert working_bytes(nothing, [3, 2], "auto", 8) == 8 * (6 * 2 + 3 * 512 * 2)


def test_parts_compute_in_what_all_members_leave_free() -> None:
    """Three members of 3-2 without connections: 2 biases each."""
    nothing = Topology((3, 2), np.empty(0, dtype=np.int32), np.empty(0, dtype=np.int32))
    states = [TrainState.fresh(network_of(nothing, dtype=torch.float32)) for _ in range(3)]
    kept, working = 3 * 48 * 2, 4 * (6 * 2 + 3 * 512 * 2)
    assert bounds_within(states, kept + 3 * working) == [0, 3]
    assert bounds_within(states, kept + 3 * working - 1) == [0, 2, 3]
    assert bounds_within(states, kept + 2 * working - 1) == [0, 1, 2, 3]
    assert bounds_within(states, 0) == [0, 1, 2, 3]


def test_a_cohort_may_begin_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """And its members come out as alone; on a CPU it is one part."""
    states, rates = pool("l1", "sparse_rows")
    assert first_bounds(states) == [0, len(states)]
    monkeypatch.setattr(cohort, "first_bounds", lambda given: parts_that_fit([1] * len(given), 4))
    together = Cohort(states, rates)
    assert [len(part.topologies) for part in together.parts] == [4, 4, 1]
    losses = together.train(train_split(torch.float32), CASES["l1"][3], 7, FACTOR)
    for place, (own, own_losses, _) in enumerate(expected("l1", "sparse_rows")):
        assert torch.equal(losses[place], own_losses)
        assert_same(together.take(place), own)
