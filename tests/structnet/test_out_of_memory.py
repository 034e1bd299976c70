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
from structnet.training.cohort import Cohort, Part
from structnet.training.lockstep import Lockstep
from structnet.training.out_of_memory import halved, retry_smaller
from structnet.training.recipe import Recipe
from structnet.training.schedules import constant
from structnet.training.tile import Tile
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
    """Call it with a number: more networks at once then fail half way through what they are trained for.

    It returns the sizes that failed. So there is always something to undo.
    """

    def limit(most: int) -> list[int]:
        failed: list[int] = []

        def limited(kind: type[Part]) -> Callable[..., Any]:
            real = kind.train

            def train(self: Any, split: Any, recipe: Any, steps: int, *given: Any, **options: Any) -> Any:
                if len(self.topologies) <= most:
                    return real(self, split, recipe, steps, *given, **options)
                real(self, split, recipe, steps // 2, *given, **options)
                failed.append(len(self.topologies))
                raise torch.OutOfMemoryError(f"{failed[-1]} networks")

            return train

        for kind in (Lockstep, Tile):
            monkeypatch.setattr(kind, "train", limited(kind))
        return failed

    return limit


every_kernel = pytest.mark.parametrize("kernel", ["auto", "sparse_rows"])


def fresh(kernel: str = "auto") -> list[TrainState]:
    networks = [StructNet([64, 12, 10], 0.1, rng_seed=seed, kernel=kernel) for seed in range(MEMBERS)]
    return [TrainState.fresh(network) for network in networks]


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert np.array_equal(value, other[name]), name


@every_kernel
@pytest.mark.parametrize("rates", [[0.01] * MEMBERS, [0.002 * (n + 1) for n in range(MEMBERS)]])
@pytest.mark.parametrize(("most", "failures"), [(3, [6]), (1, [6, 3, 2])])
def test_a_cohort_trains_on_in_smaller_parts(
    digits: Dataset,
    little_memory: Callable[[int], list[int]],
    rates: list[float],
    most: int,
    failures: list[int],
    kernel: str,
) -> None:
    enough = Cohort(fresh(kernel), rates)
    losses = enough.train(digits.train, RECIPE, 12, constant(1.0))
    failed = little_memory(most)
    short = Cohort(fresh(kernel), rates)
    assert torch.equal(short.train(digits.train, RECIPE, 12, constant(1.0)), losses)
    assert failed == failures
    assert max(len(part.topologies) for part in short.parts) == most
    assert_same(short.to_arrays(), enough.to_arrays())
    # It stays small: what has been too much once is not tried again.
    again = short.train(digits.train, RECIPE, 3, constant(1.0))
    assert failed == failures
    assert torch.equal(again, torch.cat([alone(enough, member, digits) for member in range(MEMBERS)]))


def alone(cohort: Cohort, member: int, digits: Dataset) -> torch.Tensor:
    """The losses of three more steps of one member, which fits any memory."""
    return cohort.keep([member]).train(digits.train, RECIPE, 3, constant(1.0))


@every_kernel
def test_a_cohort_is_measured_in_smaller_parts(
    digits: Dataset, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    enough, short = Cohort(fresh(kernel), [0.01] * MEMBERS), Cohort(fresh(kernel), [0.01] * MEMBERS)
    expected = enough.evaluate(digits.validation), enough.unhealthy_units(digits.train.images[:100])

    def limited(kind: type[Part]) -> Callable[..., Any]:
        real = kind.judge

        def judge(self: Any, split: Any) -> Any:
            if len(self.topologies) > 3:
                raise torch.OutOfMemoryError("too many at once")
            return real(self, split)

        return judge

    for kind in (Lockstep, Tile):
        monkeypatch.setattr(kind, "judge", limited(kind))
    found = short.evaluate(digits.validation)
    assert len(short.parts) == 2
    assert np.array_equal(found.log2_likelihood, expected[0].log2_likelihood)
    assert np.array_equal(found.accuracy, expected[0].accuracy)
    for one, other in zip(short.unhealthy_units(digits.train.images[:100]), expected[1]):
        assert np.array_equal(one, other)


@every_kernel
def test_one_network_that_does_not_fit_fails(
    digits: Dataset, little_memory: Callable[[int], list[int]], kernel: str
) -> None:
    little_memory(0)
    with pytest.raises(torch.OutOfMemoryError, match="1 networks"):
        Cohort(fresh(kernel), [0.01] * MEMBERS).train(digits.train, RECIPE, 30, constant(1.0))


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
