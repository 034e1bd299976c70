"""Checkpoints of a tournament: the newest whole one counts, and data of another preprocessing is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from structnet import StructNet
from structnet.data.dataset import Dataset
from structnet.data.datasets import load_dataset
from structnet.errors import UserError
from structnet.network.state import TrainState
from structnet.training.recipe import Recipe
from tournament import Economy, Settings, Tournament
from tournament.observer import Observer
from tournament.progress import Checkpoint, Progress


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


@pytest.fixture
def checkpoint(digits: Dataset, tmp_path: Path) -> Checkpoint:
    """Two rounds and a stretch of the final phase."""
    arrays = TrainState.fresh(StructNet([64, 8, 10], 0.2)).to_arrays()
    kept = Checkpoint(str(tmp_path), digits)
    kept.save_round(arrays, Progress(round=0, step=10))
    kept.save_round(arrays, Progress(round=1, step=20, balance=7.5))
    kept.save_stretch(arrays, Progress(round=1, step=30, phase="final"))
    return kept


def test_nothing_saved_is_nothing_to_resume(digits: Dataset, tmp_path: Path) -> None:
    assert Checkpoint(str(tmp_path / "new"), digits).newest() is None


def test_the_newest_is_found_with_its_progress(checkpoint: Checkpoint) -> None:
    found = checkpoint.newest()
    assert found is not None
    assert found[1] == Progress(round=1, step=30, phase="final")


def test_a_stretch_replaces_the_one_before(checkpoint: Checkpoint, tmp_path: Path) -> None:
    arrays = TrainState.fresh(StructNet([64, 8, 10], 0.2)).to_arrays()
    checkpoint.save_stretch(arrays, Progress(round=1, step=40))
    assert sorted(path.name for path in tmp_path.glob("*.json")) == [
        "round-0000.json",
        "round-0001-step-00000040.json",
        "round-0001.json",
    ]


def test_one_that_was_cut_short_is_passed_over(checkpoint: Checkpoint, tmp_path: Path) -> None:
    newest = tmp_path / "round-0001-step-00000030.safetensors"
    newest.write_bytes(newest.read_bytes()[:50])
    found = checkpoint.newest()
    assert found is not None
    assert found[1] == Progress(round=1, step=20, balance=7.5)


def test_if_all_are_damaged_the_newest_is_named(checkpoint: Checkpoint, tmp_path: Path) -> None:
    for file in tmp_path.glob("*.safetensors"):
        file.write_bytes(b"")
    with pytest.raises(UserError, match="round-0001-step-00000030"):
        checkpoint.newest()


def test_data_of_another_preprocessing_is_refused(checkpoint: Checkpoint, digits: Dataset) -> None:
    other = replace(digits, preprocessing={**digits.preprocessing, "scale": 255.0})
    with pytest.raises(UserError, match="preprocessing"):
        Checkpoint(checkpoint.folder, other).newest()


class Stop(Observer):
    """Interrupts at the n-th call of one of its methods."""

    def __init__(self, where: str, count: int) -> None:
        self.where, self.count = where, count

    def _met(self, where: str) -> None:
        self.count -= where == self.where
        if where == self.where and self.count == 0:
            raise KeyboardInterrupt

    def fork_done(self) -> None:
        self._met("fork_done")

    def round_done(self, row: dict[str, Any]) -> None:
        self._met("round_done")

    def final_progress(self, done: int, total: int) -> None:
        self._met("final_progress")


def tournament(data: Dataset, folder: Path, observer: Observer | None = None) -> Tournament:
    settings = Settings(
        epochs=8,
        rounds=2,
        round_steps=20,
        heat_steps=20,
        candidates=3,
        growth_share=0.5,
        economy=Economy(fork_price=0.0),
        recipe=Recipe(batch_size=32, input_dropout=0.1),
    )
    seed = StructNet([64, 8, 10], 0.2, ensure_paths=True)
    return Tournament(
        seed, data, settings=settings, checkpoint=Checkpoint(str(folder), data), observer=observer
    )


@pytest.mark.parametrize(
    ("where", "count"), [("fork_done", 3), ("round_done", 2), ("final_progress", 1), ("final_progress", 3)]
)
def test_a_run_that_was_stopped_anywhere_ends_as_if_it_had_not_been(
    digits: Dataset, tmp_path: Path, where: str, count: int
) -> None:
    whole = tournament(digits, tmp_path / "whole").run()
    with pytest.raises(KeyboardInterrupt):
        tournament(digits, tmp_path / "cut", Stop(where, count)).run()
    resumed = tournament(digits, tmp_path / "cut").run(resume=True)
    assert torch.equal(resumed.network.values, whole.network.values)
    assert resumed.test.accuracy == whole.test.accuracy

    def timeless(row: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in row.items() if name not in ("seconds", "snapshot")}

    # A resumed run tells the rounds since the stop; the earlier ones are in the tables.
    assert [timeless(row) for row in resumed.rounds] == [
        timeless(row) for row in whole.rounds[-len(resumed.rounds) :]
    ]
