"""SReLU, whose units learn a shape of their own, and hidden dropout: by hand, and through all that a network lives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.compiled_cases import linked, network_of, state_of
from helpers.training_cases import image_split

from structnet import StructNet
from structnet.actions.base import Context
from structnet.errors import UserError
from structnet.measure.diagnosis import diagnose
from structnet.network.activations import srelu, srelu_errors
from structnet.network.edit import add_units, connect, disconnect, redirect, remove_units
from structnet.network.topology import Topology
from structnet.storage.snapshot import load_snapshot, save_snapshot
from structnet.training.augmentation import drop_masks, dropped, key_of
from structnet.training.cohort import Cohort
from structnet.training.loop import train_steps
from structnet.training.recipe import Recipe
from structnet.training.schedules import constant

torch.set_num_threads(1)

RECIPE = Recipe(16, dropout=0.3, momentum=0.9)


def shaped(rng_seed: int = 0, kernel: str = "auto") -> StructNet:
    """16-5-4-3 with skips, and shapes that have been bent at random."""
    topology = linked([16, 5, 4, 3], [0.6, 0.3, 0.2, 0.7, 0.5, 0.9], np.random.default_rng(0))
    return network_of(topology, rng_seed=rng_seed, activation="srelu", kernel=kernel)


def shapes_of(network: StructNet) -> np.ndarray:
    """(hidden units, 4)."""
    return network.topology.shapes(network.values.detach()).view(-1, 4).numpy()


# --- SReLU


def test_by_hand() -> None:
    """Thresholds -1 and -1 + |-3| = 2, slopes 0.5 and 3: 4 gives 2 + 3 · 2, -3 gives -1 + 0.5 · -2."""
    state, shapes = torch.tensor([[-3.0, -1.0, 1.5, 2.0, 4.0]]), torch.tensor([[-1.0, 0.5, -3.0, 3.0]])
    assert srelu(state, shapes).tolist() == [[-2.0, -1.0, 1.5, 2.0, 8.0]]
    errors, gradient = srelu_errors(state, shapes, torch.ones(1, 5))
    assert errors.tolist() == [[0.5, 1.0, 1.0, 3.0, 3.0]]
    # By l: 1 - 0.5 of one below, and 1 - 3 of two above; by a: -2; by w: -(1 - 3) of two; by b: 0 and 2.
    assert gradient.tolist() == [[-3.5, -2.0, 4.0, 2.0]]


@pytest.mark.parametrize("kernel", ["auto", "sparse_rows"])
def test_a_network_begins_as_one_of_relu(kernel: str) -> None:
    images = torch.randn(50, 9, generator=torch.Generator().manual_seed(0))
    one, other = (
        StructNet([9, 6, 5, 3], 0.5, rng_seed=4, activation=name, kernel=kernel) for name in ("srelu", "relu")
    )
    assert torch.equal(one(images), other(images))
    assert one.parameter_count == other.parameter_count + 4 * 11
    assert one.parameters_dense == other.parameters_dense + 4 * 11


def test_shapes_are_learned() -> None:
    state = state_of(network_of(shaped().topology, activation="srelu"))
    before = shapes_of(state.network).copy()
    train_steps(state, image_split(60, dtype=torch.float64), RECIPE, 5, constant(0.05))
    assert (np.abs(shapes_of(state.network) - before).max(axis=0) > 1e-4).all()


def test_shapes_follow_their_units_through_edits() -> None:
    network, topology = shaped(), shaped().topology
    before, units = shapes_of(network), np.arange(topology.hidden.start, topology.hidden.stop)
    absent = np.setdiff1d(np.arange(5 * 16), topology.cells((0, 1)))[:1]
    for edit in (
        connect(network, absent % 16, 16 + absent // 16, 0.5),
        disconnect(network, np.arange(7)),
        redirect(
            network, np.array([0]), np.setdiff1d(np.arange(16), topology.source[topology.target == 16])[:1]
        ),
    ):
        np.testing.assert_array_equal(shapes_of(edit.network), before)
        np.testing.assert_array_equal(edit.origin[-36:], topology.shapes_of(units))
    without = remove_units(network, units[[1, 6]])
    np.testing.assert_array_equal(shapes_of(without.network), np.delete(before, [1, 6], axis=0))
    more = add_units(network, 1, np.array([0.5, 0.5]))
    np.testing.assert_array_equal(
        shapes_of(more.network), np.insert(before, 5, [[0.0, 0.0, 0.0, 1.0]] * 2, axis=0)
    )
    assert (more.origin[more.network.topology.shapes_of(np.array([21, 22]))] == -1).all()


def test_moments_of_shapes_go_along() -> None:
    state = state_of(shaped())
    train_steps(state, image_split(60, dtype=torch.float64), RECIPE, 3, constant(0.05))
    edited = state.edited(disconnect(state.network, np.arange(4)))
    assert torch.equal(edited.optimizer.first[-36:], state.optimizer.first[-36:])
    assert torch.count_nonzero(edited.optimizer.first[-36:]) > 18


def test_they_are_kept_by_all_that_is_written(tmp_path: Path) -> None:
    state, images = state_of(shaped()), torch.randn(7, 16, dtype=torch.float64)
    save_snapshot(str(tmp_path / "a"), state, preprocessing={})
    again = load_snapshot(str(tmp_path / "a")).state
    cohort = Cohort.from_arrays(Cohort([state, state_of(shaped(1))], [1.0, 1.0]).to_arrays())
    loaded = StructNet([2, 2], 1.0).double()
    loaded.load_state_dict(state.network.state_dict())
    for network in (again.network, cohort.take(0).network, loaded, state.network.fork()):
        assert torch.equal(network(images), state.network(images))
    assert torch.equal(cohort.take(1).network(images), shaped(1)(images))
    for one in (state, again):
        train_steps(one, image_split(60, dtype=torch.float64), RECIPE, 3, constant(0.05))
    assert torch.equal(again.network.values, state.network.values)


def test_what_does_not_fit_the_activation_is_refused() -> None:
    topology, values = shaped().topology, shaped().values.detach()
    with pytest.raises(ValueError, match="4 numbers a unit, but relu has 0"):
        StructNet.from_parts(topology, values)
    bare = Topology(topology.architecture, topology.source, topology.target)
    with pytest.raises(ValueError, match="0 numbers a unit, but srelu has 4"):
        StructNet.from_parts(bare, values[: bare.parameters], activation="srelu")


def test_growth_is_for_others() -> None:
    split, state = image_split(60, dtype=torch.float64), state_of(shaped())
    diagnosis = diagnose(state.network, split.images, split.labels)
    with pytest.raises(UserError, match=r"activation is 'srelu'.*evolve"):
        Context(state, diagnosis, (10,), 1e-2, np.random.default_rng(0))


# --- hidden dropout


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_units_are_dropped_by_their_share_and_not_as_the_inputs(share: float) -> None:
    inputs = torch.ones(200, 300, dtype=torch.float64)
    masks = drop_masks(torch.arange(200), inputs, share, key_of(0, 0))
    assert sorted(masks.unique().tolist()) == pytest.approx([0, 1 / (1 - share)])
    kept = (masks > 0).double()
    assert float(kept.mean()) == pytest.approx(
        1 - share, abs=4 * np.sqrt(share * (1 - share) / masks.numel())
    )
    as_inputs = dropped(inputs, share, key_of(0, 0)) > 0
    assert abs(float(torch.corrcoef(torch.stack([kept.view(-1), as_inputs.double().view(-1)]))[0, 1])) < 0.02


def test_what_is_judged_has_no_dropout() -> None:
    """A network that does not learn is the same before and after; its loss in training is another one."""
    split = image_split(60, dtype=torch.float64)
    for kernel in ("auto", "sparse_rows"):
        state = state_of(shaped(kernel=kernel))
        without = train_steps(
            state_of(shaped(kernel=kernel)), split, replace(RECIPE, dropout=0.0), 1, constant(0.0)
        )
        dropped = train_steps(state, split, RECIPE, 1, constant(0.0))
        assert torch.equal(state.network.values, shaped().values)
        assert torch.equal(state.network(split.images), shaped(kernel=kernel)(split.images))
        assert abs(float(dropped[0] - without[0])) > 1e-3


@pytest.mark.parametrize(
    ("options", "says"),
    [({"dropout": 1.0}, "dropout is 1.0, but must be in"), ({"dropout": -0.1}, "dropout is -0.1")],
)
def test_shares_that_cannot_be_are_refused(options: dict[str, float], says: str) -> None:
    with pytest.raises(UserError, match=says):
        Recipe(**options)
