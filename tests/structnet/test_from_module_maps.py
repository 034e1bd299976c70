"""Torch modules that compute with images become networks of feature maps of equal logits, or are refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.image_modules import FLAT, assert_equal, classified, conv, last_layer, norm, taken, taps
from helpers.module_cases import Computing
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from structnet import from_module
from structnet.errors import UserError
from structnet.network.architecture import Architecture, sizes_of
from structnet.network.remap import from_sequential

torch.set_num_threads(1)

# --- equal logits, whatever the layers


@st.composite
def sequentials(draw: st.DrawFn) -> tuple[nn.Sequential, tuple[int, int, int]]:
    """Convolutions of all kinds with an activation each, batch norms, average pooling, and a way to the logits."""
    torch.manual_seed(draw(st.integers(0, 99)))
    channels, high, wide = draw(st.integers(1, 3)), draw(st.integers(5, 12)), draw(st.integers(5, 12))
    shape, activation = (channels, high, wide), draw(st.sampled_from([nn.ReLU, nn.Tanh, nn.Sigmoid]))
    modules: list[nn.Module] = []
    normalised = draw(st.booleans())
    for _ in range(draw(st.integers(1, 3))):
        window = draw(st.sampled_from([1, 2, 3, 5]))
        padding = (window // 2) if window % 2 else 0
        stride = draw(st.sampled_from([1, 2])) if min(high, wide) > 5 else 1
        stride = max(stride, 2 if window == 2 else 1)
        groups = draw(st.sampled_from([1, channels]))
        units = groups * draw(st.integers(1, 3))
        layer = nn.Conv2d(channels, units, window, stride, padding, groups=groups, bias=draw(st.booleans()))
        modules += [layer, *([norm(units)] if normalised else []), activation()]
        channels, high, wide = units, *((size + 2 * padding - window) // stride + 1 for size in (high, wide))
        if activation is nn.ReLU and min(high, wide) > 3 and draw(st.booleans()):
            modules.append(nn.AvgPool2d(2))
            high, wide = high // 2, wide // 2
        if min(high, wide) < 3:
            break
    if draw(st.booleans()):
        modules += [*FLAT, nn.Linear(channels, 3)]
    else:
        modules += [nn.Flatten(), nn.Linear(channels * high * wide, 4), activation(), nn.Linear(4, 3)]
    return nn.Sequential(*modules), shape


@given(made=sequentials())
def test_a_sequential_of_any_layers_keeps_its_logits(
    made: tuple[nn.Sequential, tuple[int, int, int]],
) -> None:
    module, shape = made
    module = module.double().eval()
    try:
        network = from_sequential(module, activation_of(module), example_shape=shape)
    except UserError as error:
        # Sides that fall so fast that links between them step otherwise.
        assert "but links between such maps step by" in str(error)
        return
    assert_equal(module, network, *shape)
    assert network.topology.architecture.sides[0] == shape[1:]


def activation_of(module: nn.Sequential) -> str:
    names = {nn.ReLU: "relu", nn.Tanh: "tanh", nn.Sigmoid: "sigmoid"}
    return next(names[type(part)] for part in module if type(part) in names)


# --- by hand


def test_weights_that_are_not_0_are_taps() -> None:
    """Row by row, the centre is 4; the mean is behind the window."""
    module = nn.Sequential(conv([[[[1, 0, 2], [0, 3, 0], [0, 0, 4]]]], padding=1), nn.ReLU(), *last_layer(1))
    network = taken(module, 1, 4, 4).network
    assert taps(network) == {(0, 0, 1): 1, (0, 2, 1): 2, (0, 4, 1): 3, (0, 8, 1): 4, (1, 9, 2): 1}
    assert network.topology.architecture == sizes_of("1@4,3x3,1@4,1")


@pytest.mark.parametrize(
    ("size", "stride", "padding", "side", "window", "codes"),
    [
        (2, 2, 0, 4, 3, [4, 5, 7, 8]),  # from the first position on, right and below
        (1, 2, 0, 4, 3, [4]),
        (3, 1, 0, 6, 3, list(range(9))),  # without padding the first position is the second one of the source
        (5, 2, 2, 4, 5, list(range(25))),
        (
            4,
            4,
            0,
            2,
            5,
            [at for at in range(25) if at >= 5 and at % 5],
        ),  # from one before the second position on
    ],
)
def test_kernels_of_any_size_lie_in_the_window(
    size: int, stride: int, padding: int, side: int, window: int, codes: list[int]
) -> None:
    module = nn.Sequential(
        conv(np.ones((1, 1, size, size)), stride=stride, padding=padding), nn.ReLU(), *last_layer(1)
    )
    network = taken(module, 1, 8, 8).network
    shape = network.topology.architecture
    assert (shape.sides[1], shape.window) == ((side, side), window)
    assert [code for unit, code, target in taps(network) if target == 1] == codes


def test_grouped_and_dilated_kernels_are_patterns_of_taps() -> None:
    module = nn.Sequential(
        conv(np.ones((2, 1, 2, 2)), groups=2, dilation=2, padding=1), nn.ReLU(), *last_layer(2)
    )
    corners = [0, 2, 6, 8]
    assert list(taps(taken(module, 2, 5, 5).network))[:8] == [
        (unit, code, unit + 2) for unit in (0, 1) for code in corners
    ]


def test_batch_norm_behind_every_convolution_stays_what_maps_are_normalised_by() -> None:
    """relu(w · n + b) is w · relu(n + b ÷ w): b ÷ w is the bias, and w goes into what reads the map."""
    first, second = norm(2), norm(1)
    module = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1),
        first,
        nn.ReLU(),
        conv(np.ones((1, 2, 1, 1))),
        second,
        nn.ReLU(),
        *last_layer(1),
    )
    found = taken(module, 1, 4, 4)
    network = found.network
    assert (found.kept, found.folded) == (["BatchNorm2d '1'", "BatchNorm2d '4'"], [])
    assert network.statistics is not None
    mean, variance = network.statistics.numpy()
    bias = module[0].bias.detach().numpy()
    np.testing.assert_allclose(mean[:2], first.running_mean.numpy() - bias, rtol=1e-14)
    np.testing.assert_array_equal(variance[:3], [*first.running_var.numpy(), second.running_var.item()])
    assert (mean[3], variance[3]) == (0, 1)
    values, biases = network.topology.split(network.values.detach())
    np.testing.assert_array_equal(values[:18], module[0].weight.detach().reshape(-1))
    np.testing.assert_allclose(values[18:20], first.weight.detach(), rtol=1e-14)
    np.testing.assert_allclose(values[20:], second.weight.detach(), rtol=1e-14)
    np.testing.assert_allclose(biases[:2], (first.bias / first.weight).detach(), rtol=1e-14)


@pytest.mark.parametrize(
    "layers",
    [
        (nn.Conv2d(1, 2, 3), norm(2), nn.Tanh()),  # no ReLU
        (nn.Conv2d(1, 2, 3), norm(2, weight=-0.5), nn.ReLU()),
        (nn.Conv2d(1, 2, 3), norm(2, weight=0.0), nn.ReLU()),
        (nn.Conv2d(1, 2, 3), norm(2), nn.ReLU(), nn.Conv2d(2, 2, 3), nn.ReLU()),  # not every one
        (nn.Conv2d(1, 2, 3), norm(2), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(2, 2, 1), norm(2), nn.ReLU()),
        (nn.Conv2d(1, 2, 3), norm(2), nn.Conv2d(2, 2, 1), nn.ReLU()),  # no ReLU behind it
        (norm(1), nn.Conv2d(1, 2, 3), nn.ReLU()),
    ],
)
def test_other_batch_norms_are_part_of_the_taps(layers: tuple[nn.Module, ...]) -> None:
    found = taken(nn.Sequential(*layers, *FLAT, nn.Linear(2, 3)), 1, 10, 10)
    norms = [f"BatchNorm2d '{at}'" for at, layer in enumerate(layers) if isinstance(layer, nn.BatchNorm2d)]
    assert (found.network.statistics, found.folded, found.kept) == (None, norms, [])


def test_average_pooling_is_a_group_of_its_own_where_a_relu_does_not_change_it() -> None:
    first, second = conv(np.ones((2, 1, 3, 3)), padding=1), conv(np.ones((1, 2, 3, 3)), padding=1)
    module = nn.Sequential(first, nn.ReLU(), nn.AvgPool2d(2), second, nn.ReLU(), *last_layer(1))
    network = taken(module, 1, 8, 8).network
    assert network.topology.architecture == sizes_of("1@8,3x3,2@8,2@4,1@4,1")
    pool = {ends: value for ends, value in taps(network).items() if ends[2] in (3, 4)}
    assert pool == {(unit, code, unit + 2): 0.25 for unit in (1, 2) for code in (4, 5, 7, 8)}


def test_what_is_added_behind_a_relu_is_a_group_before_it_is_padded() -> None:
    """relu(h) + 1 is not 0 beyond its sides, where its ReLU is; relu(h) - 1 has none that changes nothing."""
    for added, sides in ((1.0, [(8, 8)] * 4 + [(1, 1)]), (0.0, [(8, 8)] * 3 + [(1, 1)])):
        module = classified(
            nn.Conv2d(1, 2, 3, padding=1),
            nn.ReLU(),
            shifting(added),
            nn.Conv2d(2, 2, 3, padding=1),
            nn.ReLU(),
        )
        assert list(taken(module, 1, 8, 8).network.topology.architecture.sides) == sides
    module = classified(
        nn.Conv2d(1, 2, 3), nn.ReLU(), shifting(-1.0), nn.Conv2d(2, 2, 3, padding=1), nn.ReLU()
    )
    with pytest.raises(UserError, match="Conv2d '3' pads images that are not 0 beyond"):
        taken(module, 1, 8, 8)


def shifting(added: float) -> nn.BatchNorm2d:
    made = nn.BatchNorm2d(2)
    with torch.no_grad():
        made.bias.fill_(added)
    return made


@pytest.mark.parametrize(
    "end",
    [
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        nn.Sequential(nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(1)),
        nn.Sequential(nn.AvgPool2d(6), nn.Flatten()),
        Computing(lambda m, x: x.mean((2, 3))),
        Computing(lambda m, x: x.mean(dim=[-1, -2], keepdim=True).squeeze(-1).squeeze(-1)),
        Computing(lambda m, x: F.avg_pool2d(x, x.shape[2:]).view(x.size(0), -1)),
        Computing(lambda m, x: F.adaptive_avg_pool2d(x, 1).squeeze()),
    ],
)
def test_a_mean_over_positions_is_one_connection_a_map(end: nn.Module) -> None:
    module = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), end, nn.Linear(3, 2))
    network = taken(module, 1, 8, 8).network
    assert network.topology.architecture == sizes_of("1@8,3x3,3@6,2")
    assert network.topology.span_of((1, 2)).stop - network.topology.span_of((1, 2)).start == 6


def test_flat_maps_are_read_position_by_position() -> None:
    """Rows of the weight go channel by channel; a head of 1 × 1 convolutions is one of neurons."""
    module = nn.Sequential(conv([[[[1]]], [[[1]]]]), nn.ReLU(), nn.Flatten(), nn.Linear(8, 1, bias=False))
    with torch.no_grad():
        module[3].weight.copy_(torch.arange(1.0, 9.0))
    network = taken(module, 1, 2, 2).network
    assert network.topology.architecture == Architecture([1, 2, 1], [(2, 2), (2, 2), (1, 1)], 3, [1])
    read = {(unit, code - 10): value for (unit, code, target), value in taps(network).items() if target == 3}
    assert read == {(unit, at): 4 * (unit - 1) + at + 1 for unit in (1, 2) for at in range(4)}
    ends_small = nn.Sequential(
        nn.Conv2d(1, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 5, 4), nn.ReLU(), nn.Conv2d(5, 3, 1), nn.Flatten()
    )
    assert taken(ends_small, 1, 9, 9).network.topology.architecture == Architecture(
        [1, 4, 5, 3], [(9, 9), (4, 4), (1, 1), (1, 1)], 3, [1]
    )


def test_a_residual_block_is_a_skip() -> None:
    def forward(m: Any, x: Any) -> Any:
        x = F.relu(m.first(x))
        x = F.relu(x + m.second(x))
        x = F.relu(m.third(x) + m.short(x))
        return m.last(x.mean((2, 3)))

    module = Computing(
        forward,
        first=nn.Conv2d(1, 4, 3, padding=1),
        second=nn.Conv2d(4, 4, 3, padding=1, groups=2),
        third=nn.Conv2d(4, 6, 3, 2, 1),
        short=nn.Conv2d(4, 6, 1, 2),
        last=nn.Linear(6, 3),
    )
    network = taken(module, 1, 11, 11).network
    assert network.topology.architecture == sizes_of("1@11,3x3,4@11,4@11,6@6,3")
    assert set(network.topology.links) == {(0, 1), (1, 2), (2, 3), (3, 4)}
    identity = [(1 + at, 4, 5 + at) for at in range(4)]
    assert set(identity) <= set(taps(network))


def test_a_skip_over_a_group_and_channels_side_by_side() -> None:
    def forward(m: Any, x: Any) -> Any:
        a = torch.relu(m.first(x))
        b = torch.relu(m.second(a))
        c = torch.relu(m.third(torch.cat([a, b, x], 1)))
        return m.last(c.flatten(1)) - m.beside(b.mean((2, 3)))

    module = Computing(
        forward,
        first=nn.Conv2d(1, 2, 3, padding=1),
        second=nn.Conv2d(2, 3, 3, padding=1),
        third=nn.Conv2d(6, 2, 3, 2, 1),
        last=nn.Linear(18, 4),
        beside=nn.Linear(3, 4),
    )
    network = taken(module, 1, 6, 6).network
    assert set(network.topology.links) == {(0, 1), (1, 2), (0, 3), (1, 3), (2, 3), (3, 4), (2, 4)}


def test_groups_come_by_falling_sides() -> None:
    """A small branch that was made before a large one."""

    def forward(m: Any, x: Any) -> Any:
        small = torch.relu(m.small(x))
        large = torch.relu(m.large(x))
        return m.a(small.mean((2, 3))) + m.b(large.mean((2, 3)))

    module = Computing(
        forward,
        small=nn.Conv2d(1, 2, 3, 2, 1),
        large=nn.Conv2d(1, 3, 3, padding=1),
        a=nn.Linear(2, 2),
        b=nn.Linear(3, 2),
    )
    assert taken(module, 1, 8, 8).network.topology.architecture == sizes_of("1@8,3x3,3@8,2@4,2")


@pytest.mark.parametrize(
    "forward",
    [
        lambda m, x: m.end(torch.relu(m.a(x) * 2 + 1)),
        lambda m, x: m.end(F.relu(m.a(x) - m.b(x), inplace=True)),
        lambda m, x: m.end(F.conv2d(x, m.a.weight, m.a.bias, padding="same").relu_()),
        lambda m, x: m.end(F.relu(m.a((x - 0.5) / 0.25 * 0.25 + 0.5))),
        lambda m, x: m.end(F.relu(m.a(F.dropout2d(x, training=m.training)))),
        lambda m, x: m.end(F.relu(F.conv2d(F.pad(x, (1, 1, 1, 1)), m.a.weight, m.a.bias))),
        lambda m, x: m.end(F.relu(m.a(x) + torch.ones(1, 2, 1, 1, dtype=x.dtype))),
        lambda m, x: m.end(F.relu(m.a(x.view(-1, 36).view(-1, 1, 6, 6)))),
        lambda m, x: m.end(F.relu(m.a(x.flatten(1).unflatten(1, (1, 6, 6))))),
        lambda m, x: m.end(F.relu(m.a(x))) + m.end(F.relu(m.b(x))),
        lambda m, x: m.end(F.avg_pool2d(F.relu(m.next(F.relu(m.a(x)))), 2)),
        lambda m, x: m.end(m.next(m.a(x))),
    ],
)
def test_a_network_of_images_may_be_written_in_many_ways(forward: Callable[[Any, Any], Any]) -> None:
    parts = {name: nn.Conv2d(1, 2, 3, padding=1) for name in ("a", "b")}
    taken(
        Computing(forward, **parts, next=nn.Conv2d(2, 2, 3), end=nn.Sequential(*FLAT, nn.Linear(2, 3))),
        1,
        6,
        6,
    )


def test_inputs_may_be_flat_and_become_images() -> None:
    module = nn.Sequential(
        nn.Unflatten(1, (2, 3, 4)), nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), *FLAT, nn.Linear(3, 2)
    )
    assert from_module(module).topology.architecture == sizes_of("2@3x4,3x3,3@3x4,2")


def test_without_an_activation_on_maps_the_input_has_none() -> None:
    """A convolution that is read position by position is a matrix of pixels."""
    network = taken(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 3)), 1, 8, 8).network
    assert network.topology.architecture == (64, 3) and not network.topology.architecture.has_maps
    means = taken(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 3)), 2, 4, 4).network
    assert means.topology.architecture == sizes_of("2@4,3x3,3") and means.connection_count == 6


def test_float32_stays_float32() -> None:
    module = nn.Sequential(nn.Conv2d(1, 3, 3), norm(3), nn.ReLU(), *FLAT, nn.Linear(3, 2)).eval()
    network = from_module(module, example_shape=(1, 6, 6))
    assert network.values.dtype == torch.float32
    assert network.statistics is not None and network.statistics.dtype == torch.float32
