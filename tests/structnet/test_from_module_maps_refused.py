"""Torch modules that compute with images and cannot be taken over: each is refused in one line that names the layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers.image_modules import classified, norm
from helpers.module_cases import Computing
from torch import nn

from structnet import from_module
from structnet.errors import UserError

torch.set_num_threads(1)


def computing(forward: Callable[[Any, Any], Any]) -> nn.Module:
    """With two convolutions, to images of 6 × 6 and of 8 × 8."""
    return Computing(forward, c=nn.Conv2d(1, 2, 3), d=nn.Conv2d(1, 2, 1))


C, R = nn.Conv2d, nn.ReLU


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (classified(C(1, 2, 3), R(), nn.MaxPool2d(2)), "^MaxPool2d '2' takes the largest .* Conv2d of stride 2 or by"),
        (classified(nn.AdaptiveMaxPool2d(2)), "AdaptiveMaxPool2d '0' takes the largest"),
        (classified(C(1, 2, 3), C(2, 2, 3, padding=1), R()), "^Conv2d '1' pads images that are not 0 beyond"),
        (classified(norm(1), C(1, 2, 3, padding=1), R()), "^Conv2d '1' pads images that are not 0 beyond"),
        (classified(C(1, 2, 3, padding=2), R()), r"^ReLU '1' has maps of \(10, 10\) .* sides may not grow"),
        (classified(C(1, 2, 5), R()), r"\(1, 1\) over maps of \(8, 8\), but links between such maps step by \(2, 2\)"),
        (classified(C(3, 2, 3), R()), r"^Conv2d '0' takes images of 3 channels, but is given \(1, 8, 8\)"),
        (classified(C(1, 2, 9), R()), r"has a window of \(9, 9\), but its images are \(8, 8\)"),
        (classified(C(1, 2, 3), norm(3), R()), "BatchNorm2d '1' takes 3 channels, but is given 2"),
        (classified(C(1, 2, 3), nn.BatchNorm2d(2, track_running_stats=False)), "normalises by the batch"),
        (classified(C(1, 2, 3), R(), nn.AvgPool2d(4, ceil_mode=True)), "averages fewer positions at the edges"),
        (classified(C(1, 2, 3), R(), nn.AdaptiveAvgPool2d(4)), r"of \(6, 6\) to \(4, 4\), which does not divide"),
        (classified(C(1, 2, 3), R(), C(2, 2, 1), nn.Tanh()), "Tanh '3' is tanh, but relu comes before it"),
        (classified(C(1, 2, 3, padding=1, padding_mode="circular"), R()), "Conv2d '0' pads with what is not 0"),
        (nn.Sequential(C(1, 2, 3), R(), nn.Linear(6, 2)), r"Linear '2' takes inputs of shape .* Flatten before it"),
        (nn.Sequential(C(1, 2, 3), R()), r"gives \(batch, 2, 6, 6\), but must give one tensor"),
        (nn.Sequential(C(1, 2, 3), nn.Upsample(scale_factor=2)), "Upsample '1' .* only linear and Conv2d layers"),
        (
            classified(nn.Flatten(), nn.Linear(64, 64), R(), nn.Unflatten(1, (1, 8, 8)), C(1, 2, 3), R()),
            "Conv2d '4' takes images, but is given .* that are none",
        ),
        (computing(lambda m, x: m.c(x).mean(1)), "averages over what are not the height and the width"),
        (computing(lambda m, x: m.c(x)[:, :1].flatten(1)), "looks at a part of its inputs"),
        (computing(lambda m, x: m.c(x) + torch.arange(6.0)), "differs from position to position"),
        (computing(lambda m, x: m.c(x) + torch.ones(5)), r"joins maps of \(2, 6, 6\) with a constant of \(5,\)"),
        (computing(lambda m, x: m.c(x) + m.d(x)), r"adds values of \(2, 6, 6\) and \(2, 8, 8\)"),
        (computing(lambda m, x: torch.cat([m.c(x), m.d(x)], 1)), "concatenates images of different sides"),
        (computing(lambda m, x: F.conv2d(m.c(x), m.d(x))), "convolves with what is no constant"),
    ],
)  # fmt: skip
def test_what_cannot_be_taken_over_is_refused_in_a_line(module: nn.Module, message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        from_module(module.double(), example_shape=(1, 8, 8))
    assert "\n" not in str(refused.value)


def test_the_shape_of_images_has_to_be_given() -> None:
    for module in (classified(nn.Conv2d(1, 2, 3)), classified(nn.AvgPool2d(2))):
        with pytest.raises(UserError, match=r"give the shape of an image \(example_shape, or a dataset\)"):
            from_module(module)
