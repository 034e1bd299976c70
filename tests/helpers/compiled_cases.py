"""Networks of all shapes for the tests of compiled steps, and what they should compute, by plain matrices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import strategies as st

from structnet import StructNet
from structnet.compiled import plan
from structnet.compiled.plan import IS_DENSE
from structnet.network.activations import activation_named
from structnet.network.state import TrainState
from structnet.network.topology import Topology

NEVER = 10**9  # connections: of no link that a test makes
PLAIN: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}


def bent(state: torch.Tensor, shapes: torch.Tensor) -> torch.Tensor:
    """SReLU of (units, images) by its definition: the identity, less what it bends away beyond its two thresholds."""
    left, below, width, above = (number[:, None] for number in shapes.t())
    right = left + width.abs()
    return (
        state
        + (below - 1) * torch.clamp(state - left, max=0)
        + (above - 1) * torch.clamp(state - right, min=0)
    )


@st.composite
def topologies(
    draw: st.DrawFn, *, inputs: int | None = None, classes: int | None = None, widest: int = 11
) -> Topology:
    """Any depth and widths; of every pair of groups no connection, some or all, so that units may hang loose.

    More than four connections into a unit, and more than two out of it, take another way than the first ones.
    """
    sizes = [
        inputs or draw(st.integers(1, widest)),
        *draw(st.lists(st.integers(1, widest), max_size=4)),
        classes or draw(st.integers(1, 5)),
    ]
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shares = draw(
        st.lists(
            st.sampled_from([0.0, 0.3, 0.9, 1.0]),
            min_size=len(sizes) * (len(sizes) - 1) // 2,
            max_size=len(sizes) * (len(sizes) - 1) // 2,
        )
    )
    return linked(sizes, shares, rng)


def linked(sizes: Sequence[int], shares: Sequence[float], rng: np.random.Generator) -> Topology:
    """With this share of the connections of each pair of groups: 0 → 1, 0 → 2, …, 1 → 2, …"""
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    pairs = [(one, other) for one in range(len(sizes)) for other in range(one + 1, len(sizes))]
    source, target = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    for (one, other), share in zip(pairs, shares, strict=True):
        cells = sizes[one] * sizes[other]
        some = rng.permutation(cells)[: round(share * cells)]
        source.append(offsets[one] + some % sizes[one])
        target.append(offsets[other] + some // sizes[one])
    return Topology.sorted(sizes, np.concatenate(source), np.concatenate(target))[0]


def network_of(
    topology: Topology,
    *,
    rng_seed: int = 0,
    activation: str = "relu",
    kernel: str = "auto",
    dtype: torch.dtype = torch.float64,
) -> StructNet:
    """With random values, the same for every kernel and, but for their rounding, number type."""
    topology = replace(topology, shape_numbers=len(activation_named(activation).shape))
    values = np.random.default_rng(rng_seed).standard_normal(topology.parameters) / 2
    return StructNet.from_parts(
        topology, torch.from_numpy(values).to(dtype), activation=activation, kernel=kernel
    )


def state_of(network: StructNet, *, oldest: int = 0, rng_seed: int = 0) -> TrainState:
    """Before the step `oldest`, with parameters that came to be at any step until then."""
    state = TrainState.fresh(network)
    state.step = oldest
    state.born = np.random.default_rng(rng_seed).integers(0, oldest + 1, network.parameter_count)
    return state


def reference(
    topology: Topology, activation: str, values: torch.Tensor, inputs: torch.Tensor
) -> torch.Tensor:
    """(classes, images) logits, differentiable: one matrix of all units by all units. inputs: (features, images)."""
    connections, biases = topology.split(values)
    matrix = values.new_zeros(topology.units, topology.units)
    where = torch.from_numpy(topology.target).long(), torch.from_numpy(topology.source).long()
    matrix = matrix.index_put(where, connections)
    seen, shapes = inputs, topology.shapes(values)
    for group in range(1, topology.groups):
        units = topology.units_of(group)
        bias = biases[units.start - topology.architecture[0] : units.stop - topology.architecture[0]]
        state = matrix[units, : units.start] @ seen + bias[:, None]
        if group == topology.groups - 1:
            return state
        hidden = slice(units.start - topology.hidden.start, units.stop - topology.hidden.start)
        if activation == "srelu":
            seen = torch.cat([seen, bent(state, shapes.view(-1, 4)[hidden])])
        else:
            seen = torch.cat([seen, PLAIN[activation](state)])
    raise AssertionError("the last group is the output")


@contextmanager
def matrices_from(connections: int, share: float = 0.5) -> Iterator[None]:
    """Topologies made in here have their links computed as matrices from so many connections and this share on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "DENSE_CONNECTIONS", connections)
        patch.setattr(plan, "DENSE_SHARE", share)
        yield


def dense_links(topology: Topology) -> int:
    """How many of its links are computed as matrices."""
    return int(topology.plan.links[:, IS_DENSE].sum())


def assert_same_bits(one: TrainState, other: TrainState) -> None:
    """What training changes; NaN is equal to NaN."""
    for mine, its in (
        (one.network.values.detach(), other.network.values.detach()),
        (one.optimizer.first, other.optimizer.first),
        (one.optimizer.second, other.optimizer.second),
    ):
        np.testing.assert_array_equal(mine.numpy(), its.numpy())
    assert (one.step, one.optimizer.step) == (other.step, other.optimizer.step)
