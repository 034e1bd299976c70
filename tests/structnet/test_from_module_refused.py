"""Torch modules that cannot be taken over: each is refused in one line that names the layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers.module_cases import Computing, linear
from torch import nn

from structnet import from_module
from structnet.errors import UserError
from structnet.network.from_module import largest_difference

torch.set_num_threads(1)


def forwarded(forward: Callable[[Any, Any], Any]) -> nn.Module:
    return Computing(forward, layer=nn.Linear(4, 4))


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(4, 2)), "Conv2d '0' takes images, but is given"),
        (nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 2)), "GELU '1' computes gelu"),
        (nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)), "LayerNorm '1' computes layer_norm"),
        (nn.Sequential(nn.Linear(4, 4), nn.Softmax(1)), "Softmax '1' makes .* give the network without it"),
        (nn.Sequential(nn.Linear(4, 4), nn.LogSoftmax(1)), "LogSoftmax '1' makes probabilities"),
        (nn.Sequential(nn.Linear(4, 4), nn.Sigmoid()), "ends with sigmoid, but logits are needed"),
        (
            nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2)),
            "Tanh '3' is tanh, but relu comes before it.*use relu everywhere$",
        ),
        (
            nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.Sigmoid()),
            "Sigmoid '3' is sigmoid, but relu .*if it only ends the network, leave it out",
        ),
        (nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(2, 2)), "Linear '2' takes 2 features, but is given 3"),
        (nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(2)), "BatchNorm1d '1' takes 2 features, but is given 3"),
        (
            nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, track_running_stats=False)),
            "BatchNorm1d '1' normalises by the batch",
        ),
        (nn.Sequential(nn.Flatten(0), nn.Linear(4, 3)), "Flatten '0' flattens the batch as well"),
        (nn.Sequential(nn.LazyLinear(3)), "layers without a size yet: run it on one input"),
        (nn.Flatten(), "weights of 0 number types .* linear layers"),
        (nn.Linear(4, 2).half(), r"weights of torch.float16, but .* convert it with .float\(\)"),
        (nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 2).double()), "weights of 2 number types or devices"),
        (nn.ModuleList([nn.Linear(4, 2)]), "ModuleList cannot be followed"),
        (nn.Bilinear(4, 4, 2), "Bilinear cannot be followed .*missing 1 required positional argument"),
        (forwarded(lambda m, x: m.layer(x) if m.layer(x) else x), "decides by values"),
        (forwarded(lambda m, x: m.layer(x) if x.sum() > 0 else x), "Computing computes sum"),
        (forwarded(lambda m, x: m.layer(x) if x > 0 else x), "Computing computes gt"),
        (forwarded(lambda m, x: m.layer(x) * m.layer(x)), "multiplies two values"),
        (forwarded(lambda m, x: m.layer(x) / m.layer(x)), "divides by a value"),
        (forwarded(lambda m, x: 1 / m.layer(x)), "divides by a value"),
        (forwarded(lambda m, x: m.layer(x) ** 2), "computes pow"),
        (forwarded(lambda m, x: m.layer(x) @ m.layer(x)), "multiplies by what is no constant matrix"),
        (forwarded(lambda m, x: m.layer(x) + torch.ones(3)), r"a constant of \(3,\)"),
        (forwarded(lambda m, x: m.layer(x) + m.layer(x)[:, :1]), r"adds values of \(4,\) and \(1,\) features"),
        (forwarded(lambda m, x: m.layer(x)[0]), "part of its inputs"),
        (forwarded(lambda m, x: m.layer(x)[:, 0]), r"looks at \[slice\(None, None, None\), 0\]"),
        (forwarded(lambda m, x: m.layer(x).T), "takes .T of a value"),
        (forwarded(lambda m, x: F.dropout(m.layer(x))), "drops units in evaluation too"),
        (forwarded(lambda m, x: F.batch_norm(m.layer(x), torch.ones(4), torch.ones(4), training=True)), "by the batch"),
        (forwarded(lambda m, x: m.layer(x).view(-1)), "images must stay apart"),
        (forwarded(lambda m, x: m.layer(x).view(-1, 2)), "images must stay apart"),
        (forwarded(lambda m, x: m.layer(x).view(-1, 2, 2)), r"gives \(batch, 2, 2\), but must give one tensor"),
        (forwarded(lambda m, x: (m.layer(x), x)), "gives tuple, but must give one tensor"),
        (forwarded(lambda m, x: m.layer.weight), "gives Parameter, but must give one tensor"),
        (forwarded(lambda m, x: torch.cat([m.layer(x), x])), "concatenates what are not flat values"),
        (forwarded(lambda m, x: torch.add(m.layer(x), x, out=x)), "computes add in a way that cannot be taken over"),
        (forwarded(lambda m, x: m.layer.bias.detach().clone().add_(m.layer(x))), "changes a constant in place"),
        (forwarded(lambda m, x: m.layer(x) / x.size(0)), "logits differ by up to .* depend on the batch"),
        (forwarded(lambda m, x: m.layer(x) + torch.rand(4)), "logits differ by up to .* on chance"),
        (forwarded(lambda m, x: m.layer(x) * float("nan")), "not finite"),
    ],
)  # fmt: skip
def test_what_cannot_be_taken_over_is_refused_in_a_line(module: nn.Module, message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        from_module(module)
    assert "\n" not in str(refused.value)


def test_a_linear_layer_over_the_last_of_several_dimensions_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"Linear '0' takes inputs of shape \(7, 4\), .* put Flatten before it"
    ):
        from_module(nn.Sequential(nn.Linear(4, 2), nn.Flatten()), example_shape=(7, 4))
    with pytest.raises(UserError, match="Linear '1' takes 27 features, but is given 28"):
        from_module(nn.Sequential(nn.Flatten(), nn.Linear(27, 2)), example_shape=(7, 4))


def test_networks_that_differ_are_told_apart() -> None:
    module = linear([[1, 2]])
    network = from_module(module)
    images = torch.ones(3, 2, dtype=torch.float64)
    assert largest_difference(module, network, images).largest == 0
    with torch.no_grad():
        network.values[0] += 1e-9
    with pytest.raises(UserError, match="logits differ by up to 1e-09, but at most 4e-11"):
        largest_difference(module, network, images)
    with pytest.raises(UserError, match="logits of shape"):
        largest_difference(nn.Sequential(module, nn.Flatten(0)), network, images)
