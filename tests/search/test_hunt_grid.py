"""The default grid of `structnet hunt`, and what culling it saves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.grid_cases import shared_for, timeless, train_block

from search.commands.hunt import COMMAND
from search.commands.hunt.command import HuntOptions
from search.commands.hunt.run import members_of
from search.grid.train_grid import fitted
from structnet.data.dataset import Dataset, Split
from structnet.data.datasets import load_dataset
from structnet.trials.champions import champions
from structnet.trials.grid import BLOCK_COST, Member, blocks_of


@pytest.fixture(scope="module")
def mnist_grid() -> list[Member]:
    """The default grid on images of 28 × 28 in ten classes; which ones does not matter to it."""
    digits = load_dataset("digits")
    images = digits.train.images[:1].new_zeros(1, 1, 28, 28)
    split = Split(images, digits.train.labels[:1])
    data = Dataset("mnist", split, split, split, 10, digits.class_names, {})
    return members_of(HuntOptions(), data)


def test_the_default_grid_has_2240_networks_each_in_one_block(mnist_grid: list[Member]) -> None:
    assert len(mnist_grid) == 28 * 8 * 10 == 2240
    assert len({member.architecture for member in mnist_grid}) == 28
    keys = [member.key for block in blocks_of(mnist_grid) for member in block.members]
    assert len(keys) == 2240
    assert set(keys) == {member.key for member in mnist_grid}


def test_the_default_grid_is_cut_into_blocks_that_many_workers_can_share(mnist_grid: list[Member]) -> None:
    found = blocks_of(mnist_grid)
    assert sum(block.cost for block in found) / BLOCK_COST < len(found) < 400
    assert max(block.cost for block in found) <= BLOCK_COST


# Culling, against the hunt that trains all of them

REPETITIONS, KEPT_AT_LEAST = range(0, 500, 50), 9


def hunted(data: Dataset, results: Path, rng_seed: int, *, cull: bool) -> tuple[dict[Any, str], float]:
    """The champions of the default hunt on digits by place, and what training its networks cost."""
    given = {"results": str(results), "rng_seed": rng_seed, "cull": cull}
    options = fitted(COMMAND.parse(given), data)
    members = members_of(options, data)
    shared = shared_for(data, **{**options.model_dump(mode="json"), "results": results})
    for block in blocks_of(members):
        train_block(block, shared)
    rows = timeless(results, "networks")
    assert len(rows) == len(members)
    costs = {member.key: member.cost for member in members}
    finished = [row for row in rows if row["status"] == "finished"]
    found = {place: row["network"] for place, row in champions(finished).items()}
    return found, sum(costs[row["network"]] * row["epochs"] for row in rows)


@pytest.mark.slow
def test_culling_keeps_the_champions_of_digits(tmp_path: Path) -> None:
    digits = load_dataset("digits")
    same, spent, full = 0, 0.0, 0.0
    for rng_seed in REPETITIONS:
        all_of_them, cost = hunted(digits, tmp_path / f"all-{rng_seed}", rng_seed, cull=False)
        survivors, less = hunted(digits, tmp_path / f"culled-{rng_seed}", rng_seed, cull=True)
        lost = {place: key for place, key in all_of_them.items() if survivors.get(place) != key}
        same += survivors == all_of_them
        spent, full = spent + less, full + cost
        print(
            f"rng_seed {rng_seed}: {len(all_of_them)} champions, lost {lost or 'none'}, {1 - less / cost:.1%} saved"
        )
    print(f"the same champions in {same} of {len(REPETITIONS)}, {1 - spent / full:.1%} of the cost saved")
    assert same >= KEPT_AT_LEAST
    assert spent < full
