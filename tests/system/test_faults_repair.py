"""What a resume makes of rows, snapshots and checkpoints that are damaged, without Ray and in seconds."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from fsspec.implementations.local import LocalFileSystem
from helpers.fault_cases import flip, rows_of, truncate

from search.commands.grow import COMMAND
from search.commands.grow.fitting import fitted_to
from search.commands.grow.run import grow_one
from search.grid.train_grid import without_champions
from search.session.console import Console
from search.session.experiment import Experiment
from search.tune.checkpoints import is_whole, seal, tune_state_is_whole
from structnet import StructNet
from structnet.data.dataset import Dataset
from structnet.data.datasets import load_dataset
from structnet.network.state import TrainState
from structnet.storage.snapshot import save_snapshot
from structnet.storage.tables import TableWriter
from structnet.training.recipe import Recipe
from tournament import Economy, Settings, Tournament
from tournament.observer import Observer
from tournament.progress import Checkpoint, last_whole_round
from tournament.workers.pool import InlinePool, Job, Outcome, WorkersLost

DAMAGES: list[Callable[[Path], Any]] = [truncate, flip, Path.unlink]
LAST = 3  # round: it opens, grows twice, and ends


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


class Stop(Observer):
    """Interrupts at the end of the second round that is played."""

    def round_done(self, row: dict[str, Any]) -> None:
        if row["round"] == 2:
            raise KeyboardInterrupt


def tournament(data: Dataset, folder: Path, observer: Observer | None = None, trial: str = "") -> Tournament:
    settings = Settings(
        epochs=8,
        rounds=2,
        round_steps=20,
        heat_steps=20,
        candidates=3,
        growth_share=0.5,
        recipe=Recipe(batch_size=32),
        economy=Economy(fork_price=0.0),
    )
    return Tournament(
        StructNet([64, 8, 10], 0.2, ensure_paths=True),
        data,
        settings=settings,
        writer=TableWriter(str(folder / "results"), "first"),
        checkpoint=Checkpoint(str(folder / "snapshots"), data),
        observer=observer,
        trial=trial,
    )


def tables(folder: Path) -> dict[str, Any]:
    hidden = ("snapshot",)
    return {
        table: [
            {name: value for name, value in row.items() if name not in hidden}
            for row in rows_of(folder / "results", table)
        ]
        for table in ("rounds", "candidates")
    }


@pytest.fixture(scope="module")
def whole(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("whole")
    tournament(digits, folder).run()
    found = tables(folder)
    assert [row["round"] for row in found["rounds"]] == list(range(LAST + 1))
    return found


@pytest.fixture(scope="module")
def stopped(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stopped after round 2, whose rows and snapshot are there."""
    folder = tmp_path_factory.mktemp("stopped")
    with pytest.raises(KeyboardInterrupt):
        tournament(digits, folder, Stop()).run()
    return folder


@pytest.fixture
def cut(stopped: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stopped, tmp_path / "cut"))


def part(folder: Path, table: str, number: int) -> Path:
    return folder / "results" / "tables" / table / "experiment=first" / f"round-{number:04d}.parquet"


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    ("table", "number", "last"),
    [("rounds", 2, 1), ("candidates", 2, 1), ("candidates", 1, 0), ("rounds", 0, -1)],
)
def test_rounds_whose_rows_are_damaged_are_repeated(
    digits: Dataset,
    whole: dict[str, Any],
    cut: Path,
    table: str,
    number: int,
    last: int,
    damage: Callable[[Path], Any],
) -> None:
    writer = TableWriter(str(cut / "results"), "first")
    assert last_whole_round(writer, "") == 2
    damage(part(cut, table, number))
    assert last_whole_round(writer, "") == last
    resumed = tournament(digits, cut).run(resume=True)
    assert [row["round"] for row in resumed.rounds] == list(range(last + 1, LAST + 1))
    assert tables(cut) == whole


def test_rows_of_another_trial_do_not_count(digits: Dataset, cut: Path) -> None:
    assert last_whole_round(TableWriter(str(cut / "results"), "first"), "seed-0001") == -1


def test_a_newer_snapshot_that_is_whole_is_no_damage(digits: Dataset, cut: Path) -> None:
    """The first is cut short and the rows of the others are gone: then it is begun anew."""
    truncate(cut / "snapshots" / "round-0000.safetensors")
    assert Checkpoint(str(cut / "snapshots"), digits).newest(until=0) is None


# A machine that is lost with what lay on it


class Losing(InlinePool):
    """Loses, at one of its calls, what a job needs."""

    def __init__(self, data: Dataset, at: int) -> None:
        super().__init__(data)
        self.calls, self.at = 0, at

    def run(
        self, jobs: Sequence[Job[Any]], on_done: Callable[[int], None] | None = None
    ) -> list[Outcome[Any]]:
        self.calls += 1
        if self.calls == self.at:
            raise WorkersLost("a machine is gone")
        return super().run(jobs, on_done)


def grown_with(data: Dataset, folder: Path, at: int) -> tuple[dict[str, Any], str, int]:
    """The tables of a small `grow`, what it said, and how many calls its pool had."""
    given = {"epochs": 6, "rounds": 2, "candidates": 3, "name": "first", "results": str(folder / "results")}
    options = fitted_to(COMMAND.parse(given), data)
    experiment, said, pool = Experiment("grow", options, {}), StringIO(), Losing(data, at)
    grow_one(options, data, experiment, pool, 0, "", Console(file=said, width=200))
    return tables(folder), said.getvalue(), pool.calls


def test_what_is_lost_with_a_machine_is_trained_again(digits: Dataset, tmp_path: Path) -> None:
    """Whenever it happens, between the first call and the last."""
    whole, _, calls = grown_with(digits, tmp_path / "whole", at=0)
    for at in sorted({1, calls // 3, 2 * calls // 3, calls}):
        found, said, _ = grown_with(digits, tmp_path / f"lost-{at}", at)
        assert "a machine is gone: going on from the last round" in said
        assert found == whole


# Blocks of a hunt


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_block_is_lost_with_its_champion(tmp_path: Path, damage: Callable[[Path], Any]) -> None:
    """Those of others may be given up already, so they are not asked for."""
    rows = []
    for number in (0, 1, 2):
        path = str(tmp_path / f"net-{number}")
        save_snapshot(path, TrainState.fresh(StructNet([4, 3], 0.5)), preprocessing={})
        told = {"density": 0.5, "accuracy": number / 2, "efficiency": 1 / (number + 1), "patchability": None}
        row = {"trial": f"block-{number}", "network": f"net-{number}", "loss": 1.0, "parameters": 9}
        rows.append(row | told | {"snapshot": path})
    damage(tmp_path / "net-1.safetensors")
    assert without_champions(pa.Table.from_pylist(rows)) == set()
    damage(tmp_path / "net-2.safetensors")
    assert without_champions(pa.Table.from_pylist(rows)) == {"block-2"}


# Checkpoints of trials


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    (tmp_path / "state.json").write_text('{"epoch": 3}')
    (tmp_path / "cohort.safetensors").write_bytes(bytes(1000))
    seal(tmp_path)
    (tmp_path / ".is_checkpoint").touch()  # by Tune
    return tmp_path


def test_a_sealed_checkpoint_is_whole(checkpoint: Path) -> None:
    assert is_whole(checkpoint)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["state.json", "cohort.safetensors", "sha256.json"])
def test_a_checkpoint_that_is_damaged_is_not(
    checkpoint: Path, name: str, damage: Callable[[Path], Any]
) -> None:
    damage(checkpoint / name)
    assert not is_whole(checkpoint)


@pytest.mark.parametrize("name", ["experiment_state-1.json", "tuner.pkl"])
def test_state_of_tune_that_was_cut_short_is_seen(tmp_path: Path, name: str) -> None:
    (tmp_path / "experiment_state-1.json").write_text('{"trials": [1, 2, 3]}')
    (tmp_path / "tuner.pkl").write_bytes(pickle.dumps({"trials": [1, 2, 3]}))
    assert tune_state_is_whole(LocalFileSystem(), str(tmp_path))
    truncate(tmp_path / name)
    assert not tune_state_is_whole(LocalFileSystem(), str(tmp_path))
