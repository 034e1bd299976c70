"""What runs out of memory goes on in smaller pieces, with the same bits as if there had been enough."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.grid_cases import shared_for, timeless, train_block

from structnet import StructNet
from structnet.data.dataset import Dataset
from structnet.data.datasets import load_dataset
from structnet.network.state import TrainState
from structnet.training import tile
from structnet.training.cohort import Cohort
from structnet.training.loop import Recipe, constant
from structnet.training.out_of_memory import halved, retry_smaller
from structnet.trials.grid import Block, grid
from tournament.workers import fork_cohorts

RECIPE = Recipe(batch_size=32, l1=5e-5)
MEMBERS = 6


@pytest.mark.parametrize(
    ("bounds", "smaller"),
    [
        ([0, 8], [0, 4, 8]),
        ([0, 5, 6], [0, 2, 5, 6]),
        ([0, 3], [0, 1, 3]),
        ([0, 1, 2], [0, 1, 2]),
        ([0, 1], [0, 1]),
    ],
)
def test_pieces_of_more_than_one_are_halved(bounds: list[int], smaller: list[int]) -> None:
    assert halved(bounds) == smaller


def test_it_ends_with_the_error_when_nothing_can_be_smaller() -> None:
    sizes = [4]

    def work() -> None:
        raise torch.OutOfMemoryError(f"no room for {sizes[-1]}")

    def smaller() -> bool:
        sizes.append(sizes[-1] // 2)
        return sizes[-1] > 0

    with pytest.raises(torch.OutOfMemoryError, match="no room for 1"):
        retry_smaller(work, smaller)
    assert sizes == [4, 2, 1, 0]


def test_other_errors_pass() -> None:
    with pytest.raises(ZeroDivisionError):
        retry_smaller(lambda: 1 // 0, lambda: pytest.fail("that is no lack of memory"))


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """Call it with a number: steps of more networks at once then fail, though never the first step that is tried.

    It returns the sizes that failed. So there is always something to undo.
    """

    def limit(most: int) -> list[int]:
        real, calls, failed = tile.losses_and_gradient, [0], []

        def limited(network: Any, values: Any, inputs: Any, labels: Any, members: int) -> Any:
            calls[0] += 1
            if members > most and calls[0] > 1:
                calls[0] = 0
                failed.append(members)
                raise torch.OutOfMemoryError(f"{members} networks")
            return real(network, values, inputs, labels, members)

        monkeypatch.setattr(tile, "losses_and_gradient", limited)
        return failed

    return limit


def fresh() -> list[TrainState]:
    return [TrainState.fresh(StructNet([64, 12, 10], 0.1, rng_seed=seed)) for seed in range(MEMBERS)]


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert np.array_equal(value, other[name]), name


@pytest.mark.parametrize("rates", [[0.01] * MEMBERS, [0.002 * (n + 1) for n in range(MEMBERS)]])
@pytest.mark.parametrize(("most", "failures"), [(3, [6]), (1, [6, 3])])
def test_a_cohort_trains_on_in_smaller_tiles(
    digits: Dataset,
    little_memory: Callable[[int], list[int]],
    rates: list[float],
    most: int,
    failures: list[int],
) -> None:
    enough = Cohort(fresh(), rates)
    losses = enough.train(digits.train, RECIPE, 12, constant(1.0))
    failed = little_memory(most)
    short = Cohort(fresh(), rates)
    assert torch.equal(short.train(digits.train, RECIPE, 12, constant(1.0)), losses)
    assert failed[: len(failures)] == failures
    assert max(len(tile.places) for tile in short.tiles) == most
    assert_same(short.to_arrays(), enough.to_arrays())
    # It stays small: what has been too much once is not tried again.
    before = len(failed)
    again = short.train(digits.train, RECIPE, 3, constant(1.0))
    assert len(failed) == before
    assert torch.equal(again, enough.train(digits.train, RECIPE, 3, constant(1.0)))


def test_a_cohort_is_measured_in_smaller_tiles(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    enough, short = Cohort(fresh(), [0.01] * MEMBERS), Cohort(fresh(), [0.01] * MEMBERS)
    expected = enough.evaluate(digits.validation), enough.unhealthy_units(digits.train.images[:100])
    real = tile.propagate

    def limited(network: StructNet, *given: Any) -> Any:
        if network.topology.architecture[-1] > 10 * 3:
            raise torch.OutOfMemoryError("too many at once")
        return real(network, *given)

    monkeypatch.setattr(tile, "propagate", limited)
    found = short.evaluate(digits.validation)
    assert len(short.tiles) == 2
    assert np.array_equal(found.log2_likelihood, expected[0].log2_likelihood)
    assert np.array_equal(found.accuracy, expected[0].accuracy)
    for one, other in zip(short.unhealthy_units(digits.train.images[:100]), expected[1]):
        assert np.array_equal(one, other)


def test_one_network_that_does_not_fit_fails(
    digits: Dataset, little_memory: Callable[[int], list[int]]
) -> None:
    little_memory(0)
    with pytest.raises(torch.OutOfMemoryError, match="1 networks"):
        Cohort(fresh(), [0.01] * MEMBERS).train(digits.train, RECIPE, 30, constant(1.0))


def test_a_block_of_a_search_has_the_same_rows(
    digits: Dataset, little_memory: Callable[[int], list[int]], tmp_path: Path
) -> None:
    members = grid([[64, 10]], [0.1], range(MEMBERS), limit=100)
    block = Block("block-0000", tuple(members))
    train_block(block, shared_for(digits, tmp_path / "enough"))
    failed = little_memory(2)
    train_block(block, shared_for(digits, tmp_path / "short"))
    assert failed
    for table in ("networks", "epochs"):
        assert timeless(tmp_path / "short", table) == timeless(tmp_path / "enough", table)


def test_forks_have_the_same_outcome(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    forks = [(state.to_arrays(), None) for state in fresh()]

    def run() -> Any:
        return fork_cohorts.run_forks(forks, digits.train, digits.validation, RECIPE, 5, 0.01, False)

    expected, sizes, real = run(), [], fork_cohorts.Cohort

    def limited(states: list[TrainState], rates: list[float]) -> Cohort:
        sizes.append(len(states))
        if len(states) > 2:
            raise torch.OutOfMemoryError("joining takes memory too")
        return real(states, rates)

    monkeypatch.setattr(fork_cohorts, "Cohort", limited)
    found = run()
    assert sizes == [6, 3, 2, 3, 2], "halves, and one alone is no cohort"
    for (report, arrays), (other, values) in zip(found, expected):
        assert report.error == other.error == ""
        assert np.array_equal(report.measured.bits, other.measured.bits)
        assert_same(arrays, values)
