"""Units that were folded away come back before a network overshoots again."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from structnet import StructNet
from structnet.data.dataset import Split
from structnet.growth.room import with_room
from structnet.network.edit import connect
from structnet.network.state import TrainState
from structnet.training.loop import train_steps
from structnet.training.recipe import Recipe
from structnet.training.schedules import constant


def state() -> TrainState:
    """10 connections are there, of 5 · 3 + 3 · 2 = 21."""
    return TrainState.fresh(StructNet([5, 3, 2], 10 / 21, rng_seed=1, ensure_paths=True))


@pytest.mark.parametrize(
    ("peak", "limit", "width"), [(10, 60, 3), (11, 60, 6), (100, 60, 6), (100, 18, 4), (100, 9, 3)]
)
def test_units_come_back_where_connections_would_be_crowded(peak: int, limit: int, width: int) -> None:
    """As many as leave two thirds of the parameters to connections."""
    assert with_room(state(), peak, limit, (5, 6, 2)).network.architecture == [5, width, 2]


def test_other_groups_and_wider_ones_are_left_alone() -> None:
    assert with_room(state(), 100, 60, (5, 6, 6, 2)).network.architecture == [5, 3, 2]
    assert with_room(state(), 100, 60, (5, 2, 2)).network.architecture == [5, 3, 2]


def test_the_network_computes_what_it_did() -> None:
    before, images = state(), torch.rand(7, 5)
    after = with_room(before, 100, 60, (5, 6, 2))
    assert torch.equal(after.network(images), before.network(images))


def test_a_unit_that_came_back_learns_once_it_is_connected() -> None:
    """Both its connections begin at 0, and none stays there."""
    after = with_room(state(), 100, 60, (5, 4, 2))
    new = 5 + 3
    after = after.edited(connect(after.network, np.array([0, new]), np.array([new, new + 1])))
    split = Split(torch.rand(64, 5), torch.arange(64) % 2)
    train_steps(after, split, Recipe(32), 20, constant(0.01))
    topology, values = after.network.topology, after.network.values.detach().numpy()
    touching = (topology.source == new) | (topology.target == new)
    assert touching.sum() == 2
    assert np.all(np.abs(values[: topology.connections][touching]) > 1e-4)
