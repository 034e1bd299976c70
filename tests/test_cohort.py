"""Cohort: whoever trains beside a network, it comes out as if it had been alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from training_cases import image_split, skip_network

from structnet import StructNet, batched, cohort
from structnet.batched import BatchedDense, pick_in_tile
from structnet.cohort import Cohort, cohort_bytes, join
from structnet.data import Split
from structnet.diagnosis import diagnose
from structnet.link import SparseLink
from structnet.rates import AgeRates
from structnet.snapshot import load_snapshot, save_snapshot
from structnet.topology import Topology
from structnet.train_state import TrainState
from structnet.training import Evaluation, Recipe, cosine, evaluate, train_steps

torch.set_num_threads(1)

STEPS = 7
FACTOR = cosine(1.0, 0, 20)
AGES = AgeRates(matures_after=4, freezes_after=9)
# Name -> groups, activation, number type, recipe. Batches of 37 and 5 fill no vector of any width.
CASES = {
    "plain": (3, "relu", torch.float32, Recipe(16)),
    "no hidden group": (2, "relu", torch.float32, Recipe(37, l1=1e-3)),
    "l1": (4, "relu", torch.float32, Recipe(37, l1=1e-3, rng_seed=1)),
    "dropout and shift": (3, "tanh", torch.float32, Recipe(16, input_dropout=0.3, shift=1, rng_seed=2)),
    "age rates": (4, "sigmoid", torch.float32, Recipe(37, rates=AGES)),
    "weight decay": (3, "relu", torch.float32, Recipe(37, weight_decay=0.7)),
    "everything": (3, "sigmoid", torch.float64, Recipe(5, 1e-3, 0.2, 1, AGES, 3, weight_decay=0.7)),
    "double": (4, "tanh", torch.float64, Recipe(37)),
    "single image": (3, "relu", torch.float32, Recipe(1)),
}
every_case = pytest.mark.parametrize("case", list(CASES))
MEMBERS = 9


def member(
    architecture: Sequence[int],
    share: float,
    rng_seed: int,
    *,
    activation: str = "relu",
    dtype: torch.dtype = torch.float32,
    kernel: str = "sparse_rows",
    recipe: Recipe | None = None,
    step: int = 3,
) -> TrainState:
    """A network with a share of all connections, skips included, that has been in training for some steps."""
    rng = np.random.default_rng(rng_seed)
    group = np.repeat(np.arange(len(architecture)), architecture)
    source, target = np.nonzero(group[:, None] < group[None, :])
    some = rng.permutation(len(source))[: round(share * len(source))]
    topology, _ = Topology.sorted(architecture, source[some], target[some])
    values = torch.from_numpy(rng.standard_normal(topology.parameters) / 2).to(dtype)
    state = TrainState.fresh(StructNet.from_parts(topology, values, activation=activation, kernel=kernel))
    train_steps(state, train_split(dtype), recipe or Recipe(8, rng_seed=rng_seed), step, lambda _: 1e-2)
    state.born = rng.integers(0, step + 1, topology.parameters)
    return state


@cache
def train_split(dtype: torch.dtype) -> Split:
    return image_split(60, dtype=dtype)


@cache
def judged_split(dtype: torch.dtype) -> Split:
    """More than two passes of a cohort, and one of a network alone."""
    return image_split(1100, 5, dtype)


@cache
def pool(case: str, kernel: str = "sparse_rows") -> tuple[tuple[TrainState, ...], np.ndarray]:
    """Networks of all sorts that fit each other, and their learning rates; some of the rates are equal.

    One network has no connection, one has all, and the widths go down to a single unit.
    """
    groups, activation, dtype, _ = CASES[case]
    rng = np.random.default_rng(groups)
    shares = [0.0, 1.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8]
    states = tuple(
        member([16, *widths, 3], share, rng_seed, activation=activation, dtype=dtype, kernel=kernel)
        for rng_seed, (share, widths) in enumerate(
            zip(shares, rng.integers(1, 20, (MEMBERS, groups - 2)).tolist())
        )
    )
    return states, np.array([1e-2, 1e-2, 3e-3, 0.1, 1e-3, 1e-2, 3e-2, 3e-2, 1e-4])


def alone(state: TrainState, rate: float, recipe: Recipe, steps: int) -> tuple[TrainState, torch.Tensor]:
    own = state.copy()
    split = train_split(own.network.values.dtype)
    return own, train_steps(own, split, recipe, steps, lambda step: rate * FACTOR(step))


@cache
def expected(case: str) -> list[tuple[TrainState, torch.Tensor, Evaluation]]:
    """Every network of the pool, trained and judged alone."""
    states, rates = pool(case)
    found = []
    for state, rate in zip(states, rates):
        own, losses = alone(state, rate, CASES[case][3], STEPS)
        found.append((own, losses, evaluate(own.network, judged_split(own.network.values.dtype))))
    return found


def assert_same(one: TrainState, other: TrainState) -> None:
    """To the bit, but for the sign of a zero."""
    assert torch.equal(one.network.values, other.network.values)
    assert torch.equal(one.optimizer.first, other.optimizer.first)
    assert torch.equal(one.optimizer.second, other.optimizer.second)
    assert np.array_equal(one.born, other.born)
    assert (one.step, one.optimizer.step) == (other.step, other.optimizer.step)
    assert one.network.architecture == other.network.architecture
    assert np.array_equal(one.network.topology.source, other.network.topology.source)
    assert np.array_equal(one.network.topology.target, other.network.topology.target)
    assert (one.network.activation, one.network.kernel) == (other.network.activation, other.network.kernel)


def assert_close(one: TrainState, other: TrainState, tolerance: float) -> None:
    close = partial(torch.testing.assert_close, rtol=tolerance, atol=tolerance)
    close(one.network.values.detach(), other.network.values.detach())
    close(one.optimizer.first, other.optimizer.first)
    close(one.optimizer.second, other.optimizer.second)


def tolerance(case: str) -> float:
    return 1e-5 if CASES[case][2] == torch.float32 else 1e-12


def trained(
    states: Sequence[TrainState], rates: Sequence[float] | np.ndarray, case: str, steps: int = STEPS
) -> tuple[Cohort, torch.Tensor]:
    """The cohort after so many steps, and its losses."""
    dtype, recipe = CASES[case][2:]
    together = Cohort(states, rates)
    return together, together.train(train_split(dtype), recipe, steps, FACTOR)


# --- the same bits


@every_case
@settings(deadline=None, max_examples=8)
@given(
    st.permutations(range(MEMBERS)),
    st.lists(st.integers(1, MEMBERS - 1), max_size=3, unique=True),
    st.sampled_from([1, 40, 80, 4096]),
)
def test_any_company_leaves_the_same_bits(
    case: str, order: Sequence[int], cuts: list[int], tile_units: int
) -> None:
    """Values, moments, ages, losses and the evaluation, however the pool is cut into cohorts and tiles."""
    states, rates = pool(case)
    with patch.object(cohort, "TILE_UNITS", tile_units):
        for start, stop in pairwise([0, *sorted(cuts), MEMBERS]):
            chosen = list(order[start:stop])
            together, losses = trained([states[index] for index in chosen], rates[chosen], case)
            judged = together.evaluate(judged_split(CASES[case][2]))
            assert losses.shape == (len(chosen), STEPS)
            for place, index in enumerate(chosen):
                own, own_losses, own_judged = expected(case)[index]
                assert_same(together.take(place), own)
                assert torch.equal(losses[place], own_losses)
                assert judged.loss[place] == own_judged.loss
                assert judged.accuracy[place] == own_judged.accuracy
                assert np.array_equal(judged.log2_likelihood[place], own_judged.log2_likelihood)


def test_tiles_split_and_hold_a_member_at_least() -> None:
    states, rates = pool("plain")
    for tile_units, tiles in ((1, MEMBERS), (10**6, 1)):
        with patch.object(cohort, "TILE_UNITS", tile_units):
            assert len(Cohort(states, rates).tiles) == tiles
    # Hidden and output units: a tile is full when the next member would not fit.
    sizes = [member([16, width, 3], 0.5, 0) for width in (7, 7, 8, 30, 1)]
    with patch.object(cohort, "TILE_UNITS", 20):
        tiles = Cohort(sizes, [0.1] * 5).tiles
    assert [len(tile.topologies) for tile in tiles] == [2, 1, 1, 1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_wide_networks_beside_narrow_ones(dtype: torch.dtype) -> None:
    """Past the sizes at which torch unrolls its loops; equal rates, which take another way than different ones."""
    states = [
        member([16, width, 30, 3], share, width, dtype=dtype)
        for width, share in ((300, 0.3), (5, 0.9), (1000, 0.05), (64, 0.02))
    ]
    recipe = Recipe(60, l1=1e-4)
    for rates in ([1e-2] * 4, [1e-2, 1e-2, 1e-3, 1e-2]):
        together = Cohort(states, rates)
        losses = together.train(train_split(dtype), recipe, STEPS, FACTOR)
        for place, (state, rate) in enumerate(zip(states, rates)):
            own, own_losses = alone(state, rate, recipe, STEPS)
            assert_same(together.take(place), own)
            assert torch.equal(losses[place], own_losses)


def test_skip_networks_beside_each_other() -> None:
    states = [TrainState.fresh(skip_network(rng_seed)) for rng_seed in range(3)]
    together = Cohort(states, [1e-2] * 3)
    together.train(train_split(torch.float64), Recipe(8), STEPS, FACTOR)
    for place, state in enumerate(states):
        assert_close(together.take(place), alone(state, 1e-2, Recipe(8), STEPS)[0], 1e-12)


@every_case
def test_saturated_and_dead_units_as_diagnosed(case: str) -> None:
    states, rates = pool(case)
    split = judged_split(CASES[case][2])
    with patch.object(cohort, "TILE_UNITS", 80):
        saturated, dead = Cohort(states, rates).unhealthy_units(split.images)
    for place, state in enumerate(states):
        found = diagnose(state.network, split.images, split.labels)
        assert (saturated[place], dead[place]) == (len(found.saturated), len(found.dead))
    if case == "l1":
        assert saturated.any() and dead.any()


def test_allocations_and_seeds_of_fresh_networks() -> None:
    """As `hunt` makes them: other seeds, densities and allocations, none with a kernel of its own."""
    networks = [
        StructNet([16, width, 3], density, rng_seed=width, allocation=allocation)
        for width, density, allocation in (
            (40, 0.1, "uniform"),
            (33, 0.2, "proportional"),
            (9, 0.05, "uniform"),
        )
    ]
    states = [TrainState.fresh(network) for network in networks]
    together, losses = trained(states, [1e-2] * 3, "plain")
    assert together.parameters.tolist() == [network.parameter_count for network in networks]
    for place, state in enumerate(states):
        own, own_losses = alone(state, 1e-2, CASES["plain"][3], STEPS)
        close = torch.testing.assert_close
        close(losses[place], own_losses)
        assert_close(together.take(place), own, 1e-5)


# --- members come and go


@every_case
@settings(deadline=None, max_examples=4)
@given(st.lists(st.integers(0, MEMBERS - 1), min_size=1, unique=True), st.integers(0, STEPS))
def test_dropping_members_does_not_disturb_the_others(case: str, kept: list[int], when: int) -> None:
    dtype, recipe = CASES[case][2:]
    with patch.object(cohort, "TILE_UNITS", 80):
        together, before = trained(*pool(case), case, when)
        rest = together.keep(kept)
        after = rest.train(train_split(dtype), recipe, STEPS - when, FACTOR)
    assert len(rest) == len(kept) and rest.step == 3 + STEPS
    for place, index in enumerate(kept):
        own, own_losses, _ = expected(case)[index]
        assert_same(rest.take(place), own)
        assert torch.equal(torch.cat([before[index], after[place]]), own_losses)


def test_a_member_taken_out_is_independent(tmp_path: Path) -> None:
    states, rates = pool("l1")
    recipe, split = CASES["l1"][3], train_split(torch.float32)
    together, _ = trained(states, rates, "l1")
    for place in (0, 5):
        taken = together.take(place)
        train_steps(taken, split, recipe, STEPS, lambda step, rate=rates[place]: rate * FACTOR(step))
        assert_same(taken, alone(states[place], rates[place], recipe, 2 * STEPS)[0])
        assert_same(together.take(place), expected("l1")[place][0])
        save_snapshot(str(tmp_path / "taken"), taken, preprocessing={})
        assert_close(load_snapshot(str(tmp_path / "taken")).state, taken, 0)
    assert_same(states[5], pool.__wrapped__("l1")[0][5])


def test_the_cohort_copies_what_it_is_given() -> None:
    states, rates = pool("plain")
    own, own_rates = [state.copy() for state in states], rates.copy()
    together = Cohort(own, own_rates)
    for state in own:
        state.network.values.detach().zero_()
        state.optimizer.first.zero_()
        state.born[:] = 99
    own_rates[:] = 0
    together.train(train_split(torch.float32), CASES["plain"][3], STEPS, FACTOR)
    assert_same(together.take(3), expected("plain")[3][0])


@pytest.mark.parametrize("through_files", [False, True])
@every_case
def test_arrays_go_on_to_the_bit(case: str, through_files: bool, tmp_path: Path) -> None:
    """`auto` too comes back as it was: the kernel of the members is part of the arrays."""
    together, _ = trained(*pool(case), case, 4)
    arrays = together.to_arrays()
    if through_files:
        plain = {name: value for name, value in arrays.items() if not isinstance(value, np.ndarray)}
        save_file(
            {name: arrays[name] for name in arrays if name not in plain}, tmp_path / "cohort.safetensors"
        )
        (tmp_path / "state.json").write_text(json.dumps(plain))
        arrays = {
            **load_file(tmp_path / "cohort.safetensors"),
            **json.loads((tmp_path / "state.json").read_text()),
        }
    again = Cohort.from_arrays(arrays)
    again.train(train_split(CASES[case][2]), CASES[case][3], STEPS - 4, FACTOR)
    together.train(train_split(CASES[case][2]), CASES[case][3], 1, FACTOR)
    assert np.array_equal(again.rates, together.rates)
    for place, (own, *_) in enumerate(expected(case)):
        assert_same(again.take(place), own)


@pytest.mark.parametrize("kernel", ["auto", "masked_dense"])
def test_a_member_keeps_its_kernel_through_arrays(kernel: str) -> None:
    together = Cohort(*pool("plain", kernel))
    assert Cohort.from_arrays(together.to_arrays()).take(1).network.kernel == kernel


@pytest.mark.parametrize("index", [-1, 2])
def test_no_such_member(index: int) -> None:
    states, rates = pool("plain")
    with pytest.raises(IndexError, match="of a cohort of 2"):
        Cohort(states[:2], rates[:2]).take(index)


# --- divergence


def poisoned(state: TrainState, poison: str) -> None:
    values = state.network.values.detach()
    if poison == "a connection from the input is NaN":
        values[0] = torch.nan
    elif poison == "an output is infinite":
        values[-1] = torch.inf
    elif poison == "all hidden units are infinite":
        values[state.network.connection_count : -3] = torch.inf
        values[-1] = torch.nan
    elif poison == "everything is NaN":
        values.fill_(torch.nan)
        state.optimizer.second.fill_(torch.inf)


@pytest.mark.parametrize("case", ["plain", "l1", "double", "everything", "no hidden group"])
@pytest.mark.parametrize("kernel", ["sparse_rows", "masked_dense"])
@pytest.mark.parametrize(
    "poison",
    [
        "a connection from the input is NaN",
        "an output is infinite",
        "all hidden units are infinite",
        "everything is NaN",
        "an absurd learning rate",
    ],
)
def test_divergence_stays_with_its_member(poison: str, kernel: str, case: str) -> None:
    """With sparse rows the others have the same bits as without it, and as batched matrices the same numbers."""
    states, rates = pool(case, kernel)
    sick, split = 6, judged_split(CASES[case][2])
    own, own_rates = [state.copy() for state in states], rates.copy()
    poisoned(own[sick], poison)
    if poison == "an absurd learning rate":
        own_rates[sick] = torch.finfo(CASES[case][2]).max / 2
    together, losses = trained(own, own_rates, case)
    assert len(together.tiles) == 1
    is_sick = [index == sick for index in range(MEMBERS)]
    assert together.diverged().tolist() == is_sick
    assert torch.isfinite(losses).all(dim=1).tolist() == [not one for one in is_sick]
    judged, units = together.evaluate(split), together.unhealthy_units(split.images)
    assert np.isnan(judged.accuracy).tolist() == is_sick
    for place in set(range(MEMBERS)) - {sick}:
        state, own_losses, own_judged = expected(case)[place]
        if kernel == "sparse_rows":
            assert_same(together.take(place), state)
            assert torch.equal(losses[place], own_losses)
            assert judged.loss[place] == own_judged.loss
            found = diagnose(state.network, split.images, split.labels)
            assert (units[0][place], units[1][place]) == (len(found.saturated), len(found.dead))
        else:
            assert_close(together.take(place), state, tolerance(case))


def test_a_huge_loss_is_no_divergence() -> None:
    """The sum of such losses over the images overflows quietly."""
    state = member([16, 3], 0.0, 0, dtype=torch.float64)
    state.network.values.detach()[:] = torch.tensor([1e308, 0.0, 0.0], dtype=torch.float64)
    together = Cohort([state], [0.1])
    judged = together.evaluate(judged_split(torch.float64))
    assert not together.diverged().any()
    assert np.isinf(judged.loss).all() and np.isnan(judged.accuracy).all()


# --- dense kernels


@every_case
@pytest.mark.parametrize("kernel", ["auto", "masked_dense"])
def test_dense_kernels_compute_the_same(case: str, kernel: str) -> None:
    """`auto` takes dense matrices for the full links of a network alone, and sparse rows in a cohort."""
    states, rates = pool(case, kernel)
    together, losses = trained(states, rates, case)
    names = {link.kernel_name for tile in together.tiles for link in tile.network.links.values()}
    dense = {"masked_dense"} if CASES[case][0] == 2 else {"masked_dense", "batched_dense"}
    assert names == ({"sparse_rows"} if kernel == "auto" else dense)
    assert any(link.kernel_name == "masked_dense" for link in states[1].network.links.values())
    for place, (state, rate) in enumerate(zip(states, rates)):
        own, own_losses = alone(state, rate, CASES[case][3], STEPS)
        assert_close(together.take(place), own, tolerance(case))
        torch.testing.assert_close(losses[place], own_losses, rtol=tolerance(case), atol=tolerance(case))


@pytest.mark.parametrize("dense_from_input", [False, True])
@pytest.mark.parametrize("case", ["l1", "double"])
def test_kernels_may_differ_within_a_tile(dense_from_input: bool, case: str) -> None:
    """As on a GPU, where the rule may leave some links sparse."""

    def mixed(shapes: np.ndarray, pair: tuple[int, int], *_: object) -> str:
        dense = "masked_dense" if pair[0] == 0 else "batched_dense"
        return dense if (pair[0] == 0) == dense_from_input else "sparse_rows"

    with patch.object(batched, "pick_in_tile", mixed):
        together, _ = trained(*pool(case, "auto"), case)
    names = {link.kernel_name for tile in together.tiles for link in tile.network.links.values()}
    assert names == {"sparse_rows", "masked_dense" if dense_from_input else "batched_dense"}
    for place, (own, *_) in enumerate(expected(case)):
        assert_close(together.take(place), own, tolerance(case))


def batched_link(widths_in: list[int], widths_out: list[int]) -> tuple[SparseLink, BatchedDense]:
    """Half of all connections between the two groups of each member."""
    shapes = np.array([[1] * len(widths_in), widths_in, widths_out]).T
    joint, _ = join(
        [member(shape.tolist(), 0.5, place, step=0).network.topology for place, shape in enumerate(shapes)]
    )
    link = SparseLink(joint, (1, 2), torch.device("cpu"))
    return link, BatchedDense(link, shapes[:, 1], shapes[:, 2])


@pytest.mark.parametrize("widths", [([4, 4], [3, 3]), ([4, 4, 4], [1, 5, 2]), ([7, 1, 3], [2, 2, 2])])
def test_batched_products_are_those_of_the_matrix(widths: tuple[list[int], list[int]]) -> None:
    link, kernel = batched_link(*widths)
    values = torch.randn(link.connections)
    source, error, start = torch.randn(link.n_in, 5), torch.randn(link.n_out, 5), torch.randn(link.n_out, 1)
    matrix, gradient = link.dense(values), torch.zeros(link.connections + 2)
    close = torch.testing.assert_close
    close(kernel.forward(link, values, source, start), start + matrix @ source)
    close(kernel.source_gradient(link, values, error), matrix.t() @ error)
    kernel.value_gradient(link, error, source, gradient[1:-1])
    close(gradient[1:-1], (error @ source.t())[link.row.long(), link.column.long()])
    assert gradient[0] == gradient[-1] == 0


@pytest.mark.parametrize("widths", [([4, 4, 4], [3, 3, 3]), ([7, 1, 3], [2, 5, 1])])
def test_batched_products_keep_members_apart(widths: tuple[list[int], list[int]]) -> None:
    """All numbers of the second of three members are NaN."""
    link, kernel = batched_link(*widths)
    units_in, units_out = (torch.arange(3).repeat_interleave(torch.tensor(sizes)) for sizes in widths)

    def sick(owner: torch.Tensor, columns: int) -> torch.Tensor:
        return torch.randn(len(owner), columns).masked_fill((owner == 1)[:, None], torch.nan)

    values, gradient = sick(units_out[link.row], 1)[:, 0], torch.zeros(link.connections)
    source, error = sick(units_in, 4), sick(units_out, 4)
    forward = kernel.forward(link, values, source, torch.zeros(link.n_out, 1))
    kernel.value_gradient(link, error, source, gradient)
    backward = kernel.source_gradient(link, values, error)
    for found, owner in (
        (forward, units_out),
        (backward, units_in),
        (gradient[:, None], units_out[link.row]),
    ):
        assert torch.equal(found.isnan().any(dim=1), owner == 1)


def test_the_rule_of_a_tile() -> None:
    """A CPU takes sparse rows; a GPU takes dense matrices unless they are both large and very empty."""
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    shapes = np.array([[784, 64, 10]] * 256)
    assert pick_in_tile(shapes, (0, 1), 256 * 784 * 64, cpu) == "sparse_rows"
    assert pick_in_tile(shapes, (1, 2), 256 * 640, cpu) == "sparse_rows"
    assert pick_in_tile(shapes, (0, 1), 256 * 1000, cuda) == "masked_dense"
    assert pick_in_tile(shapes, (1, 2), 256 * 100, cuda) == "batched_dense"
    many = np.array([[784, 64, 10]] * 1024)
    assert pick_in_tile(many, (0, 1), 1024 * 100, cuda) == "sparse_rows"
    # One wide network among narrow ones: the padding counts.
    uneven = np.array([[8, 2, 2]] * 999 + [[8, 200, 200]])
    assert pick_in_tile(uneven, (1, 2), 44_000, cuda) == "sparse_rows"


# --- what fits, what is joined, what it takes


def other_optimizer(state: TrainState, **changes: float) -> TrainState:
    return TrainState(state.network, replace(state.optimizer, **changes), state.step, state.born)


def with_step(state: TrainState, step: int) -> TrainState:
    return TrainState(state.network, state.optimizer, step, state.born)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda: member([16, 4, 4, 3], 0.5, 1), "the same groups, but have 3 and 4"),
        (lambda: member([16, 3], 0.5, 1), "the same groups, but have 3 and 2"),
        (lambda: member([15, 4, 3], 0.5, 1, step=0), "the same inputs, but have 16 and 15"),
        (lambda: member([16, 4, 4], 0.5, 1), "the same classes, but have 3 and 4"),
        (
            lambda: member([16, 4, 3], 0.5, 1, activation="tanh"),
            "the same activation, but have relu and tanh",
        ),
        (lambda: member([16, 4, 3], 0.5, 1, kernel="auto"), "the same kernel, but have sparse_rows and auto"),
        (lambda: member([16, 4, 3], 0.5, 1, dtype=torch.float64), "the same number type"),
        (lambda: with_step(member([16, 4, 3], 0.5, 1), 4), "the same step, but have 3 and 4"),
        (lambda: other_optimizer(member([16, 4, 3], 0.5, 1), step=4), "the same optimizer"),
        (lambda: other_optimizer(member([16, 4, 3], 0.5, 1), beta1=0.8), "the same optimizer"),
        (lambda: other_optimizer(member([16, 4, 3], 0.5, 1), beta2=0.99), "the same optimizer"),
        (lambda: other_optimizer(member([16, 4, 3], 0.5, 1), epsilon=1e-6), "the same optimizer"),
    ],
)
def test_members_that_do_not_fit(other: Callable[[], TrainState], message: str) -> None:
    first = member([16, 4, 3], 0.5, 0)
    with pytest.raises(ValueError, match=f"members of a cohort must have {message}"):
        Cohort([first, first, other()], [1e-2] * 3)


def test_one_rate_for_each_and_at_least_one() -> None:
    first = member([16, 4, 3], 0.5, 0)
    with pytest.raises(ValueError, match="2 networks and 1 learning rates, but one each is needed"):
        Cohort([first, first], [1e-2])
    with pytest.raises(ValueError, match="0 networks and 0 learning rates"):
        Cohort([], [])
    with pytest.raises(ValueError, match="0 networks"):
        Cohort([first], [1e-2]).keep([])


def test_join_by_hand() -> None:
    """Inputs 0 and 1 are shared; hidden units are 2 | 3 4, outputs 5 | 6."""
    one = Topology.sorted([2, 1, 1], np.array([0, 2]), np.array([2, 3]))[0]
    two = Topology.sorted([2, 2, 1], np.array([1, 0, 0, 3]), np.array([2, 3, 4, 4]))[0]
    joint, places = join([one, two])
    assert joint.architecture == (2, 3, 2)
    # Into the hidden group, then into the output from the input (the skip), then from the hidden group.
    assert joint.source.tolist() == [0, 1, 0, 0, 2, 4]
    assert joint.target.tolist() == [2, 3, 4, 6, 5, 6]
    # Behind six connections the biases of 2 3 4 5 6.
    assert places[0].tolist() == [0, 4, 6, 9]
    assert places[1].tolist() == [1, 2, 3, 5, 7, 8, 10]


def test_join_of_one_is_itself() -> None:
    topology = skip_network().topology
    joint, (place,) = join([topology])
    assert np.array_equal(joint.source, topology.source) and np.array_equal(joint.target, topology.target)
    assert place.tolist() == list(range(topology.parameters))


@pytest.mark.parametrize("shape", [[3, 1, 1], [2, 1, 1, 1]])
def test_join_of_what_does_not_fit(shape: list[int]) -> None:
    empty = np.empty(0, dtype=np.int32)
    one, two = Topology((2, 1, 1), empty, empty), Topology(tuple(shape), empty, empty)
    with pytest.raises(ValueError, match="must have the same depth and inputs"):
        join([one, two])


@pytest.mark.parametrize("architecture", [[784, 64, 10], [784, 256, 10], [16, 8, 8, 3]])
def test_bytes_of_a_member_as_estimated(architecture: list[int]) -> None:
    """Everything that a cohort holds between two steps, shared memory counted once."""
    states = [TrainState.fresh(StructNet(architecture, 0.05, rng_seed=rng_seed)) for rng_seed in range(30)]
    random = torch.Generator().manual_seed(0)
    split = Split(torch.rand(20, architecture[0], generator=random), torch.arange(20) % 3)
    together = Cohort(states, [1e-2] * 30)
    together.train(split, Recipe(4), 1, FACTOR)
    held = dict(memory(thing) for thing in arrays_in(together))
    estimate = sum(cohort_bytes(architecture, state.network.connection_count) for state in states)
    assert 0.5 * sum(held.values()) < estimate < 2 * sum(held.values())


def arrays_in(thing: object) -> Iterator[np.ndarray | torch.Tensor]:
    if isinstance(thing, np.ndarray | torch.Tensor):
        yield thing
        return
    inside = thing if isinstance(thing, list | tuple) else ()
    inside = list(thing.values()) if isinstance(thing, dict) else inside
    for part in [*inside, *vars(thing).values()] if hasattr(thing, "__dict__") else inside:
        yield from arrays_in(part)


def memory(thing: np.ndarray | torch.Tensor) -> tuple[int, int]:
    """Address and bytes of the whole memory that an array lies in."""
    if isinstance(thing, torch.Tensor):
        return thing.untyped_storage().data_ptr(), thing.untyped_storage().nbytes()
    while isinstance(thing.base, np.ndarray):
        thing = thing.base
    return thing.ctypes.data, thing.nbytes
