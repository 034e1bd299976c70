"""Torch modules that become networks of equal logits, by hand and drawn at random; and what is refused."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.module_cases import Computing, linear
from helpers.training_cases import skip_network
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations, prune

from structnet import StructNet, from_module
from structnet.errors import UserError
from structnet.export.model import Model
from structnet.export.torch_module import source_of, state_of
from structnet.network.from_module import take_over
from structnet.network.remap import from_sequential, to_sequential

torch.set_num_threads(1)


def trained_norm(units: int) -> nn.BatchNorm1d:
    norm = nn.BatchNorm1d(units)
    with torch.no_grad():
        for tensor in (norm.running_mean, norm.weight, norm.bias):
            tensor.normal_()
        norm.running_var.uniform_(0.2, 3)
    return norm


def connections(network: StructNet) -> dict[tuple[int, int], float]:
    topology = network.topology
    ends = zip(topology.source.tolist(), topology.target.tolist())
    return dict(zip(ends, network.values.tolist()))


def difference(module: nn.Module, network: StructNet, *shape: int) -> float:
    inputs = torch.randn(50, *shape, dtype=network.values.dtype, generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        return float((module.eval()(inputs.clone()) - network(inputs)).abs().max())


# --- equal logits, whatever the graph


class Drawn(nn.Module):
    """A graph drawn at random: each step makes a value of those before it, and the last but one feed the logits."""

    def __init__(self, inputs: int, steps: list[tuple[str, int, int, int]], activation: str) -> None:
        super().__init__()
        self.steps, self.activation, self.layers = steps, activation, nn.ModuleDict()
        widths = [inputs]
        for number, (kind, first, second, width) in enumerate(steps):
            here, other = widths[first % len(widths)], widths[second % len(widths)]
            if kind == "linear":
                self.layers[str(number)] = nn.Linear(here, width, bias=bool(second % 2))
            elif kind == "norm":
                self.layers[str(number)] = trained_norm(here)
            elif kind == "add" and here != other:
                self.layers[str(number)] = nn.Linear(other, here)
            widths.append({"linear": width, "cat": here + other}.get(kind, here))
        self.last = nn.Linear(widths[-1], 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values = [torch.flatten(x, 1)]
        for number, (kind, first, second, _) in enumerate(self.steps):
            here, other = values[first % len(values)], values[second % len(values)]
            layer = dict(self.layers.items()).get(str(number))
            if kind in ("linear", "norm"):
                made = layer(here)
            elif kind == "add":
                made = here + (other if layer is None else layer(other))
            elif kind == "cat":
                made = torch.cat([here, other], dim=1)
            elif kind == "scale":
                made = (1 - here) * 0.5
            else:
                made = getattr(torch, self.activation)(here)
            values.append(made)
        return self.last(values[-1])


steps = st.tuples(
    st.sampled_from(["linear", "activation", "add", "cat", "norm", "scale"]),
    st.integers(0, 9),
    st.integers(0, 9),
    st.integers(1, 5),
)


@given(
    st.integers(1, 6),
    st.lists(steps, max_size=8),
    st.sampled_from(["relu", "tanh", "sigmoid"]),
    st.integers(0, 99),
)
def test_a_graph_of_any_kind_keeps_its_logits(
    inputs: int, graph: list[tuple[str, int, int, int]], activation: str, rng_seed: int
) -> None:
    torch.manual_seed(rng_seed)
    module = Drawn(inputs, graph, activation).double().eval()
    network = from_module(module, example_shape=(inputs,))
    images = torch.randn(20, inputs, dtype=torch.float64)
    with torch.no_grad():
        expected, found = module(images), network(images)
    assert float((expected - found).abs().max()) <= 1e-12 * (1 + float(expected.abs().max()))
    groups = sum(kind == "activation" for kind, *_ in graph)
    assert len(network.architecture) == 2 + groups
    assert groups == 0 or network.activation == activation


@given(
    st.lists(st.integers(1, 7), min_size=2, max_size=5),
    st.floats(0.05, 1.0),
    st.sampled_from(["relu", "tanh", "sigmoid"]),
    st.integers(0, 99),
)
def test_a_sequential_is_what_its_state_dict_is(
    architecture: list[int], density: float, activation: str, rng_seed: int
) -> None:
    module = to_sequential(StructNet(architecture, density, activation=activation, rng_seed=rng_seed))
    by_keys, followed = from_sequential(module, activation), from_module(module)
    assert followed.architecture == architecture
    assert torch.equal(followed.values, by_keys.values) and followed.values.dtype == torch.float32
    assert np.array_equal(followed.topology.source, by_keys.topology.source)
    assert np.array_equal(followed.topology.target, by_keys.topology.target)


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
def test_skips_that_were_exported_come_back_to_the_bit(activation: str, tmp_path: Path) -> None:
    network = StructNet.from_parts(
        skip_network().topology, skip_network().values.detach().float(), activation=activation
    )
    inputs, classes = network.architecture[0], network.architecture[-1]
    scaling = {"offset": [0.0], "scale": [1.0]}
    preprocessing = {"kind": "image", "shape": [1, 1, inputs], "full_scale": 1.0, **scaling}
    model = Model("skips", network, preprocessing, tuple(map(str, range(classes))))
    (tmp_path / "skips_torch.py").write_text(source_of(model))
    module = runpy.run_path(str(tmp_path / "skips_torch.py"))["Network"]()
    module.load_state_dict(state_of(model))
    back = from_module(module, example_shape=(1, 1, inputs))
    assert back.activation == activation and back.architecture == network.architecture
    assert len(back.topology.links) > len(back.architecture) - 1
    assert connections(back) == {ends: value for ends, value in connections(network).items() if value}
    assert torch.equal(back.topology.split(back.values)[1], network.topology.split(network.values)[1])


# --- by hand


def test_an_addition_of_the_input_makes_connections_of_value_1() -> None:
    """h = relu(x + (2·x₁, 3·x₀) + (0, 1)): units 2 and 3; y = h₀ - h₁ + x₀: unit 4."""
    module = Computing(
        lambda m, x: m.last(F.relu(x + m.first(x))) + m.skip(x),
        first=linear([[0, 2], [3, 0]], [0, 1]),
        last=linear([[1, -1]]),
        skip=linear([[1, 0]]),
    )
    network = from_module(module)
    assert network.architecture == [2, 2, 1]
    assert connections(network) == {
        (0, 2): 1.0,
        (1, 2): 2.0,
        (0, 3): 3.0,
        (1, 3): 1.0,
        (0, 4): 1.0,
        (2, 4): 1.0,
        (3, 4): -1.0,
    }
    assert network.values[-3:].tolist() == [0.0, 1.0, 0.0]


def test_weights_of_0_are_no_connections_and_units_without_any_stay() -> None:
    module = nn.Sequential(linear([[1, 0], [0, 0]], [0, 5]), nn.ReLU(), linear([[2, 0]], [1]))
    network = from_module(module)
    assert network.architecture == [2, 2, 1]
    assert connections(network) == {(0, 2): 1.0, (2, 4): 2.0}
    assert network.values[-3:].tolist() == [0.0, 5.0, 1.0]


def test_values_that_cancel_out_are_no_connections() -> None:
    module = Computing(lambda m, x: m.last(x) + (x - x), last=linear([[1, 2], [3, 4]]))
    assert connections(from_module(module)) == {(0, 2): 1.0, (1, 2): 2.0, (0, 3): 3.0, (1, 3): 4.0}


def test_weights_that_come_out_as_0_are_no_connections() -> None:
    """Of float64 they are 1e-60, of float32 nothing."""
    module = Computing(lambda m, x: m.last(x) * 1e-30, last=linear([[1e-30, 2]]))
    assert connections(from_module(module.double())) == pytest.approx(
        {(0, 2): 1e-60, (1, 2): 2e-30}, rel=1e-12
    )
    assert list(connections(from_module(module.float()))) == [(1, 2)]


def test_the_size_of_inputs_follows_from_whatever_comes_first() -> None:
    for forward in (
        lambda m, x: m.layer(x),
        lambda m, x: m.layer((x - torch.ones(4)) / torch.full((4,), 2.0)),
        lambda m, x: m.layer(m.norm(x)),
        lambda m, x: m.layer(x.relu().view(-1, 4)),
    ):
        network = from_module(Computing(forward, layer=nn.Linear(4, 2), norm=trained_norm(4)))
        assert network.architecture[0] == 4


def test_a_batch_norm_is_folded_into_the_weights_on_either_side() -> None:
    """(x - 3) / √(4 - ε + ε) · 10 + 7 = 5·x - 8."""
    norm = nn.BatchNorm1d(1, dtype=torch.float64)
    with torch.no_grad():
        for name, value in (("running_mean", 3), ("running_var", 4 - 1e-5), ("weight", 10), ("bias", 7)):
            getattr(norm, name).fill_(value)
    behind = take_over(nn.Sequential(linear([[2]], [1]), norm, nn.Tanh(), linear([[1]])))
    np.testing.assert_allclose(behind.network.values.tolist(), [10, 1, 5 * 1 - 8, 0], rtol=1e-14)
    before = take_over(nn.Sequential(norm, linear([[2]], [1])))
    np.testing.assert_allclose(before.network.values.tolist(), [10, 2 * -8 + 1], rtol=1e-14)
    assert behind.folded == ["BatchNorm1d '1'"] and before.folded == ["BatchNorm1d '0'"]


def test_a_layer_that_is_shared_has_its_weights_at_both_places() -> None:
    shared = linear([[1, 2], [3, 4]], [5, 6])
    network = from_module(nn.Sequential(shared, nn.ReLU(), shared, nn.ReLU(), shared))
    assert network.architecture == [2, 2, 2, 2]
    assert network.values.tolist() == [1, 2, 3, 4] * 3 + [5, 6] * 3


def test_what_reads_a_sum_of_groups_has_its_weights_for_each() -> None:
    module = Computing(lambda m, x: m.last(x + m.first(x).relu()), first=linear([[1]]), last=linear([[7]]))
    assert connections(from_module(module)) == {(0, 1): 1.0, (0, 2): 7.0, (1, 2): 7.0}


def test_dropout_is_left_out_and_named() -> None:
    module = nn.Sequential(linear([[1]]), nn.Dropout(0.5), nn.ReLU(), linear([[2]]), nn.Dropout(0.5))
    taken = take_over(module)
    assert taken.network.values.tolist() == [1, 2, 0, 0]
    assert taken.ignored == ["Dropout '1'", "Dropout '4'"] and taken.folded == []


# --- pruned and parametrised layers


def test_pruned_layers_stay_sparse_with_the_weights_they_have_now() -> None:
    """Until its next forward pass, a layer that was pruned by torch has the weights from before a load."""
    layer = linear([[1, 2], [3, 4]])
    prune.custom_from_mask(layer, "weight", torch.tensor([[1, 0], [0, 1]]))
    layer.load_state_dict({**layer.state_dict(), "weight_orig": torch.tensor([[5.0, 6], [7, 8]])})
    module = nn.Sequential(layer, nn.ReLU(), linear([[1, 1]]))
    assert connections(from_module(module)) == {(0, 2): 5.0, (1, 3): 8.0, (2, 4): 1.0, (3, 4): 1.0}


def test_parametrised_and_masked_layers_give_the_weights_they_compute() -> None:
    torch.manual_seed(0)
    normed = nn.Sequential(
        parametrizations.weight_norm(nn.Linear(5, 4)), nn.Tanh(), parametrizations.orthogonal(nn.Linear(4, 4))
    ).double()
    assert difference(normed, from_module(normed), 5) < 1e-12
    masked = Computing(
        lambda m, x: F.linear(x, m.layer.weight * m.layer.bias[:, None]),
        layer=linear([[1, 2], [3, 4]], [0, 1]),
    )
    assert connections(from_module(masked)) == {(0, 3): 3.0, (1, 3): 4.0}


# --- the ways to write it


@pytest.mark.parametrize(
    "forward",
    [
        lambda m, x: m.b(m.act(m.a(x))),
        lambda m, x: m.b(F.relu(m.a(x.flatten(1)), inplace=True)),
        lambda m, x: m.b(torch.relu(m.a(torch.flatten(x, start_dim=1)))),
        lambda m, x: m.b(m.a(x.view(x.size(0), -1)).relu_()),
        lambda m, x: m.b(m.a(x.view(-1, 6)).relu()),
        lambda m, x: m.b(m.a(x.reshape(len(x), x.shape[1:].numel())).clone().relu()),
        lambda m, x: m.b(m.a(torch.reshape(x, (x.shape[0], 6))).contiguous().relu()),
        lambda m, x: m.b(F.relu(input=F.linear(x.float(), m.a.weight, bias=m.a.bias))),
        lambda m, x: m.b(F.relu(x @ m.a.weight.t() + m.a.bias)),
        lambda m, x: m.b(F.dropout(nn.Identity()(m.act(m.a(x))), training=m.training)),
        lambda m, x: m.b(m.act(torch.add(m.a(x) * 0, m.a(x)))),
        lambda m, x: m.b(m.act(sum([m.a(x) / 2, 0.5 * m.a(x)]))),
        lambda m, x: m.b(m.act(-torch.neg(m.a(x)))),
        lambda m, x: m.b(m.act(torch.cat([m.a(x)[:, :2], m.a(x)[:, 2:]], dim=-1))),
        lambda m, x: m.b(m.act(1 - (1 - m.a(x)))),
        lambda m, x: m.b(m.act(m.a(x) if x.dim() == 2 else m.a(x.flatten(1)))),
    ],
)
def test_a_network_is_the_same_however_it_is_written(forward: Callable[[Any, Any], Any]) -> None:
    torch.manual_seed(3)
    plain = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3))
    module = Computing(forward, a=plain[0], b=plain[2], act=nn.ReLU(inplace=True))
    expected, found = from_module(plain), from_module(module)
    assert found.architecture == [6, 4, 3] and found.activation == "relu"
    torch.testing.assert_close(found.values, expected.values, rtol=0, atol=1e-7)
    assert np.array_equal(found.topology.source, expected.topology.source)


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "relu"])
def test_an_activation_is_known_as_module_function_and_method(name: str) -> None:
    modules = {"tanh": nn.Tanh(), "sigmoid": nn.Sigmoid(), "relu": nn.ReLU()}
    layer = linear([[2]])
    for act in (modules[name], getattr(torch, name), getattr(F, name), lambda x: getattr(x, name)()):
        network = from_module(Computing(lambda m, x, act=act: m.layer(act(m.layer(x))), layer=layer))
        assert network.activation == name and network.values.tolist() == [2, 2, 0, 0]


@pytest.mark.parametrize(
    "forward",
    [
        lambda m, x: torch.add(m.a(x), m.b(x), alpha=3),
        lambda m, x: torch.sub(m.a(x), m.b(x), alpha=2),
        lambda m, x: (m.a(x) - m.a.bias) / m.b.bias,
        lambda m, x: m.a.bias - m.b(x),
        lambda m, x: m.b.bias * m.a(x) * np.float64(2),
        lambda m, x: m.a(x).mul(m.a.bias[:1]).sub(1),
        lambda m, x: torch.neg(m.a(x)).add_(m.b(x)).mul_(2),
    ],
)
def test_sums_and_products_with_constants_are_part_of_the_weights(forward: Callable[[Any, Any], Any]) -> None:
    torch.manual_seed(5)
    module = Computing(forward, a=nn.Linear(4, 3), b=nn.Linear(4, 3)).double()
    network = from_module(module)
    assert network.architecture == [4, 3]
    assert difference(module, network, 4) < 1e-12


def changed_in_place(m: Any, x: Any) -> Any:
    first = m.a(x)
    same = first
    same += m.b(x)
    before = first.clone()
    return m.a(nn.ReLU(inplace=True)(first)) + first + before


def test_what_is_changed_in_place_is_changed_wherever_it_is_looked_at() -> None:
    torch.manual_seed(5)
    module = Computing(changed_in_place, a=nn.Linear(3, 3), b=nn.Linear(3, 3)).double()
    assert difference(module, from_module(module), 3) < 1e-12


def test_a_module_may_change_its_inputs_in_place() -> None:
    module = Computing(lambda m, x: m.layer(x.mul_(2)), layer=linear([[1, 2]], [3]))
    assert from_module(module).values.tolist() == [2, 4, 3]


def test_a_shape_that_is_looked_at_has_to_be_given() -> None:
    def forward(m: Any, x: Any) -> Any:
        batch, channels, height, width = x.shape
        return m.layer(x.reshape(batch, channels * height * width) if width == 3 else x)

    module = Computing(forward, layer=nn.Linear(6, 2))
    with pytest.raises(UserError, match="give that \\(example_shape, or a dataset\\)"):
        from_module(module)
    network = from_module(module, example_shape=(1, 2, 3))
    assert network.architecture == [6, 2]


def test_a_module_is_left_as_it_is() -> None:
    module = nn.Sequential(nn.Linear(4, 4), trained_norm(4), nn.Dropout(0.5), nn.ReLU(), nn.Linear(4, 2))
    module.train()
    module[1].eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    network = from_module(module)
    with pytest.raises(UserError):
        from_module(nn.Sequential(module, nn.GELU()))
    assert [part.training for part in module] == [True, False, True, True, True]
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    kept = network.values.detach().clone()
    with torch.no_grad():
        module[0].weight.zero_()
    assert torch.equal(network.values, kept)
