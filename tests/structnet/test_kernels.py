"""The kernels of a link: what they add up, in which order, and when each is picked."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from structnet.network.link import KERNELS, SparseLink, pick_kernel
from structnet.network.random_topology import random_topology
from structnet.network.topology import Topology

CPU = torch.device("cpu")


def twins(topology: Topology, copies: int) -> Topology:
    """The same two groups several times side by side, as one link with blocks on its diagonal."""
    n_in, n_out = topology.architecture
    shift = np.arange(copies)
    source = (topology.source + n_in * shift[:, None]).ravel()
    target = (topology.target - n_in + n_in * copies + n_out * shift[:, None]).ravel()
    return Topology.sorted([n_in * copies, n_out * copies], source, target)[0]


def products(link: SparseLink, values: torch.Tensor, source: torch.Tensor, error: torch.Tensor) -> list:
    gradient, start = torch.zeros_like(values), torch.ones(link.n_out, 1)
    forward = link.kernel.forward(link, values, source, start)
    link.kernel.value_gradient(link, error, source, gradient)
    return [forward, gradient, link.kernel.source_gradient(link, values, error)]


@pytest.mark.parametrize("batch", [1, 37, 128])
def test_rows_add_up_the_same_to_the_bit_wherever_they_lie(batch: int) -> None:
    topology = random_topology([50, 30], 0.1, np.random.default_rng(0))
    alone = SparseLink(topology, (0, 1), CPU, "sparse_rows")
    joined = SparseLink(twins(topology, 3), (0, 1), CPU, "sparse_rows")
    values, source, error = (
        torch.randn(*shape) for shape in ((alone.connections,), (50, batch), (30, batch))
    )
    expected = products(alone, values, source, error)
    # One value more in front: the values of a link start anywhere in the flat vector.
    flat = torch.cat([torch.zeros(1), values.repeat(3)])[1:]
    found = products(joined, flat, source.repeat(3, 1), error.repeat(3, 1))
    for one, three in zip(expected, found):
        for block in three.chunk(3):
            assert torch.equal(block, one)


@pytest.mark.parametrize("kernel", list(KERNELS))
def test_the_gradient_lands_in_its_place_and_nowhere_else(kernel: str) -> None:
    link = SparseLink(random_topology([6, 5], 0.5, np.random.default_rng(1)), (0, 1), CPU, kernel)
    source, error = torch.randn(6, 4), torch.randn(5, 4)
    gradient = torch.zeros(link.connections + 4)
    link.kernel.value_gradient(link, error, source, gradient[2:-2])
    expected = (error @ source.t())[link.row.long(), link.column.long()]
    torch.testing.assert_close(gradient[2:-2], expected)
    assert not gradient[:2].any() and not gradient[-2:].any()


def test_the_rule_goes_by_device_and_size() -> None:
    assert pick_kernel(100, 10, 1000, CPU) == "sparse_rows", (
        "asked for by nobody: there networks are compiled"
    )
    assert pick_kernel(784, 100, 784, torch.device("cuda")) == "masked_dense"
    assert pick_kernel(8192, 8192, 8192, torch.device("cuda")) == "sparse_rows"
