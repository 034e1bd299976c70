"""The final phase, walked: it ends within its limit, and is whole at every step."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from structnet import StructNet
from structnet.data.dataset import Split
from structnet.errors import UserError
from structnet.measure.diagnosis import diagnose
from structnet.measure.size import stored_bytes
from structnet.network.edit import disconnect
from structnet.network.state import TrainState
from structnet.network.topology import Topology
from structnet.training.batches import batch_indices
from structnet.training.recipe import Recipe
from structnet.training.schedules import constant, cosine
from structnet.training.shrinking import Shrinking, shrink_steps, worth

torch.set_num_threads(1)

RECIPE = Recipe(batch_size=16, input_dropout=0.1, l1=1e-4, rng_seed=4)


def columns(classes: int = 3, images: int = 120, dtype: torch.dtype = torch.float32) -> Split:
    """8 inputs; the label is the class of the nearest of a few random points."""
    random = torch.Generator().manual_seed(0)
    inputs = torch.randn(images, 8, generator=random, dtype=dtype)
    points = torch.randn(classes, 8, generator=random, dtype=dtype)
    return Split(inputs, torch.cdist(inputs, points).argmin(dim=1))


def skip_network(sizes: list[int], share: float, rng_seed: int = 0) -> StructNet:
    """A share of all connections from earlier to later groups, skips included, in float64."""
    rng = np.random.default_rng(rng_seed)
    group = np.repeat(np.arange(len(sizes)), sizes)
    source, target = np.nonzero(group[:, None] < group[None, :])
    some = rng.permutation(len(source))[: round(len(source) * share)]
    topology, _ = Topology.sorted(sizes, source[some], target[some])
    return StructNet.from_parts(topology, torch.from_numpy(rng.standard_normal(topology.parameters)))


def phase(network: StructNet, steps: int, limit: int, **options: float) -> Shrinking:
    """From step 0, without growing unless a peak is given."""
    size = network.parameter_count
    return Shrinking(0, steps, size, int(options.pop("peak", size)), limit, **options)  # type: ignore[arg-type]


def walk(
    network: StructNet, shrinking: Shrinking, split: Split | None = None, rate: float = 1e-2
) -> Iterator[TrainState]:
    """The state after every step of a phase."""
    state = TrainState.fresh(network)
    split = split or columns(network.architecture[-1], dtype=network.values.dtype)
    falling = cosine(rate, shrinking.start, shrinking.stop)
    while state.step < shrinking.stop:
        state, losses = shrink_steps(state, split, RECIPE, 1, falling, shrinking)
        assert losses.shape == (1,)
        yield state


def check(state: TrainState) -> None:
    """Everything has the length that the network has."""
    network = state.network
    exists = network.connection_count + sum(network.architecture[1:])
    assert network.parameter_count == len(network.values) == exists
    assert len(state.optimizer.first) == len(state.optimizer.second) == len(state.born) == exists
    assert state.born.min() >= 0
    assert state.born.max() < state.step


def fed_and_feeding(network: StructNet) -> bool:
    """Every hidden unit has a connection in and one out."""
    hidden = slice(network.architecture[0], -network.architecture[-1])
    topology = network.topology
    return bool(np.all(topology.fan_in()[hidden]) and np.all(topology.fan_out()[hidden]))


NETWORKS = {
    "one hidden group": lambda: StructNet([8, 6, 3], density=0.6),
    "two hidden groups": lambda: StructNet([8, 6, 5, 3], density=0.5),
    "no hidden group": lambda: StructNet([8, 3], density=0.7),
    "dense": lambda: StructNet([8, 6, 3], density=1.0),
    "skip links": lambda: skip_network([8, 5, 4, 3], 0.4),
}
each_network = pytest.mark.parametrize("name", list(NETWORKS))


@each_network
@pytest.mark.parametrize("peak", [0, 30])
def test_a_phase_ends_within_its_limit_and_is_whole_at_every_step(name: str, peak: int) -> None:
    network = NETWORKS[name]()
    limit = network.parameter_count // 2
    plan = phase(network, 60, limit, peak=network.parameter_count + peak)
    for state in walk(network, plan):
        check(state)
        assert state.network.parameter_count <= plan.target((state.step - 1) // plan.every * plan.every)
    assert state.step == 60
    assert fed_and_feeding(state.network)
    assert limit - 6 <= state.network.parameter_count <= limit


@each_network
def test_a_phase_cut_into_pieces_is_the_same_phase(name: str) -> None:
    network, split = NETWORKS[name](), columns(3)
    split = Split(split.images.to(network.values.dtype), split.labels)
    plan = phase(network, 70, 25, peak=network.parameter_count + 10, interval=5)
    results = []
    for pieces in ([70], [1, 2, 0, 17, 5, 5, 20, 3, 17], [35, 35]):
        state, losses = TrainState.fresh(network.fork()), []
        for piece in pieces:
            state, some = shrink_steps(state, split, RECIPE, piece, cosine(1e-2, 0, 70), plan)
            assert len(some) == piece
            losses.append(some)
            state = TrainState.from_arrays(state.to_arrays())  # as if resumed
        results.append((state, torch.cat(losses)))
    whole, all_losses = results[0]
    for other, other_losses in results[1:]:
        assert torch.equal(all_losses, other_losses)
        assert other.network.topology.architecture == whole.network.topology.architecture
        assert np.array_equal(other.network.topology.source, whole.network.topology.source)
        assert torch.equal(other.network.values.detach(), whole.network.values.detach())
        assert torch.equal(other.optimizer.second, whole.optimizer.second)
        assert np.array_equal(other.born, whole.born)


def test_the_target_is_met_exactly_until_units_are_folded_away() -> None:
    network = StructNet([8, 6, 3], density=0.4)
    size = network.parameter_count
    plan = phase(network, 200, 28, peak=size + 20)
    counts = [state.network.parameter_count for state in walk(network, plan)]
    assert counts[:140] == [plan.target(step // 10 * 10) for step in range(140)]
    assert counts[30] == size + 20
    assert max(counts[140:]) <= 28


def test_idle_units_do_not_crowd_out_the_connections() -> None:
    """40 hidden units and a limit of 30: their biases alone are more."""
    network = StructNet([8, 40, 3], density=0.4)
    for state in walk(network, phase(network, 200, 30)):
        assert state.network.connection_count > 10
    assert 26 <= state.network.parameter_count <= 30
    assert fed_and_feeding(state.network)


def test_what_is_sold_is_of_least_worth() -> None:
    """w²·√v: 0.04, 0.01·2, 0.09·0.1, 1, 0, 0.36: the third and the fifth go, and not a bias of 0."""
    network = StructNet([3, 2], density=1.0)
    values = torch.tensor([0.2, 0.1, 0.3, 1.0, 0.0, 0.6, 0.0, 0.0])
    network = StructNet.from_parts(network.topology, values)
    state = TrainState.fresh(network)
    assert np.allclose(worth(state), values[:6].square())  # before the first step
    state.optimizer.second = torch.tensor([1.0, 4.0, 0.01, 1.0, 1.0, 1.0, 0.0, 0.0])
    state.optimizer.step = state.step = 1
    assert np.allclose(worth(state), [0.04, 0.02, 0.009, 1, 0, 0.36])
    plan = Shrinking(1, 2, 8, 8, 6, move_share=0.0)
    split = Split(torch.rand(4, 3), torch.tensor([0, 1, 0, 1]))
    state, _ = shrink_steps(state, split, RECIPE, 1, constant(0.0), plan)
    kept = values[[0, 1, 3, 5, 6, 7]]
    assert torch.equal(state.network.values.detach(), kept)


def test_growing_changes_no_output() -> None:
    network = skip_network([8, 5, 3], 0.7)
    split = columns(3, dtype=torch.float64)
    before = network(split.images).detach()
    plan = phase(network, 1000, 10, peak=network.parameter_count + 24)
    state = TrainState.fresh(network)
    state.step = 50
    state, _ = shrink_steps(state, split, RECIPE, 1, constant(0.0), plan)
    assert state.network.parameter_count == plan.target(50) == network.parameter_count + 8
    assert torch.allclose(state.network(split.images), before, rtol=0, atol=1e-12)
    new = state.born == 50
    assert torch.equal(state.network.values.detach()[new], torch.zeros(8, dtype=torch.float64))


@pytest.mark.parametrize("placed", ["random", "gradient"])
def test_connections_grow_where_it_says(placed: str) -> None:
    """After one step of a single layer, those of the largest gradient, or some others."""
    network, split = StructNet([8, 3], 0.25, rng_seed=2), columns()
    shrinking = Shrinking(0, 200, network.parameter_count, network.parameter_count + 9, 100, placed=placed)
    state, _ = shrink_steps(
        TrainState.fresh(network), split, RECIPE, shrinking.every, constant(1e-2), shrinking
    )
    before = state.network.topology
    where = torch.from_numpy(batch_indices(len(split), len(split), RECIPE.rng_seed, state.step))
    wanted = shrinking.target(state.step) - state.network.parameter_count
    diagnosis = diagnose(state.network, split.images[where], split.labels[where])
    source, target, _ = diagnosis.absent(0, 1, wanted)
    state, _ = shrink_steps(state, split, RECIPE, 1, constant(1e-2), shrinking)
    after = state.network.topology
    assert after.connections == before.connections + wanted
    assert after.has(source, target).all() == (placed == "gradient")


def test_connections_move_to_where_the_gradient_is_largest() -> None:
    """Over all links together; the gradient of what does not exist is taken from the dense network of zeros."""
    sizes = [8, 4, 3]
    network, full = skip_network(sizes, 0.6), skip_network(sizes, 1.0)
    split = columns(3, dtype=torch.float64)
    there = torch.from_numpy(network.topology.has(full.topology.source, full.topology.target))
    everywhere = torch.cat([there, torch.ones(7, dtype=torch.bool)])
    full.values.data.zero_()
    full.values.data[everywhere] = network.values.detach()
    torch.nn.functional.cross_entropy(full(split.images), split.labels).backward()
    assert full.values.grad is not None
    gradient = full.values.grad[:-7].abs().masked_fill(there, 0.0)

    state = TrainState.fresh(network)
    state.optimizer.second.fill_(1.0)
    state.optimizer.step = state.step = 100
    plan = phase(network, 1000, network.parameter_count)
    moved = round(plan.moves(100) * network.connection_count)
    assert moved == 12
    state, _ = shrink_steps(state, split, RECIPE, 1, constant(0.0), plan)
    topology, new = state.network.topology, state.born[: state.network.connection_count] == 100
    got = set(zip(topology.source[new].tolist(), topology.target[new].tolist()))
    best = gradient.topk(moved).indices.numpy()
    assert got == {(int(full.topology.source[index]), int(full.topology.target[index])) for index in best}


def test_the_target_is_kept_when_more_is_sold_and_moved_than_there_was() -> None:
    network = StructNet([8, 3], density=0.5)
    state = TrainState.fresh(network)
    state.optimizer.step = state.step = 4
    plan = Shrinking(0, 20, 15, 15, 4, move_share=1.0, interval=1)
    assert round(plan.moves(4) * 12) + 15 - plan.target(4) > 12
    state, _ = shrink_steps(state, columns(), RECIPE, 1, constant(1e-2), plan)
    assert state.network.parameter_count == plan.target(4)
    check(state)


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
def test_folding_leaves_the_output_as_it_was(activation: str) -> None:
    network = skip_network([8, 5, 4, 3], 0.5)
    network = StructNet.from_parts(network.topology, network.values.detach(), activation=activation)
    unit = 8 + 2  # loses its way in; what it feeds takes over its constant
    network = disconnect(network, np.flatnonzero(network.topology.target == unit)).network
    assert np.any(network.topology.source == unit)
    other = 8 + 5 + 1  # loses its way out
    network = disconnect(network, np.flatnonzero(network.topology.source == other)).network
    split = columns(3, dtype=torch.float64)
    before = network(split.images).detach()
    size = network.parameter_count
    while_moving, after = Shrinking(0, 100, size, size, size), Shrinking(-80, 20, size, size, 1000)
    state, _ = shrink_steps(TrainState.fresh(network), split, RECIPE, 1, constant(0.0), while_moving)
    assert state.network.architecture == network.architecture
    state, _ = shrink_steps(TrainState.fresh(network), split, RECIPE, 1, constant(0.0), after)
    assert state.network.architecture == [8, 4, 3, 3]
    assert fed_and_feeding(state.network)
    assert torch.allclose(state.network(split.images), before, rtol=0, atol=1e-12)
    check(state)


def test_moving_keeps_the_count_and_moves() -> None:
    network = StructNet([8, 3], density=0.5)
    size = network.parameter_count
    pairs = set(zip(network.topology.source.tolist(), network.topology.target.tolist()))
    plan = phase(network, 100, size, interval=5)
    moved = []
    for state in walk(network, plan):
        assert state.network.parameter_count == size
        moved.append(int(np.count_nonzero(state.born[:-3] == state.step - 1)))
        if state.step == 1:  # nothing was known yet
            assert state.network.topology.source.tolist() == network.topology.source.tolist()
    assert moved[5] == round(plan.moves(5) * 12) == 4
    assert sum(moved[70:]) == 0 < sum(moved[40:70])
    topology = state.network.topology
    assert set(zip(topology.source.tolist(), topology.target.tolist())) != pairs


def test_with_hidden_units_moving_never_adds() -> None:
    network = StructNet([8, 6, 3], density=0.5)
    size = network.parameter_count
    plan = phase(network, 100, 10_000, interval=5)
    counts = [state.network.parameter_count for state in walk(network, plan)]
    assert max(counts) <= size
    assert counts[-1] >= size - 3


def test_a_network_that_is_full_has_nowhere_to_move_and_loses_nothing() -> None:
    network = StructNet([8, 6, 3], density=1.0)
    size = network.parameter_count
    for state in walk(network, phase(network, 40, size, peak=size + 100)):
        assert state.network.parameter_count == size
    almost = disconnect(network, np.array([0, 7])).network
    counts = [
        state.network.parameter_count
        for state in walk(almost, phase(almost, 40, size, peak=size + 100, move_share=0.9))
    ]
    assert max(counts) == size
    assert counts[-1] >= size - 2


@pytest.mark.parametrize("limit", [3, 4, 5])
@pytest.mark.parametrize("name", ["two", "skips", "none"])
def test_tiny_limits(limit: int, name: str) -> None:
    network = {
        "two": lambda: StructNet([8, 6, 5, 2], density=0.6),
        "skips": lambda: skip_network([8, 5, 4, 2], 0.6),
        "none": lambda: StructNet([8, 2], density=1.0),
    }[name]()
    for state in walk(network, phase(network, 30, limit)):
        check(state)
    assert 2 <= state.network.parameter_count <= limit


def test_a_network_that_has_lost_all_connections_can_buy_again() -> None:
    network = StructNet([8, 4, 3], density=0.5)
    empty = disconnect(network, np.arange(network.connection_count)).network
    plan = Shrinking(0, 40, 30, 30, 10)
    for state in walk(empty, plan):
        check(state)
    assert state.network.architecture == [8, 3]
    assert state.network.parameter_count == 10


def test_a_limit_that_nothing_can_meet_is_refused() -> None:
    network = StructNet([8, 12, 10], density=0.5)
    with pytest.raises(UserError, match="the limit is 5 parameters, but must be at least 11"):
        next(walk(network, phase(network, 30, 5)))
    last = list(walk(network, phase(network, 30, 11)))[-1]
    assert last.network.parameter_count <= 11


@given(
    st.integers(0, 10**6),
    st.integers(1, 25),
    st.integers(4, 90),
    st.integers(0, 90),
    st.floats(0, 1),
    st.floats(0.05, 1),
)
def test_any_phase_ends_within_its_limit(
    rng_seed: int, steps: int, limit: int, peak: int, move_share: float, share: float
) -> None:
    network = skip_network([8, 4, 3, 3], share, rng_seed)
    plan = phase(network, steps, limit, peak=peak, move_share=move_share, interval=3)
    top = max(network.parameter_count, peak)
    for state in walk(network, plan):
        check(state)
        assert state.network.parameter_count <= top
    assert state.network.parameter_count <= min(limit, top)
    assert fed_and_feeding(state.network)


@pytest.mark.parametrize("limit_bytes", [150, 300, 560])
def test_a_limit_in_bytes_holds_from_the_end_of_pruning_on_and_is_made_use_of(limit_bytes: int) -> None:
    network = StructNet([8, 40, 3], 0.5)
    shrinking = phase(network, 400, limit_bytes // 4, peak=300, limit_bytes=limit_bytes)
    sizes = {state.step: stored_bytes(state.network.topology) for state in walk(network, shrinking)}
    assert max(sizes.values()) > 560
    settled = [size for step, size in sizes.items() if step > 0.7 * 400 + shrinking.every]
    assert max(settled) <= limit_bytes
    assert settled[-1] > 0.9 * limit_bytes
