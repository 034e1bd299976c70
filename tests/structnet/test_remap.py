"""Remapping: the same logits in plain PyTorch, and back again."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from structnet import StructNet
from structnet.errors import UserError
from structnet.network.activations import ACTIVATIONS
from structnet.network.edit import connect
from structnet.network.remap import MODULES, from_sequential, to_sequential

torch.set_num_threads(1)


def random_network(architecture: list[int], density: float, activation: str, rng_seed: int) -> StructNet:
    network = StructNet(architecture, density, rng_seed=rng_seed, activation=activation).double()
    generator = torch.Generator().manual_seed(rng_seed)
    with torch.no_grad():
        network.values.normal_(generator=generator)
    return network


def images_for(network: StructNet) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(6, network.architecture[0], dtype=network.values.dtype, generator=generator)


@given(
    st.lists(st.integers(1, 7), min_size=2, max_size=4),
    st.floats(0.01, 1.0),
    st.sampled_from(list(MODULES)),
    st.integers(0, 99),
)
def test_there_and_back(architecture: list[int], density: float, activation: str, rng_seed: int) -> None:
    network = random_network(architecture, density, activation, rng_seed)
    images = images_for(network)
    dense = to_sequential(network)
    torch.testing.assert_close(dense(images), network(images), rtol=1e-10, atol=1e-10)
    for form in (dense, dense.state_dict()):
        back = from_sequential(form, activation=activation)
        assert back.architecture == architecture
        assert torch.equal(back.values, network.values)
        assert np.array_equal(back.topology.source, network.topology.source)
        assert np.array_equal(back.topology.target, network.topology.target)
        assert torch.equal(back(images), network(images))


def test_every_activation_without_a_shape_of_its_own_has_its_module() -> None:
    assert set(MODULES) == {name for name, activation in ACTIVATIONS.items() if not activation.shape}


def test_what_torch_has_no_module_for_is_refused() -> None:
    network = random_network([4, 3, 2], 0.5, "srelu", 0)
    with pytest.raises(UserError, match=r"activation is 'srelu'.*keep the snapshot"):
        to_sequential(network)
    with pytest.raises(UserError, match=r"activation is 'srelu'.*relu, tanh or sigmoid"):
        from_sequential({"weight": torch.ones(2, 3)}, activation="srelu")


def test_by_hand() -> None:
    """y = 3·relu(2·x₀ − x₁ + 1) − 4 from weights with a zero: three connections, two biases."""
    state = {
        "0.weight": torch.tensor([[2.0, -1.0, 0.0]]),
        "0.bias": torch.tensor([1.0]),
        "2.weight": torch.tensor([[3.0]]),
        "2.bias": torch.tensor([-4.0]),
    }
    network = from_sequential(state)
    assert network.architecture == [3, 1, 1]
    assert network.values.tolist() == [2.0, -1.0, 3.0, 1.0, -4.0]
    assert network(torch.tensor([[1.0, 1.0, 9.0]])).tolist() == [[2.0]]


def test_the_plain_module_is_independent_and_takes_images() -> None:
    network = StructNet([4, 3, 2], 0.5)
    module, images = to_sequential(network), torch.rand(5, 1, 2, 2)
    assert [type(part) for part in module] == [nn.Flatten, nn.Linear, nn.ReLU, nn.Linear]
    torch.testing.assert_close(module(images), network(images))
    before = network.values.detach().clone()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    assert torch.equal(network.values, before)


def test_skip_links_are_named() -> None:
    network = StructNet([3, 2, 2, 2], 1.0)
    grown = connect(network, np.array([0, 4]), np.array([8, 8]), 0.1).network
    with pytest.raises(UserError, match=r"the network has skip links \(0→3, 1→3\)"):
        to_sequential(grown)


# --- what from_sequential understands


def test_prefixes_missing_biases_and_given_order() -> None:
    names = ["model.encoder", "model.hidden", "model.classifier"]
    layers = [nn.Linear(4, 3), nn.Linear(3, 3, bias=False), nn.Linear(3, 2)]
    state = {
        f"{name}.{key}": value
        for name, layer in zip(names, layers)
        for key, value in layer.state_dict().items()
    }
    network = from_sequential(state, activation="tanh")
    plain = nn.Sequential(layers[0], nn.Tanh(), layers[1], nn.Tanh(), layers[2])
    images = torch.rand(5, 4)
    torch.testing.assert_close(network(images), plain(images))
    assert network.parameter_count == 12 + 9 + 6 + 3 + 3 + 2


def test_numbered_layers_come_in_the_order_of_their_numbers() -> None:
    """Files sort keys as text, which puts fc10 before fc2; all layers are square, so shapes cannot tell."""
    layers = {f"model.fc{number}": nn.Linear(3, 3) for number in (2, 10, 1)}
    state = {
        f"{name}.{key}": value for name, layer in layers.items() for key, value in layer.state_dict().items()
    }
    state = dict(sorted(state.items()))
    assert next(iter(state)).startswith("model.fc1.")
    assert list(state)[2].startswith("model.fc10.")
    plain = nn.Sequential(
        layers["model.fc1"], nn.ReLU(), layers["model.fc2"], nn.ReLU(), layers["model.fc10"]
    )
    images = torch.rand(5, 3)
    torch.testing.assert_close(from_sequential(state)(images), plain(images))


def test_a_single_layer() -> None:
    layer, images = nn.Linear(4, 2), torch.rand(3, 4)
    torch.testing.assert_close(from_sequential(layer)(images), layer(images))
    torch.testing.assert_close(from_sequential(layer.state_dict())(images), layer(images))


def test_a_shared_activation_and_nested_sequentials() -> None:
    act, images = nn.ReLU(), torch.rand(3, 4)
    module = nn.Sequential(
        nn.Flatten(), nn.Sequential(nn.Linear(4, 3), act), nn.Linear(3, 3), act, nn.Linear(3, 2)
    )
    torch.testing.assert_close(from_sequential(module)(images), module(images))


def test_a_mask_says_which_connections_exist() -> None:
    """A weight of 0 inside the mask exists, a weight outside does not; other layers go by their weights."""
    state = {
        "0.weight": torch.tensor([[0.0, 5.0], [6.0, 7.0]]),
        "0.bias": torch.zeros(2),
        "2.weight": torch.tensor([[0.0, 8.0]]),
        "2.bias": torch.zeros(1),
    }
    network = from_sequential(state, mask={"0.weight": torch.tensor([[True, False], [False, True]])})
    assert network.values.tolist() == [0.0, 7.0, 8.0, 0.0, 0.0, 0.0]
    assert (network.topology.source.tolist(), network.topology.target.tolist()) == ([0, 1, 3], [2, 3, 4])


def test_later_changes_of_the_state_dict_do_not_matter() -> None:
    module = nn.Linear(3, 2)
    network = from_sequential(module)
    before = network.values.detach().clone()
    with torch.no_grad():
        module.weight.zero_()
    assert torch.equal(network.values, before)


# --- what it refuses


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({}, "none ends in 'weight'"),
        ({"values": torch.zeros(3)}, "has the keys 'values', but none ends in 'weight'"),
        (
            {"0.weight": torch.ones(3, 4), "2.weight": torch.ones(2, 5)},
            "'2.weight' takes 5 inputs, but '0.weight' before it has 3 outputs",
        ),
        ({"0.weight": torch.ones(3, 4, 1, 1)}, r"'0.weight' has shape \(3, 4, 1, 1\)"),
        ({"0.weight": torch.ones(3)}, r"'0.weight' has shape \(3,\)"),
        ({"0.weight": torch.ones(3, 4, dtype=torch.int64)}, "type torch.int64"),
        ({"0.weight": torch.ones(3, 4), "0.bias": torch.ones(4)}, r"has shape \(4,\), but must be \(3,\)"),
        (
            {"0.weight": torch.ones(3, 4), "0.running_mean": torch.ones(3)},
            "'0.running_mean', but only weights",
        ),
        ({"0.weight": torch.ones(3, 4), "1.weight": torch.ones(2, 3).double()}, "have 2 types or devices"),
        ({"0.weight": torch.ones(0, 4)}, "two or more sizes of at least 1"),
    ],
)
def test_state_dicts_that_are_refused(state: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        from_sequential(state)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)), "pass activation='tanh'"),
        (nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2)), "the module has BatchNorm1d"),
        (nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)), "an activation between each two"),
        (nn.Sequential(nn.Linear(4, 3), nn.ReLU()), "none after the last"),
        (nn.Sequential(nn.Linear(4, 3), nn.Flatten(), nn.Linear(3, 2)), "an activation between each two"),
        (nn.Sequential(), "must be Linear layers|has Sequential"),
    ],
)
def test_modules_that_are_refused(module: nn.Module, message: str) -> None:
    with pytest.raises(UserError, match=message):
        from_sequential(module)


def test_custom_modules_are_checked_too() -> None:
    body = OrderedDict(fc1=nn.Linear(4, 3), act=nn.Sigmoid(), fc2=nn.Linear(3, 2))
    with pytest.raises(UserError, match="pass activation='sigmoid'"):
        from_sequential(nn.ModuleDict(body))
    assert from_sequential(nn.ModuleDict(body), activation="sigmoid").architecture == [4, 3, 2]


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ({"1.weight": torch.ones(2, 3)}, "mask has '1.weight', but the weights are '0.weight'"),
        ({"0.weight": torch.ones(3, 2)}, r"has shape \(3, 2\), but the weight has \(2, 3\)"),
    ],
)
def test_masks_that_are_refused(mask: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(UserError, match=message):
        from_sequential({"0.weight": torch.ones(2, 3)}, mask=mask)


def test_unknown_activation() -> None:
    with pytest.raises(UserError, match=r"activation is 'step'"):
        from_sequential({"0.weight": torch.ones(2, 3)}, activation="step")
