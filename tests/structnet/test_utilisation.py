"""Patch utilisation: the worth of a growth by hand, its correlation, and what a tournament tells of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from helpers.training_cases import image_split

from search.commands.grow.outcome import _utilised
from structnet import StructNet
from structnet.data.dataset import Dataset, Split
from structnet.growth.utilisation import Utilisation, utilisation
from structnet.network.edit import connect
from structnet.network.state import TrainState
from structnet.network.topology import Topology
from structnet.training.recipe import Recipe
from tournament import Economy, Tournament
from tournament.progress import Progress
from tournament.settings import Settings

NOTHING, HALF_SURE = 1.0, math.log2(1 + math.exp(-2.0))  # bits that a label of two classes still has


def state() -> TrainState:
    """2-2-2: input 0 feeds unit 2, which feeds output 4 by 2; both bias-free. At step 5 input 1 comes to feed unit 3,
    and at step 9 unit 3 output 5, by 2."""
    topology, _ = Topology.sorted([2, 2, 2], np.array([0, 2]), np.array([2, 4]))
    values = torch.tensor([1.0, 2.0, 0.0, 0.0, 0.0, 0.0])
    found = TrainState.fresh(StructNet.from_parts(topology, values))
    for step, source, target, value in ((5, 1, 3, 1.0), (9, 3, 5, 2.0)):
        found.step = step
        found = found.edited(connect(found.network, np.array([source]), np.array([target]), value))
    return found


def one_hot() -> Split:
    """Inputs (1, 0) of class 0 and (0, 1) of class 1, three of each."""
    return Split(torch.eye(2).repeat(3, 1), torch.tensor([0, 1]).repeat(3))


def test_the_loss_is_that_of_the_network_without_it() -> None:
    """Without either, images of class 1 have logits (0, 0) instead of (0, 2); those of class 0 stay as they are."""
    early, late, seed = utilisation(state(), one_hot(), [5, 9, 0])
    assert (early.step, early.connections, late.connections, seed.connections) == (5, 1, 1, 2)
    each = (NOTHING - HALF_SURE) / 2
    assert early.bits == pytest.approx(each, rel=1e-5)
    assert late.bits == pytest.approx(each, rel=1e-5)
    assert seed.bits == pytest.approx(each, rel=1e-5)
    # Three losses of 2·each and three of 0: a sample deviation of each·√(6/5), over √6.
    assert early.standard_error == pytest.approx(each / math.sqrt(5), rel=1e-5)


def test_a_growth_that_is_gone_costs_nothing() -> None:
    (gone,) = utilisation(state(), one_hot(), [7])
    assert gone == Utilisation(7, 0, 0.0, 0.0, None)
    assert not gone.is_redundant(1.0)


def test_the_largest_correlation_is_that_of_activations() -> None:
    """Units 2 and 3 are (1, 0) and (0, 1): their correlation is −1. Outputs have none."""
    early, late = utilisation(state(), one_hot(), [5, 9])
    assert early.largest_correlation == pytest.approx(1.0)
    assert late.largest_correlation is None


def test_correlations_between_and_of_a_constant_unit() -> None:
    """Activations (1,0,1,0), (1,1,0,0) and constant 0: uncorrelated. A fourth (1,1,1,0): 1/√3 with both."""
    topology, _ = Topology.sorted([3, 3, 2], np.array([0, 1]), np.array([3, 4]))
    found = TrainState.fresh(StructNet.from_parts(topology, torch.tensor([1.0, 1.0, 0, 0, 0, 0, 0])))
    found.step = 3
    found = found.edited(connect(found.network, np.array([2]), np.array([5]), 0.0))
    images = torch.tensor([[1.0, 1, 1], [0, 1, 1], [1, 0, 1], [0, 0, 0]])
    split = Split(images, torch.zeros(4, dtype=torch.int64))
    assert utilisation(found, split, [3])[0].largest_correlation == 0.0
    with torch.no_grad():
        found.network.values[topology.connections] = 1.0  # the connection of step 3, last in order
    assert utilisation(found, split, [3])[0].largest_correlation == pytest.approx(1 / math.sqrt(3))
    assert utilisation(found, split, [0])[0].largest_correlation == pytest.approx(1 / math.sqrt(3))


def test_a_connection_of_no_effect_is_redundant_and_one_that_decides_is_not() -> None:
    found = state()
    with torch.no_grad():
        found.network.values[found.born == 9] = 0.0
    late = utilisation(found, one_hot(), [9])[0]
    assert late.bits == 0.0
    assert late.is_redundant(0.005)
    assert not late.is_redundant(0.0)
    each = 1000 * (NOTHING - HALF_SURE) / 2
    worth = utilisation(state(), one_hot(), [9])[0]
    assert not worth.is_redundant(each * 0.999)
    assert worth.is_redundant(each * 1.001)


@pytest.fixture(scope="module")
def grown() -> tuple[TrainState, list[dict[str, object]], Progress]:
    splits = [image_split(images, seed) for seed, images in enumerate((400, 300, 50))]
    data = Dataset("small", *splits, 3, ("a", "b", "c"), {})
    settings = Settings(
        epochs=15,
        rounds=4,
        round_steps=20,
        heat_steps=20,
        candidates=4,
        growth_share=0.6,
        recipe=Recipe(batch_size=20, rng_seed=1),
        economy=Economy(opening_credits=500),
    )
    tournament = Tournament(StructNet([16, 6, 3], 0.3, rng_seed=0), data, settings=settings)
    result = tournament.run()
    return TrainState.from_arrays(tournament.line.arrays()), result.utilisation, result.progress


def test_a_tournament_tells_of_every_growth_it_adopted(
    grown: tuple[TrainState, list[dict[str, object]], Progress],
) -> None:
    state, rows, progress = grown
    assert rows
    assert [[row[name] for name in ("round", "step", "action", "site")] for row in rows] == progress.growths
    born = state.born[: state.network.connection_count]
    for row in rows:
        assert row["connections"] == np.count_nonzero(born == row["step"])
    assert any(row["connections"] for row in rows)


def test_the_command_tells_in_one_line() -> None:
    rows = [
        {"connections": 0, "redundant": False},
        {"connections": 3, "redundant": True},
        {"connections": 4, "redundant": False},
    ]
    assert _utilised(rows, 0.005) == (
        "Growths adopted: 3; gone by now: 1; could go for less than 0.005 bits per thousand parameters: 1."
    )
