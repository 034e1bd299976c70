"""Tournaments of networks with feature maps: shapes keep their sides, both bounds hold, and a resume goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.same_rows import comparable

from structnet import StructNet
from structnet.data.dataset import Dataset
from structnet.data.datasets import load_dataset
from structnet.errors import UserError
from structnet.measure.size import multiply_adds
from structnet.measure.wiring import wiring_columns
from structnet.network.architecture import parameters_dense, sizes_of
from structnet.storage.snapshot import load_snapshot
from structnet.storage.tables import TableWriter, read_table
from structnet.training.recipe import Recipe
from tournament import Tournament, contest
from tournament.coordinator import Result
from tournament.cost import tournament_cost
from tournament.opponents import connected_shape, train_opponents
from tournament.progress import Checkpoint
from tournament.rules.shapes import challengers, reference, usual_of, with_hidden
from tournament.settings import Settings
from tournament.workers.pool import InlinePool

torch.set_num_threads(1)

SHAPE = sizes_of("1@8,3x3,6@8,9@4,10")
SIDES = [[8, 8], [8, 8], [4, 4], [1, 1]]
SETTINGS = Settings(
    epochs=28,
    rounds=1,
    policy="shape",
    max_parameters=160,
    max_macs=2500,
    learning_rate=0.01,
    recipe=Recipe(batch_size=32, l1=5e-5),
)


@pytest.fixture(scope="module", autouse=True)
def contests_in_short_runs() -> Iterator[None]:
    """Maps compete although an entrant has some 24 steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contest, "FEWEST_STEPS_OF_MAPS", contest.FEWEST_STEPS)
        yield


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


def seed() -> StructNet:
    return StructNet(SHAPE, 0.4, ensure_paths=True)


def grow(digits: Dataset, folder: Path, *, resume: bool = False, **options: Any) -> Result:
    writer, checkpoint = TableWriter(str(folder), "test"), Checkpoint(str(folder / "snapshots"), digits)
    tournament = Tournament(
        seed(), digits, settings=SETTINGS, writer=writer, checkpoint=checkpoint, **options
    )
    return tournament.run(resume=resume)


@pytest.fixture(scope="module")
def grown(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    folder = tmp_path_factory.mktemp("grown")
    return folder, grow(digits, folder)


# --- rules


def test_of_maps_no_shape_is_usual() -> None:
    hidden = tuple(SHAPE[1:-1])
    assert usual_of(SHAPE) is None
    assert challengers(hidden, "", None) == {"wide": (18, 27), "narrow": (2, 3)}
    assert challengers(hidden, "wide", None) == {"wide": (18, 27)}
    assert reference(SHAPE) == SHAPE
    assert str(reference(sizes_of("64,8,8,10"))) == "64,100,10"


def test_other_widths_keep_their_sides() -> None:
    assert str(with_hidden(SHAPE, (18, 27))) == "1@8,3x3,18@8,27@4,10"
    assert str(with_hidden(sizes_of("64,16,10"), (8, 4))) == "64,8,4,10"
    narrow = connected_shape(SHAPE, 40)
    assert narrow.sides == SHAPE.sides and max(narrow[1:-1]) < max(SHAPE[1:-1])
    assert parameters_dense(narrow) > 40


def test_what_a_run_costs_is_reckoned_from_the_dense_network_of_its_shape(digits: Dataset) -> None:
    cost = tournament_cost(SETTINGS, seed(), len(digits.train))
    assert cost.parameter_steps > 28 * 33 * 160


# --- a run


def test_both_bounds_hold_and_the_rows_say_so(grown: tuple[Path, Result]) -> None:
    folder, result = grown
    topology = result.network.topology
    assert result.network.parameter_count <= 160
    assert multiply_adds(topology) <= 2500
    assert result.measured.accuracy > 0.5
    rows = read_table(str(folder), "rounds", "test").to_pylist()
    for row in rows:
        network = load_snapshot(row["snapshot"]).state.network
        assert row["sides"] == SIDES
        assert row["macs"] == multiply_adds(network.topology)
        assert row["architecture"] == network.architecture
        assert wiring_columns(network.topology).items() <= row.items()
        assert len(row["input_reads"]) == 64
    assert rows[-1]["macs"] <= 2500


def test_what_competed_had_the_same_sides(grown: tuple[Path, Result]) -> None:
    rows = read_table(str(grown[0]), "candidates", "test").to_pylist()
    sites = {row["site"] for row in rows}
    assert sites == {"1@8-3x3-6@8-9@4-10", "1@8-3x3-18@8-27@4-10", "1@8-3x3-2@8-3@4-10"}
    assert {row["status"] for row in rows} == {"finished"}


def test_a_run_that_dies_goes_on_to_the_bit(
    digits: Dataset, grown: tuple[Path, Result], tmp_path: Path
) -> None:
    stopped = 0

    def dies(row: dict[str, Any]) -> None:
        nonlocal stopped
        stopped += 1
        if stopped == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        grow(digits, tmp_path, heartbeat=dies)
    result = grow(digits, tmp_path, resume=True)
    whole = grown[1].network
    assert torch.equal(result.network.values, whole.values)
    assert result.network.statistics is not None and whole.statistics is not None
    assert torch.equal(result.network.statistics, whole.statistics)
    for table in ("rounds", "candidates"):
        assert comparable(str(tmp_path), table, "test") == comparable(str(grown[0]), table, "test")


def test_the_opponent_moves_taps(digits: Dataset, grown: tuple[Path, Result]) -> None:
    with closing(InlinePool(digits)) as pool:
        rival, dense = train_opponents(grown[1], SETTINGS, SHAPE, pool)
    assert rival.architecture.sides == SHAPE.sides and rival.found is not None
    assert rival.found.parameters == grown[1].network.parameter_count
    assert dense.architecture.sides == ((8, 8), (8, 8), (4, 4), (4, 4), (2, 2), (1, 1))
    assert parameters_dense(dense.architecture) <= grown[1].network.parameter_count


def test_maps_have_no_scales(digits: Dataset) -> None:
    settings = Settings(policy="score", scales=(4, 8), recipe=Recipe(batch_size=32))
    with pytest.raises(
        UserError, match="the architecture is 1@8,3x3,6@8,9@4,10, but scales are for networks without"
    ):
        Tournament(seed(), digits, settings=settings)
