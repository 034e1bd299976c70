"""`structnet train`: rows, snapshots, and that a run that dies goes on to the same network."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from search.commands.train import COMMAND, worker
from search.commands.train import run as command
from search.commands.train.command import TrainOptions
from structnet import StructNet
from structnet.data.datasets import load_dataset
from structnet.errors import UserError
from structnet.storage.snapshot import list_snapshots, load_snapshot
from structnet.storage.tables import read_table
from structnet.training.evaluation import evaluate

torch.set_num_threads(1)

EPOCHS = 4


def train(folder: Path, **options: Any) -> None:
    COMMAND.run({"results": str(folder), "name": "first", "epochs": EPOCHS, "density": 0.2, **options})


def rows(folder: Path, table: str) -> list[dict[str, Any]]:
    return read_table(str(folder), table, "first").to_pylist()


@pytest.fixture(scope="module")
def undisturbed(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("undisturbed")
    train(folder)
    return folder


def dying_after(epoch: int, marker: Path) -> Callable[..., None]:
    """The loop of a worker that dies once, as soon as this epoch has been written."""

    def loop(plan: Any, start: Any, packed: Any, about: Any) -> None:
        import search.commands.train.worker as inside

        written = inside._keep

        def keep(state: Any, data: Any, plan: Any, number: int) -> None:
            written(state, data, plan, number)
            if number == epoch and not marker.exists():
                marker.touch()
                os._exit(1)

        inside._keep = keep
        try:
            inside.train_loop(plan, start, packed, about)
        finally:
            inside._keep = written

    return loop


def assert_the_same(one: Path, other: Path) -> None:
    """The same rows but for times, and the same snapshots to the bit."""
    found = [
        [{name: value for name, value in row.items() if name != "seconds"} for row in rows(folder, "epochs")]
        for folder in (one, other)
    ]
    assert [row["epoch"] for row in found[0]] == list(range(1, EPOCHS + 1))
    assert found[0] == found[1]
    for name in (f"epoch-{EPOCHS - 1:05d}", f"epoch-{EPOCHS:05d}"):
        states = [load_snapshot(f"{folder}/snapshots/first/{name}").state for folder in (one, other)]
        assert torch.equal(states[0].network.values, states[1].network.values)
        assert torch.equal(states[0].optimizer.second, states[1].optimizer.second)


@pytest.mark.slow  # Ray Train takes half a minute; make test-deprecations runs this one, too
def test_a_run_leaves_its_rows_and_a_network_that_has_learned(undisturbed: Path) -> None:
    (run,) = rows(undisturbed, "experiments")
    found = load_snapshot(run["snapshot"]).state
    assert (run["status"], run["steps"], found.step) == (
        "finished",
        EPOCHS * (1078 // 32),
        EPOCHS * (1078 // 32),
    )
    assert run["parameter_steps_all"] == run["steps"] * run["parameters"]
    data = load_dataset("digits")
    assert run["test_accuracy"] == evaluate(found.network, data.test).accuracy > 0.5
    assert rows(undisturbed, "epochs")[-1]["accuracy"] == run["accuracy"]
    assert list_snapshots(f"{undisturbed}/snapshots/first") == ["epoch-00003", "epoch-00004"]
    assert not (undisturbed / "ray" / "first").exists()


@pytest.mark.slow
def test_a_run_that_failed_goes_on_to_the_same_network(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(command, "RETRIES", 0)
        patch.setattr(worker, "train_loop", dying_after(2, tmp_path / "died"))
        train(tmp_path)
    assert ended.value.code == 1 and "go on with --resume" in " ".join(capsys.readouterr().out.split())
    assert (tmp_path / "died").exists()
    assert rows(tmp_path, "experiments")[0]["status"] == "failed"
    assert list_snapshots(f"{tmp_path}/snapshots/first") == ["epoch-00001", "epoch-00002"]
    train(tmp_path, resume=True)
    assert_the_same(tmp_path, undisturbed)
    train(tmp_path, resume=True)
    assert "finished already" in capsys.readouterr().out


@pytest.mark.slow
def test_workers_that_die_are_started_again(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "train_loop", dying_after(3, tmp_path / "died"))
    train(tmp_path)
    assert (tmp_path / "died").exists()
    assert_the_same(tmp_path, undisturbed)


def test_a_grown_network_is_trained_on(tmp_path: Path) -> None:
    data, grown = load_dataset("digits"), StructNet([64, 7, 10], 0.3, rng_seed=8)
    path = f"{tmp_path}/grown"
    grown.save(path, preprocessing=data.preprocessing)
    options = TrainOptions(architecture="", density=0.1, epochs=1, snapshot=path)
    assert torch.equal(command.start_network(options, data).values, grown.values)
    with pytest.raises(UserError, match="preprocessing"):
        command.start_network(options, load_dataset("digits", standardise=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 33}, "batch_size is 33, but must be a multiple of the 2 workers"),
        (
            {"batch_size": 32, "architecture": "1@8,4@4,10", "density": 0.5},
            "batch_size is 32, but feature maps are normalised by blocks of 32 images, and each of the 2 workers",
        ),
        ({"snapshot": "x", "density": 0.1}, "the snapshot has both"),
        ({"snapshot": "nowhere", "density": None}, "nowhere"),
        ({"epochs": 0}, "epochs is 0"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as mistake:
        train(tmp_path, **options)
    assert "\n" not in str(mistake.value)
    assert not list(tmp_path.iterdir())
