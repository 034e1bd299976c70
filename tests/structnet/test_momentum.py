"""Gradient descent with momentum: the numbers of torch.optim.SGD, three ways to decay, and velocity through an edit."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from helpers.training_cases import image_split
from torch.nn.functional import cross_entropy

from structnet import StructNet
from structnet.errors import UserError
from structnet.network.edit import connect
from structnet.network.state import TrainState
from structnet.training.batches import training_batch
from structnet.training.lockstep import Lockstep
from structnet.training.loop import train_steps
from structnet.training.rates import AgeRates
from structnet.training.recipe import BARE, COUPLED, DECAYS, DECOUPLED, Recipe
from structnet.training.schedules import constant

torch.set_num_threads(1)

KERNELS = ["auto", "sparse_rows"]


def network(kernel: str) -> StructNet:
    return StructNet([16, 9, 3], 0.4, rng_seed=5, kernel=kernel).to(torch.float64)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("momentum", "decay"), [(0.0, 0.0), (0.9, 0.0), (0.5, 0.01)])
def test_the_numbers_are_those_of_torch(kernel: str, momentum: float, decay: float) -> None:
    split = image_split(60, dtype=torch.float64)
    recipe = Recipe(12, rng_seed=3, momentum=momentum, weight_decay=decay, decay=COUPLED)
    state, theirs = TrainState.fresh(network(kernel)), network("sparse_rows")
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.05, momentum=momentum, weight_decay=decay)
    train_steps(state, split, recipe, 20, constant(0.05))
    for step in range(20):
        inputs, labels = training_batch(split, recipe, step)
        optimizer.zero_grad()
        cross_entropy(theirs(inputs.t()), labels).backward()
        optimizer.step()
    np.testing.assert_allclose(state.network.values.detach(), theirs.values.detach(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("decay", DECAYS)
def test_what_has_no_gradient_shrinks_by_its_decay(kernel: str, decay: str) -> None:
    """A unit that no image drives, over three steps at a rate of 0.1, by hand."""
    silent = network(kernel)
    flat = silent.values.detach()
    flat[silent.connection_count : silent.connection_count + 9] = -100.0  # biases that no input outweighs
    before = flat.clone()
    state = TrainState.fresh(silent)
    recipe = Recipe(12, momentum=0.5, weight_decay=0.01, decay=decay)
    train_steps(state, image_split(60, dtype=torch.float64), recipe, 3, constant(0.1))
    into_hidden = slice(silent.topology.links[(0, 1)].start, silent.topology.links[(0, 1)].stop)
    hidden_biases = slice(silent.connection_count, silent.connection_count + 9)
    # The velocities of a decay in the gradient are w/100, then half of it and of what is left of w more, and so on.
    first = 0.01
    second = 0.5 * first + 0.01 * (1 - 0.1 * first)
    third = 0.5 * second + 0.01 * (1 - 0.1 * (first + second))
    kept = {DECOUPLED: 0.999**3, COUPLED: 1 - 0.1 * (first + second + third), BARE: 0.99**3}[decay]
    now = state.network.values.detach()
    np.testing.assert_allclose(now[into_hidden], kept * before[into_hidden], rtol=1e-12)
    biases_kept = 1.0 if decay == DECOUPLED else kept
    np.testing.assert_allclose(now[hidden_biases], biases_kept * before[hidden_biases], rtol=1e-12)


def test_velocity_follows_what_survives_and_is_0_for_what_is_new() -> None:
    state = TrainState.fresh(network("auto"))
    train_steps(state, image_split(60, dtype=torch.float64), Recipe(12, momentum=0.9), 5, constant(0.05))
    links = state.network.topology.links[(0, 1)]
    absent = np.setdiff1d(np.arange(16 * 9), state.network.topology.cells((0, 1)))[:1]
    edit = connect(state.network, absent % 16, 16 + absent // 16)
    edited = state.edited(edit)
    is_new = edit.origin < 0
    assert is_new.sum() == 1 and is_new[: links.stop + 1].any()
    assert np.all(edited.optimizer.first.numpy()[is_new] == 0)
    np.testing.assert_array_equal(
        edited.optimizer.first.numpy()[~is_new], state.optimizer.first.numpy()[edit.origin[~is_new]]
    )
    assert np.count_nonzero(state.optimizer.first) > 0


@pytest.mark.parametrize("decay", DECAYS)
def test_members_have_decays_of_their_own(decay: str) -> None:
    """To the bit what each comes to alone."""
    split, decays = image_split(60, dtype=torch.float64), [0.0, 0.01, 0.3]
    recipe = Recipe(12, momentum=0.9, decay=decay)
    together = Lockstep.together([TrainState.fresh(network("auto")) for _ in decays])
    together.train(split, recipe, 8, constant(0.05), 0, decays=np.array(decays))
    for member, weight_decay in enumerate(decays):
        alone = TrainState.fresh(network("auto"))
        train_steps(alone, split, replace(recipe, weight_decay=weight_decay), 8, constant(0.05))
        assert torch.equal(together.take(member, 8).network.values, alone.network.values)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"momentum": 1.0}, "momentum is 1.0, but must be in [0, 1)"),
        ({"momentum": -0.1}, "momentum is -0.1"),
        ({"decay": "half"}, "decay is 'half', but must be one of decoupled, coupled, bare"),
        ({"decay": COUPLED}, "Adam has decoupled decay only"),
        ({"momentum": 0.9, "rates": AgeRates(4, 9)}, "rates by age are for Adam"),
        ({"momentum": 0.9, "decay": BARE, "weight_decay": 1.5}, "weight_decay is 1.5, but must be at most 1"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=re.escape(says)):
        Recipe(**options)
