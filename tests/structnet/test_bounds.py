"""Compiled loops look at no bounds: what does not fit a network never reaches them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from structnet import StructNet
from structnet.data.dataset import Split
from structnet.errors import UserError
from structnet.network.propagation import backpropagate, propagate
from structnet.network.state import TrainState
from structnet.training.evaluation import evaluate, evaluate_all
from structnet.training.lockstep import Lockstep
from structnet.training.loop import train_steps
from structnet.training.recipe import Recipe
from structnet.training.schedules import constant

IMAGES, PIXELS, CLASSES = 20, 6, 3
RECIPE = Recipe(8)

Use = Callable[[StructNet, Split], object]
uses = pytest.mark.parametrize(
    "use",
    [
        lambda network, split: train_steps(TrainState.fresh(network), split, RECIPE, 1, constant(0.01)),
        lambda network, split: Lockstep.of(TrainState.fresh(network)).gradient_of_part(
            split, RECIPE, 0, slice(0, 4)
        ),
        evaluate,
        lambda network, split: evaluate_all([network, network], split),
    ],
    ids=["train", "part", "evaluate", "evaluate all"],
)


def split_of(pixels: int = PIXELS, first_label: int = 0) -> Split:
    return Split(torch.rand(IMAGES, pixels), torch.arange(IMAGES) % CLASSES + first_label)


@uses
def test_a_split_that_fits_is_taken(use: Use) -> None:
    use(StructNet([PIXELS, 4, CLASSES], 0.5), split_of())


@uses
@pytest.mark.parametrize("pixels", [PIXELS - 1, PIXELS + 1])
def test_images_of_another_size_are_refused(use: Use, pixels: int) -> None:
    with pytest.raises(UserError, match=f"have {pixels} numbers each, but the network has {PIXELS} inputs"):
        use(StructNet([PIXELS, 4, CLASSES], 0.5), split_of(pixels))


@uses
@pytest.mark.parametrize("first", [-1, 1])
def test_labels_that_are_no_class_are_refused(use: Use, first: int) -> None:
    said = f"labels go from {first} to {first + CLASSES - 1}, but the network has {CLASSES} classes"
    with pytest.raises(UserError, match=said):
        use(StructNet([PIXELS, 4, CLASSES], 0.5), split_of(first_label=first))


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        (torch.rand(PIXELS - 1, IMAGES), "6 input units"),
        (torch.rand(PIXELS), "6 input units"),
        (torch.rand(PIXELS, IMAGES).double(), "must be contiguous torch.float32"),
        (torch.rand(IMAGES, PIXELS).t(), "not contiguous"),
    ],
)
def test_inputs_of_a_pass_must_fit(inputs: torch.Tensor, said: str) -> None:
    network = StructNet([PIXELS, 4, CLASSES], 0.5)
    with pytest.raises(ValueError, match=said):
        propagate(network, network.values.detach(), inputs)


def test_values_of_a_pass_must_fit() -> None:
    network = StructNet([PIXELS, 4, CLASSES], 0.5)
    with pytest.raises(ValueError, match="values for"):
        propagate(network, network.values.detach()[:-1], torch.rand(PIXELS, IMAGES))


@pytest.mark.parametrize(
    "error", [torch.rand(CLASSES + 1, IMAGES), torch.rand(CLASSES, IMAGES - 1), torch.rand(IMAGES, CLASSES)]
)
def test_errors_at_the_output_must_fit(error: torch.Tensor) -> None:
    network = StructNet([PIXELS, 4, CLASSES], 0.5)
    values = network.values.detach()
    activations = propagate(network, values, torch.rand(PIXELS, IMAGES))
    with pytest.raises(ValueError, match="the error at the output is"):
        backpropagate(network, values, activations, error)
