"""Diagnosis against autograd, and its rules on networks made by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from structnet.measure.diagnosis import Diagnosis, diagnose, largest
from structnet.network.edit import connect, disconnect
from structnet.network.network import StructNet
from structnet.network.topology import Topology

torch.set_num_threads(1)


def data(features: int, classes: int, seed: int = 0, images: int = 50) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(images, features, generator=generator, dtype=torch.float64)
    return x, torch.randint(0, classes, (images,), generator=generator)


def layer(means: list[float], activation: str = "relu") -> Diagnosis:
    """One hidden group whose units have these constant pre-activations."""
    units = len(means)
    topology, _ = Topology.sorted([1, units, 2], np.zeros(1), np.ones(1))
    values = torch.tensor([0.0, *means, 0.0, 0.0])
    network = StructNet.from_parts(topology, values, activation=activation)
    return diagnose(network, torch.rand(20, 1), torch.zeros(20, dtype=torch.int64))


def every_gradient(
    network: StructNet, images: torch.Tensor, labels: torch.Tensor
) -> dict[tuple[int, int], float]:
    """The gradient of the loss by every connection there could be, from the network that has them all."""
    topology = network.topology
    group_of = topology.group_of(np.arange(topology.offsets[-1]))
    source, target = np.nonzero(group_of[:, None] < group_of[None, :])
    lacking = ~topology.has(source, target)
    full = connect(network, source[lacking], target[lacking]).network
    torch.nn.functional.cross_entropy(full(images), labels).backward()
    assert full.values.grad is not None
    pairs = zip(full.topology.source.tolist(), full.topology.target.tolist())
    return dict(zip(pairs, full.values.grad.tolist()))


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
def test_loss_gradient_and_errors_agree_with_autograd(activation: str) -> None:
    network = StructNet([6, 5, 4, 3], density=0.6, rng_seed=1, activation=activation).double()
    images, labels = data(6, 3)
    diagnosis = diagnose(network, images.reshape(50, 2, 3), labels)
    loss = torch.nn.functional.cross_entropy(network(images), labels)
    loss.backward()
    assert diagnosis.loss == pytest.approx(loss.item())
    assert network.values.grad is not None
    assert torch.allclose(diagnosis.gradient, network.values.grad, atol=1e-14)
    assert [tuple(group.shape) for group in diagnosis.activations] == [(6, 50), (5, 50), (4, 50), (3, 50)]
    assert diagnosis.errors[0] is None
    for group in (1, 2, 3):
        error = diagnosis.errors[group]
        assert error is not None
        assert torch.allclose(
            error.sum(dim=1), network.values.grad[network.topology.bias_spans[group]], atol=1e-14
        )
    for pair, span in network.topology.links.items():
        assert diagnosis.gradient_norms[pair] == pytest.approx(float(network.values.grad[span].norm()))


@given(seed=st.integers(0, 10**6), density=st.sampled_from([0.2, 0.6, 1.0]), k=st.integers(1, 40))
def test_absent_is_the_largest_of_all_absent(seed: int, density: float, k: int) -> None:
    network = StructNet([5, 4, 3, 2], density=density, rng_seed=seed, activation="tanh").double()
    images, labels = data(5, 2, seed)
    truth = every_gradient(network, images, labels)
    diagnosis = diagnose(network, images, labels)
    offsets = network.topology.offsets
    for pair in [(0, 1), (1, 2), (2, 3), (0, 2), (0, 3), (1, 3)]:  # those that skip have no link
        source, target, gradient = diagnosis.absent(*pair, k)
        inside = [
            abs(value)
            for (a, b), value in truth.items()
            if offsets[pair[0]] <= a < offsets[pair[0] + 1]
            and offsets[pair[1]] <= b < offsets[pair[1] + 1]
            and not network.topology.has(np.array([a]), np.array([b]))[0]
        ]
        expected = sorted((value for value in inside if value > 1e-13), reverse=True)[:k]
        assert np.abs(gradient)[: len(expected)] == pytest.approx(expected, abs=1e-13)
        assert not network.topology.has(source, target).any()
        assert gradient == pytest.approx([truth[a, b] for a, b in zip(source, target)], abs=1e-13)
        assert len(set(zip(source, target))) == len(source) <= k


def test_absent_between_given_units() -> None:
    network = StructNet([8, 6, 3], density=0.3, rng_seed=2, activation="tanh").double()
    diagnosis = diagnose(network, *data(8, 3))
    source, target, gradient = diagnosis.absent(0, 1, 48)
    chosen = np.isin(source, [5, 1]) & np.isin(target, [9, 12])
    some = diagnosis.absent(0, 1, 48, sources=[5, 1], targets=np.array([12, 9]))
    assert [part.tolist() for part in some] == [part[chosen].tolist() for part in (source, target, gradient)]
    assert len(some[0]) == chosen.sum() > 0
    with pytest.raises(ValueError, match="group 1"):
        diagnosis.absent(0, 1, 3, targets=[3])


def test_equal_gradients_come_in_order() -> None:
    row, column, value = largest(torch.tensor([[2.0, -3.0, 0.0], [-2.0, 2.0, 2.0]]), 3)
    assert (row.tolist(), column.tolist(), value.tolist()) == ([0, 0, 1], [1, 0, 0], [-3.0, 2.0, -2.0])
    assert len(largest(torch.tensor([[2.0, 0.0]]), 5)[0]) == 1
    assert len(largest(torch.zeros(2, 3), 5)[0]) == len(largest(torch.ones(2, 3), 0)[0]) == 0


def test_nothing_flows_where_nothing_is_connected() -> None:
    network = StructNet([4, 3, 2], density=1.0).double()
    output = np.arange(network.topology.links[1, 2].start, network.connection_count)
    diagnosis = diagnose(disconnect(network, output).network, *data(4, 2))
    assert diagnosis.errors[1] is None
    assert len(diagnosis.absent(0, 1, 5)[0]) == 0
    assert len(diagnosis.absent(1, 2, 99)[0]) == np.count_nonzero(diagnosis.firing_rate[4:7]) * 2


def test_dead_by_hand() -> None:
    diagnosis = layer([1.0, -1.0, 2.0, 0.0])
    assert diagnosis.dead.tolist() == [2, 4]
    assert diagnosis.firing_rate[1:5].tolist() == [1, 0, 1, 0]
    assert diagnosis.mean_activation[1:5].tolist() == [1, 0, 2, 0]
    assert diagnosis.spread[0] > 0
    assert (diagnosis.spread[1:] == 0).all()


def test_dead_below_is_a_share_of_the_images() -> None:
    topology, _ = Topology.sorted([1, 1, 2], np.array([0, 1]), np.array([1, 2]))
    network = StructNet.from_parts(topology, torch.tensor([1.0, 1.0, -0.5, 0.0, 0.0]))
    images, labels = torch.arange(100.0)[:, None] >= 98, torch.zeros(100, dtype=torch.int64)
    assert diagnose(network, images, labels).dead.tolist() == []  # 2 % fire
    assert diagnose(network, images, labels, dead_below=0.03).dead.tolist() == [1]


def test_saturated_is_an_outlier_of_its_group() -> None:
    # Median 3, MAD 1: 3 · 1.4826 above is 7.45.
    assert layer([1, 2, 3, 4, 7.4]).saturated.tolist() == []
    assert layer([1, 2, 3, 4, 7.5]).saturated.tolist() == [5]
    assert layer([5, 6, 7, 8, 0.5]).saturated.tolist() == []  # below the median is not saturated


@pytest.mark.parametrize("means", [[5.0], [1.0, 9.0], [2.0, 2.0, 2.0], [0.0, 0.0, 0.0, 0.0, 9.0]])
def test_degenerate_groups_have_no_outlier(means: list[float]) -> None:
    assert layer(means).saturated.tolist() == []


def test_identical_units_differ_by_rounding_only() -> None:
    assert layer([0.3, 0.1 + 0.2, 0.3 + 1e-7, 0.3, 0.3 + 3e-8]).saturated.tolist() == []


def test_bounded_activations() -> None:
    # tanh(2) = .964, tanh(1.5) = .905, tanh(.005) = .005, tanh(.05) = .05
    tanh = layer([2.0, -2.0, 1.5, 0.005, 0.05], "tanh")
    assert (tanh.saturated.tolist(), tanh.dead.tolist()) == ([1, 2], [4])
    # sigmoid(3) = .953, sigmoid(-5) = .0067, sigmoid(-4) = .018
    sigmoid = layer([3.0, -5.0, -4.0], "sigmoid")
    assert (sigmoid.saturated.tolist(), sigmoid.dead.tolist()) == ([1], [2])


@given(units=st.integers(1, 60), low=st.floats(0.1, 100), width=st.floats(0, 100))
def test_no_rule_guarantees_a_count(units: int, low: float, width: float) -> None:
    diagnosis = layer(np.linspace(low, low + width, units).tolist())  # a healthy group: nothing stands out
    assert len(diagnosis.saturated) == len(diagnosis.dead) == 0


def test_gradient_flow_is_warned_about() -> None:
    network = StructNet([3, 3, 3, 2], density=1.0, rng_seed=0, activation="tanh").double()
    assert diagnose(network, *data(3, 2)).warnings == []
    with torch.no_grad():
        network.values[network.topology.links[2, 3]] *= 1e-6
    weak = diagnose(network, *data(3, 2))
    assert [warning.split(":")[0] for warning in weak.warnings] == ["link 0→1", "link 1→2", "link 2→3"]
    assert "is below 1e-06" in weak.warnings[0]
    assert "is above 10 × the median" in weak.warnings[2]


def test_without_hidden_units() -> None:
    network = StructNet([4, 2], density=0.5).double()
    diagnosis = diagnose(network, *data(4, 2))
    assert len(diagnosis.saturated) == len(diagnosis.dead) == 0
    assert len(diagnosis.absent(0, 1, 99)[0]) == 4
    with torch.no_grad():
        network.values.zero_()
    assert diagnose(network, *data(4, 2)).loss == pytest.approx(math.log(2))


def test_one_label_for_every_image() -> None:
    network = StructNet([4, 2], density=0.5)
    for images, labels in ((3, 2), (0, 0)):
        with pytest.raises(ValueError, match=f"{images} images and {labels} labels"):
            diagnose(network, torch.rand(images, 4), torch.zeros(labels, dtype=torch.int64))
