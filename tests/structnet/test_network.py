"""StructNet: the right numbers, the right gradients, whatever the shape and the kernel."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from helpers.compiled_cases import PLAIN, bent
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from structnet import StructNet
from structnet.errors import UserError
from structnet.network.activations import ACTIVATIONS
from structnet.network.link import KERNELS
from structnet.network.topology import Topology

torch.set_num_threads(1)

both_kernels = pytest.mark.parametrize("kernel", list(KERNELS))


def all_pairs(architecture: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Source and target of every connection that could exist, skips included."""
    group = np.repeat(np.arange(len(architecture)), architecture)
    source, target = np.nonzero(group[:, None] < group[None, :])
    return source, target


def network_of(
    architecture: list[int],
    share: float,
    rng_seed: int = 0,
    *,
    activation: str = "relu",
    kernel: str = "auto",
    dtype: torch.dtype = torch.float64,
) -> StructNet:
    """A share of all connections, skips included; the biases are random too, because ReLU has a kink at 0."""
    rng = np.random.default_rng(rng_seed)
    source, target = all_pairs(architecture)
    chosen = rng.permutation(len(source))[: round(share * len(source))]
    numbers = len(ACTIVATIONS[activation].shape)
    topology, _ = Topology.sorted(architecture, source[chosen], target[chosen], numbers)
    values = torch.from_numpy(rng.standard_normal(topology.parameters)).to(dtype)
    return StructNet.from_parts(topology, values, activation=activation, kernel=kernel)


def inputs_for(network: StructNet, batch: int = 5, rng_seed: int = 1) -> torch.Tensor:
    rng = np.random.default_rng(rng_seed)
    images = torch.from_numpy(rng.standard_normal((batch, network.architecture[0])))
    return images.to(network.values.dtype)


def dense_logits(network: StructNet, images: torch.Tensor) -> torch.Tensor:
    """Unit by unit, with one dense matrix over all units: slow and obviously right."""
    topology = network.topology
    units, first = int(topology.offsets[-1]), topology.architecture[0]
    weights = images.new_zeros(units, units)
    weights[topology.target.astype(np.int64), topology.source.astype(np.int64)] = network.values[
        : topology.connections
    ]
    _, biases = topology.split(network.values)
    shapes = topology.shapes(network.values)

    def act(total: torch.Tensor, unit: int) -> torch.Tensor:
        if network.activation == "srelu":
            return bent(total[None], shapes.view(-1, 4)[unit - first][None])[0]
        return PLAIN[network.activation](total)

    states = list(images.t())
    for unit in range(first, units):
        total = biases[unit - first] + sum(weights[unit, index] * states[index] for index in range(unit))
        states.append(act(total, unit) if unit < topology.offsets[-2] else total)
    return torch.stack(states[int(topology.offsets[-2]) :], dim=1)


# --- numbers and gradients


@both_kernels
def test_forward_by_hand(kernel: str) -> None:
    """h = relu(2·1 − 3·1 + 0.5) = 0 and relu(1 + 1) = 2; y = 3·2 + 5·x₀ − 1 = 10 with the skip from x₀."""
    topology, _ = Topology.sorted([2, 2, 1], np.array([0, 1, 1, 0, 3]), np.array([2, 2, 3, 4, 4]))
    values = torch.tensor([2.0, -3.0, 1.0, 5.0, 3.0, 0.5, 1.0, -1.0])
    network = StructNet.from_parts(topology, values, kernel=kernel)
    assert network(torch.tensor([[1.0, 1.0]])).tolist() == [[10.0]]


@both_kernels
@pytest.mark.parametrize("activation", list(ACTIVATIONS))
@pytest.mark.parametrize("share", [0.4, 1.0])
def test_gradients_of_values_and_inputs(kernel: str, activation: str, share: float) -> None:
    network = network_of([4, 3, 5, 3], share, activation=activation, kernel=kernel)
    assert any(target > source + 1 for source, target in network.links)
    images = inputs_for(network).requires_grad_()

    def logits(values: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(network, {"values": values}, (images,))

    assert torch.autograd.gradcheck(logits, (network.values.detach().requires_grad_(), images))


@given(
    st.lists(st.integers(1, 5), min_size=2, max_size=4),
    st.floats(0, 1),
    st.sampled_from(list(ACTIVATIONS)),
    st.integers(0, 4),
    st.integers(0, 99),
)
def test_kernels_agree_with_the_plain_network(
    architecture: list[int], share: float, activation: str, batch: int, rng_seed: int
) -> None:
    """Logits and gradients, also of networks with lonely units, empty links and empty batches."""
    for kernel in KERNELS:
        network = network_of(architecture, share, rng_seed, activation=activation, kernel=kernel)
        images = inputs_for(network, batch)
        expected, logits = dense_logits(network, images), network(images)
        assert logits.shape == (batch, architecture[-1])
        torch.testing.assert_close(logits, expected, rtol=1e-10, atol=1e-10)
        error = torch.linspace(-1, 1, logits.numel(), dtype=logits.dtype).view_as(logits)
        (gradient,) = torch.autograd.grad(logits, network.values, error)
        (expected_gradient,) = torch.autograd.grad(expected, network.values, error)
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-9, atol=1e-9)


@both_kernels
def test_agrees_with_masked_linear_layers(kernel: str) -> None:
    network = StructNet([6, 5, 3], 0.5, rng_seed=2, kernel=kernel)
    first, second = nn.Linear(6, 5), nn.Linear(5, 3)
    with torch.no_grad():
        for group, layer in enumerate([first, second]):
            link = network.links[(group, group + 1)]
            layer.weight.copy_(link.dense(network.values[link.span]))
            layer.bias.zero_()
    images = torch.rand(7, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(network(images), second(torch.relu(first(images))))


def test_images_are_flattened() -> None:
    network = StructNet([12, 4], 0.5)
    images = torch.arange(24.0).view(2, 3, 2, 2)
    assert torch.equal(network(images), network(images.view(2, 12)))
    assert torch.equal(network(images.double()), network(images))


@both_kernels
def test_a_batch_that_is_a_view(kernel: str) -> None:
    network = network_of([4, 3, 2], 1.0, kernel=kernel)
    wide = inputs_for(network_of([8, 2], 1.0))
    torch.testing.assert_close(network(wide[:, ::2]), network(wide[:, ::2].contiguous()))


# --- edge cases of growth


@both_kernels
def test_without_connections_the_biases_answer(kernel: str) -> None:
    empty = np.empty(0, dtype=np.int32)
    topology, _ = Topology.sorted([3, 2, 2], empty, empty)
    network = StructNet.from_parts(topology, torch.tensor([1.0, 2.0, 3.0, 4.0]), kernel=kernel)
    logits = network(torch.ones(2, 3))
    assert logits.tolist() == [[3.0, 4.0], [3.0, 4.0]]
    logits.sum().backward()
    assert network.values.grad is not None
    assert network.values.grad.tolist() == [0.0, 0.0, 2.0, 2.0]


@both_kernels
def test_a_group_without_a_way_in_is_constant(kernel: str) -> None:
    """y = 2·relu(3) + 1·relu(−1) + 0.5, whatever the input; the slope there is 1 and 0."""
    topology, _ = Topology.sorted([2, 2, 1], np.array([2, 3]), np.array([4, 4]))
    network = StructNet.from_parts(topology, torch.tensor([2.0, 1.0, 3.0, -1.0, 0.5]), kernel=kernel)
    logits = network(torch.rand(3, 2))
    assert logits.tolist() == [[6.5]] * 3
    logits.sum().backward()
    assert network.values.grad is not None
    assert network.values.grad.tolist() == [9.0, 0.0, 6.0, 0.0, 3.0]


# --- what is counted and shown


def test_parameters_are_what_exists() -> None:
    network = StructNet([784, 100, 10], density=0.01)
    assert network.connection_count == 794
    assert network.parameter_count == 794 + 110 == sum(p.numel() for p in network.parameters())
    assert network.parameters_dense == 784 * 100 + 100 + 100 * 10 + 10
    assert network.architecture == [784, 100, 10]
    assert "784-100-10: 904 parameters (794 connections" in network.describe()
    assert "904 parameters" in repr(network)


def test_links_are_slices_of_the_values() -> None:
    network = StructNet([6, 4, 3], density=0.5)
    link = network.links[(0, 1)]
    assert (link.n_in, link.n_out, link.pair) == (6, 4, (0, 1))
    assert sum(link.connections for link in network.links.values()) == network.connection_count
    assert [span.stop - span.start for span in network.topology.bias_spans] == [0, 4, 3]
    assert network.topology.bias_spans[-1].stop == network.parameter_count
    matrix = link.dense(network.values.detach()[link.span])
    rows, columns = torch.nonzero(matrix, as_tuple=True)
    assert torch.equal(rows, link.row.long())
    assert torch.equal(columns, link.column.long())


def test_seeds_repeat_and_differ() -> None:
    first, again, other = (StructNet([20, 10, 4], 0.2, rng_seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.values, again.values)
    assert not torch.equal(first.values, other.values)


def test_initial_values_keep_the_variance() -> None:
    """Weights have variance 2 ÷ fan-in into ReLU units and 1 ÷ fan-in into the output; biases are 0."""
    network = StructNet([400, 300, 200], 0.1, rng_seed=1)
    values, fan_in = network.values.detach().double().numpy(), network.topology.fan_in()
    scaled = values[: network.connection_count] * np.sqrt(fan_in[network.topology.target])
    for pair, variance in (((0, 1), 2.0), ((1, 2), 1.0)):
        assert np.var(scaled[network.topology.links[pair]]) == pytest.approx(variance, rel=0.1)
    assert not values[network.connection_count :].any()


# --- copies


def test_a_fork_has_values_of_its_own() -> None:
    network = StructNet([4, 3, 2], 0.5)
    fork, before = network.fork(), network.values.detach().clone()
    with torch.no_grad():
        fork.values.add_(1)
    assert torch.equal(network.values, before)
    assert fork.topology is network.topology


def test_deepcopy_after_use() -> None:
    network = StructNet([6, 4, 2], 0.5, activation="tanh")
    images = torch.rand(3, 6)
    logits = network(images)
    twin = copy.deepcopy(network)
    assert torch.equal(twin(images), logits)
    with torch.no_grad():
        twin.values.zero_()
    assert torch.equal(network(images), logits)


def test_to_another_type() -> None:
    network = network_of([5, 4, 3], 0.5, dtype=torch.float32)
    images = inputs_for(network)
    single = network(images)
    network.to(torch.float64)
    assert network.values.dtype == torch.float64
    assert network(images).dtype == torch.float64
    torch.testing.assert_close(network(images).float(), single)


def test_become_takes_over_everything() -> None:
    network, other = StructNet([4, 3, 2], 0.5), network_of([4, 2, 2, 3], 0.7, activation="tanh")
    images = inputs_for(other)
    network(images)
    assert network.topology.bias_spans
    network.become(other)
    assert torch.equal(network(images), other(images))
    assert network.architecture == [4, 2, 2, 3]
    assert list(network.parameters()) == [network.values]


# --- state dicts


def test_a_state_dict_is_the_whole_network() -> None:
    network = network_of([5, 4, 3], 0.6, activation="sigmoid")
    rebuilt = StructNet.from_state_dict(network.state_dict())
    images = inputs_for(network)
    assert torch.equal(rebuilt(images), network(images))
    assert (rebuilt.activation, rebuilt.architecture) == ("sigmoid", [5, 4, 3])
    with torch.no_grad():
        rebuilt.values.zero_()
    assert network.values.abs().sum() > 0
    assert np.array_equal(rebuilt.topology.source, network.topology.source)


def test_a_state_dict_loads_into_another_shape() -> None:
    network = network_of([5, 4, 3], 0.6, activation="tanh", dtype=torch.float32)
    holder, target = nn.Sequential(network), nn.Sequential(StructNet([7, 2], 1.0))
    images = inputs_for(network)
    result = target.load_state_dict(holder.state_dict())
    assert (result.missing_keys, result.unexpected_keys) == ([], [])
    assert torch.equal(target(images), holder(images))


def test_damaged_state_dicts_are_refused() -> None:
    state = StructNet([4, 3, 2], 0.5).state_dict()
    with pytest.raises(ValueError, match="values for"):
        StructNet.from_state_dict({**state, "values": state["values"][1:]})
    with pytest.raises(ValueError, match="not in their order"):
        flipped = {key: state[key].flip(0) for key in ("source", "target")}
        StructNet.from_state_dict({**state, **flipped})
    with pytest.raises(ValueError, match="unknown activation"):
        StructNet.from_state_dict({**state, "activation": torch.tensor(99)})


def test_unknown_activation() -> None:
    with pytest.raises(UserError, match="activation is 'step', but must be one of relu, tanh, sigmoid"):
        StructNet([4, 2], 0.5, activation="step")


def test_a_network_like_another_shares_nothing_but_what_it_is() -> None:
    network = network_of([5, 4, 3], 0.5, activation="tanh", kernel="sparse_rows", dtype=torch.float32)
    values = np.arange(network.parameter_count, dtype=np.float64)
    other = network.with_values(values)
    assert (other.activation, other.kernel, other.values.dtype) == ("tanh", "sparse_rows", torch.float32)
    assert other.topology is network.topology
    assert other.values.tolist() == values.tolist()
    smaller = network_of([5, 3], 1.0)
    assert network.like(smaller.topology, smaller.values.detach()).architecture == [5, 3]
    with pytest.raises(ValueError, match="values for"):
        network.with_values(values[1:])
