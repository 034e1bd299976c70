"""What a row of `rounds` says of its network: as the snapshot has it, and as a pass over training images finds it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from structnet import StructNet
from structnet.data.dataset import Dataset
from structnet.data.datasets import load_dataset
from structnet.data.packing import pack
from structnet.measure.answers import Answers
from structnet.measure.diagnosis import diagnose
from structnet.measure.wiring import wiring_columns
from structnet.network.architecture import sizes_of
from structnet.network.state import TrainState
from structnet.storage.snapshot import load_snapshot
from structnet.storage.tables import TableWriter, read_table
from structnet.training.batches import diagnosis_sample
from structnet.training.recipe import Recipe
from tournament import Economy, Tournament
from tournament.coordinator import Result
from tournament.progress import Checkpoint
from tournament.settings import Settings
from tournament.winning_line import WinningLine
from tournament.workers import fork
from tournament.workers.contender import Contender
from tournament.workers.work import CountUnhealthy

Rows = list[dict[str, Any]]

GROWTHS = Settings(
    epochs=8,
    rounds=4,
    round_steps=20,
    heat_steps=30,
    candidates=6,
    actions=("patch", "insert_layer", "skip"),
    learning_rate=1e-2,
    economy=Economy(income=0.5, fork_price=0.0),
    recipe=Recipe(batch_size=32, rng_seed=1),
)
PATH_OF_SHAPES = Settings(
    policy="shape",
    epochs=24,
    rounds=1,
    learning_rate=0.05,
    front=(150, 100),
    recipe=Recipe(batch_size=32, rng_seed=1),
)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


def grow(digits: Dataset, folder: Path, settings: Settings) -> tuple[Rows, Result]:
    """The rows of a tournament, in their order, and what came of it."""
    result = Tournament(
        StructNet([64, 16, 10], 0.1, rng_seed=1, ensure_paths=True),
        digits,
        settings=settings,
        writer=TableWriter(str(folder), "e"),
        checkpoint=Checkpoint(str(folder / "snapshots"), digits),
    ).run()
    rows = read_table(str(folder), "rounds", "e").to_pylist()
    return sorted(rows, key=lambda row: row["round"]), result


@pytest.fixture(scope="module")
def grown(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Rows, Result]:
    return grow(digits, tmp_path_factory.mktemp("growths"), GROWTHS)


@pytest.fixture(scope="module")
def shaped(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Rows, Result]:
    """A contest of shapes, then a path of sizes."""
    return grow(digits, tmp_path_factory.mktemp("shapes"), PATH_OF_SHAPES)


def test_links_and_inputs_are_those_of_the_snapshot(grown: tuple[Rows, Result]) -> None:
    rows, _ = grown
    for row in rows:
        topology = load_snapshot(row["snapshot"]).state.network.topology
        assert wiring_columns(topology).items() <= row.items()
        assert sum(row["link_connections"]) == row["connections"]
        assert len(row["input_reads"]) == 64
    assert any(len(row["link_sources"]) > 2 for row in rows)


@pytest.mark.parametrize("run", ["grown", "shaped"])
def test_unhealthy_units_are_those_of_the_snapshot_in_every_round(
    run: str, digits: Dataset, request: pytest.FixtureRequest
) -> None:
    rows, _ = request.getfixturevalue(run)
    for row in rows:
        state = load_snapshot(row["snapshot"]).state
        sample = diagnosis_sample(digits.train, 1, state.step)
        found = diagnose(state.network, sample.images, sample.labels)
        topology = state.network.topology
        for column, units in (("group_saturated", found.saturated), ("group_dead", found.dead)):
            counts = np.bincount(topology.group_of(units), minlength=topology.groups)
            assert row[column] == counts.tolist()
    assert sum(sum(row["group_saturated"] + row["group_dead"]) > 0 for row in rows) > 1
    assert rows[0]["decision"] == "opened" and rows[-1]["decision"] == "final"


def test_a_path_of_shapes_has_a_contest_and_sizes(shaped: tuple[Rows, Result]) -> None:
    rows, result = shaped
    assert [row["decision"] for row in rows].count("final") == len(result.progress.front) > 1
    assert any(row["candidates"] for row in rows)


def test_counting_them_changes_nothing_else(
    shaped: tuple[Rows, Result], digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WinningLine, "unhealthy", lambda line: ((), ()))
    counted, uncounted = (
        [_plain(row) for row in rows] for rows, _ in (shaped, grow(digits, tmp_path, PATH_OF_SHAPES))
    )
    assert counted == uncounted


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    passing = ("seconds", "snapshot", "group_saturated", "group_dead")
    return {name: value for name, value in row.items() if name not in passing}


def counted(
    network: StructNet, data: Dataset, rng_seed: int = 0, step: int = 0
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What a worker reports of a network at this step."""
    arrays = TrainState.fresh(network).to_arrays() | {"step": step}
    found, made = Contender(pack(data)).do(CountUnhealthy(rng_seed), [arrays])
    assert not made
    return found


def constant(shape: str, *biases: list[float]) -> StructNet:
    """A network whose hidden units put out their biases whatever the image, or 0."""
    network = StructNet(sizes_of(shape), 0.5, ensure_paths=True)
    with torch.no_grad():
        network.values.zero_()
        for span, of_group in zip(network.topology.bias_spans[1:], biases):
            network.values[span] = torch.tensor(of_group)
    return network


# Median 3, and 3 robust standard deviations above it are 7.45.
@pytest.mark.parametrize("shape", ["64,5,7,10", "1@8,5@8,7@4,10"])
def test_units_and_maps_that_are_dead_or_saturated_are_counted_by_their_group(
    digits: Dataset, shape: str
) -> None:
    network = constant(shape, [1, 2, 3, 4, 7.4], [-1, 2, 3, 4, 7.5, -9, 5])
    assert counted(network, digits) == ((0, 0, 0, 0), (0, 0, 2, 0))
    network = constant(shape, [1, 2, 3, 4, 7.5], [1, 2, 3, 4, 5, 6, -5])
    assert counted(network, digits) == ((0, 1, 0, 0), (0, 0, 1, 0))


@pytest.mark.parametrize(("shape", "images"), [("64,6,10", 1078), ("1@8,2@8,10", 269)])
def test_of_maps_a_quarter_of_the_same_images_is_passed(
    digits: Dataset, shape: str, images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []

    def noted(network: StructNet, inputs: torch.Tensor) -> Any:
        seen.append(inputs)
        return (), ()

    monkeypatch.setattr(fork, "unhealthy_by_group", noted)
    counted(StructNet(sizes_of(shape), 0.5, ensure_paths=True), digits, rng_seed=3, step=5)
    sample = diagnosis_sample(digits.train, 3, 5)
    assert len(digits.train) == 1078 and torch.equal(seen[0].T, sample.images.flatten(1)[:images])


def test_a_result_has_the_answers_that_were_judged(grown: tuple[Rows, Result], digits: Dataset) -> None:
    _, result = grown
    assert isinstance(result.answers, Answers)
    right = result.answers.said == digits.validation.labels.numpy()
    assert np.array_equal(right, result.measured.right)
    # A softmax of ten classes is above a tenth where it is largest.
    assert 0.1 < result.answers.confidence.min() <= result.answers.confidence.max() <= 1
