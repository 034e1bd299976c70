"""TrainState: what training goes on from survives edits, copies and the way to a worker."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch

from structnet import StructNet
from structnet.data.dataset import Split
from structnet.errors import UserError
from structnet.network.edit import add_units, connect, disconnect
from structnet.network.state import TrainState
from structnet.seeds import stream, torch_seed
from structnet.training.loop import train_steps
from structnet.training.rates import AgeRates
from structnet.training.recipe import Recipe
from structnet.training.schedules import constant

torch.set_num_threads(1)

RECIPE = Recipe(
    batch_size=8, input_dropout=0.2, rates=AgeRates(matures_after=5, freezes_after=20), rng_seed=3
)


def columns(images: int = 40, rng_seed: int = 0) -> Split:
    random = torch.Generator().manual_seed(rng_seed)
    return Split(torch.randn(images, 6, generator=random), torch.randint(0, 3, (images,), generator=random))


def trained(network: StructNet, steps: int = 7) -> TrainState:
    state = TrainState.fresh(network)
    train_steps(state, columns(), RECIPE, steps, constant(1e-2))
    return state


def same(one: TrainState, other: TrainState) -> bool:
    """To the bit, structure included."""
    pairs = [
        (one.network.values.detach(), other.network.values.detach()),
        (one.optimizer.first, other.optimizer.first),
        (one.optimizer.second, other.optimizer.second),
        *(
            (torch.from_numpy(getattr(a, name).copy()), torch.from_numpy(getattr(b, name).copy()))
            for a, b in [(one.network.topology, other.network.topology)]
            for name in ("source", "target")
        ),
        (torch.from_numpy(one.born.copy()), torch.from_numpy(other.born.copy())),
    ]
    return (
        all(torch.equal(a, b) for a, b in pairs)
        and one.network.topology.architecture == other.network.topology.architecture
        and (one.step, one.optimizer.step) == (other.step, other.optimizer.step)
    )


def test_a_fresh_state_is_at_the_start_of_everything() -> None:
    network = StructNet([6, 4, 3], density=0.5)
    state = TrainState.fresh(network)
    assert state.network is network
    assert (state.step, state.optimizer.step) == (0, 0)
    assert state.born.tolist() == [0] * network.parameter_count
    assert state.optimizer.first.tolist() == state.optimizer.second.tolist() == [0.0] * len(state.born)


def test_an_edit_carries_moments_and_ages_by_index() -> None:
    state = trained(StructNet([6, 4, 3], density=0.5), steps=7)
    edit = add_units(state.network, 1, np.array([0.5]))
    unit = int(edit.new_units[0])
    edit = edit.then(connect(edit.network, np.array([0, unit]), np.array([unit, unit + 1]), 0.25))
    edit = edit.then(disconnect(edit.network, np.array([1])))
    after = state.edited(edit)
    assert len(after.born) == len(after.optimizer.first) == after.network.parameter_count
    new = edit.origin < 0
    assert after.born[new].tolist() == [7, 7, 7]
    assert after.born[~new].tolist() == [0] * int((~new).sum())
    kept = torch.from_numpy(edit.origin[~new])
    stays = torch.from_numpy(~new)
    assert torch.equal(after.network.values.detach()[stays], state.network.values.detach()[kept])
    assert torch.equal(after.optimizer.first[stays], state.optimizer.first[kept])
    assert torch.equal(after.optimizer.second[stays], state.optimizer.second[kept])
    assert (after.step, after.optimizer.step) == (7, 7)

    train_steps(after, columns(), RECIPE, 2, constant(1e-2))
    later = after.edited(connect(after.network, *absent(after.network)))
    assert sorted(set(later.born.tolist())) == [0, 7, 9]


def absent(network: StructNet) -> tuple[np.ndarray, np.ndarray]:
    """One connection from the input to the output that is not there."""
    return np.array([0]), np.array([int(network.topology.offsets[-2])])


def test_a_copy_shares_nothing() -> None:
    state = trained(StructNet([6, 4, 3], density=0.5))
    copy, reference = state.copy(), state.copy()
    train_steps(state, columns(), RECIPE, 3, constant(1e-2))
    state.born[:] = 99
    assert same(copy, reference)
    assert copy.born.tolist() == [0] * len(copy.born)
    assert not same(state, reference)


def as_a_worker_gets_it(arrays: dict[str, Any]) -> dict[str, Any]:
    """Through the wire and read-only, as an object store hands arrays out."""
    arrays = pickle.loads(pickle.dumps(arrays))
    for value in arrays.values():
        if isinstance(value, np.ndarray):
            value.setflags(write=False)
    return arrays


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_state_that_was_sent_goes_on_as_if_it_had_stayed(activation: str, dtype: torch.dtype) -> None:
    network = StructNet([6, 4, 3], density=0.5, activation=activation)
    network = StructNet.from_parts(network.topology, network.values.detach().to(dtype), activation=activation)
    split = columns()
    split = Split(split.images.to(dtype), split.labels)
    state = TrainState.fresh(network)
    state.optimizer.beta1, state.optimizer.epsilon = 0.8, 1e-6
    train_steps(state, split, RECIPE, 6, constant(1e-2))
    state = state.edited(connect(network, *absent(network)))
    sent = TrainState.from_arrays(as_a_worker_gets_it(state.to_arrays()))
    assert same(sent, state)
    assert sent.network.activation == activation
    assert sent.network.values.dtype == dtype
    for one in (state, sent):
        train_steps(one, split, RECIPE, 9, constant(1e-2))
    assert same(sent, state)


def test_the_kernel_travels_with_the_state() -> None:
    for kernel in ("auto", "masked_dense", "sparse_rows"):
        state = TrainState.fresh(StructNet([6, 4, 3], density=0.5, kernel=kernel))
        assert TrainState.from_arrays(state.to_arrays()).network.kernel == kernel


def test_a_state_from_arrays_owns_its_values() -> None:
    arrays = trained(StructNet([6, 4, 3], density=0.5)).to_arrays()
    one, other = TrainState.from_arrays(arrays), TrainState.from_arrays(arrays)
    reference = other.copy()
    train_steps(one, columns(), RECIPE, 3, constant(1e-2))
    one.born[:] = 99
    assert same(other, reference)
    assert same(TrainState.from_arrays(arrays), reference)


def test_an_unknown_activation_is_refused() -> None:
    arrays = TrainState.fresh(StructNet([6, 4, 3], density=0.5)).to_arrays()
    with pytest.raises(UserError, match="activation is 'gelu'"):
        TrainState.from_arrays(arrays | {"activation": "gelu"})


def test_streams_depend_on_seed_purpose_and_keys_alone() -> None:
    draws = [
        int(stream(*key).integers(2**62))
        for key in [(0, "batches", 1), (1, "batches", 1), (0, "noise", 1), (0, "batches", 2)]
    ]
    assert len(set(draws)) == 4
    assert draws[0] == int(stream(0, "batches", 1).integers(2**62))
    seeds = {torch_seed(0, "noise", step) for step in range(200)}
    assert len(seeds) == 200
    assert all(0 <= seed < 2**63 for seed in seeds)
