"""`--batch-size auto`: one number, found once, recorded and kept; and half of it where memory runs out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.command_cases import assert_refused, structnet

from search.commands.evolve import run as evolve
from search.commands.evolve.command import EvolveOptions
from search.commands.grow import fitting
from search.commands.grow import run as grow
from search.commands.grow.command import GrowOptions
from search.commands.hunt.command import HuntOptions
from search.commands.ladder.command import LadderOptions
from search.commands.rescue import run as rescue
from search.commands.rescue.command import RescueOptions
from search.commands.train import COMMAND, worker
from search.commands.train import run as command
from search.commands.train.command import TrainOptions
from search.commands.validate import run as validate
from search.commands.validate.command import ValidateOptions
from search.grid.train_grid import fitted
from search.options import BatchSizeOptions
from search.session import batch_size
from search.session.batch_size import largest_of, with_batch_size
from search.session.console import Console
from search.session.experiment import Experiment
from structnet.data.datasets import load_dataset
from structnet.errors import UserError
from structnet.storage.snapshot import load_snapshot
from structnet.storage.tables import read_table
from structnet.training import memory
from tournament.workers import fork
from tournament.workers.pool import InlinePool

torch.set_num_threads(1)

IMAGES = 1078  # of digits to train on
FITTED: dict[type[BatchSizeOptions], Callable[[Any, Any], BatchSizeOptions]] = {
    GrowOptions: fitting.fitted_to,
    HuntOptions: fitted,
    LadderOptions: lambda options, data: fitted(options, data, allocations=["uniform"]),
    RescueOptions: rescue.fitted_to,
    EvolveOptions: evolve.fitted_to,
    ValidateOptions: lambda options, data: validate.base_network(options, data)[0],
}


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[[float, BatchSizeOptions], None]:
    """Call it with a number of images: each of the workers then has just enough free memory for so many."""

    def leave(images: float, options: BatchSizeOptions) -> None:
        shape = largest_of(options, load_dataset("digits"))
        _, per_image = memory.measure(shape, "cpu")
        enough = int(images * options.workers * per_image / memory.SHARE) + 1
        monkeypatch.setattr(memory, "free_bytes", lambda device: enough)

    return leave


def config_of(folder: Path, trial: str = "", name: str = "first") -> dict[str, Any]:
    rows = read_table(str(folder), "experiments", name).to_pylist()
    found: dict[str, Any] = json.loads(next(row["config"] for row in rows if row["trial"] == trial))
    return found


@pytest.mark.parametrize("kind", FITTED, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(("images", "batch"), [(10**6, 32), (15.9, 8), (8, 8), (0, 1)])
def test_every_command_fits_its_batch_to_the_memory(
    kind: type[BatchSizeOptions],
    images: float,
    batch: int,
    free: Callable[[float, BatchSizeOptions], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = {"architecture": fitting.USUAL} if kind is GrowOptions else {}
    options = kind(batch_size="auto", **given)  # type: ignore[arg-type]
    free(images, options)
    found = FITTED[kind](options, load_dataset("digits"))
    assert (found.batch_size, found.batch_size_asked) == (batch, "auto")
    assert f"Batches of {batch} images" in capsys.readouterr().out
    # What is fitted stays as it is, in whatever is made of it later.
    free(1, options)
    assert with_batch_size(found, load_dataset("digits")).batch_size == batch


@pytest.mark.parametrize("kind", FITTED, ids=lambda kind: kind.__name__)
def test_memory_is_not_looked_at_unless_that_is_asked_for(
    kind: type[BatchSizeOptions], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "measure", lambda *given: pytest.fail("measured"))
    data = load_dataset("digits")
    for given, batch in ((None, 32), (17, 17)):
        found = FITTED[kind](kind(batch_size=given), data)
        assert (found.batch_size, found.batch_size_asked) == (batch, None)


def test_the_widest_network_decides() -> None:
    data = load_dataset("digits")
    options = HuntOptions(architectures="input-16-classes, input-512-classes input-9-9-classes")
    assert largest_of(options, data) == (64, 512, 10)
    with pytest.raises(UserError, match="begin with 64"):
        largest_of(HuntOptions(architectures="32-512-10"), data)


def test_a_gpu_is_not_shared_with_the_workers_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "devices_like", lambda device: ["cuda:0", "cuda:1"])
    monkeypatch.setattr(memory, "measure", lambda shape, device: (1000 + int(device[-1]), 2.0))
    shared = HuntOptions(device="cuda", gpus_per_worker=0.25, workers=8)
    assert batch_size._measured(shared, (64, 10)) == [(250.0, 2.0), (250.25, 2.0)]
    whole = HuntOptions(device="cuda", gpus_per_worker=2, workers=8)
    assert batch_size._measured(whole, (64, 10)) == [(1000.0, 2.0), (1001.0, 2.0)]


@pytest.mark.slow
def test_on_a_cluster_the_workers_machines_are_measured(ray_session: None) -> None:
    options = HuntOptions(address="127.0.0.1:6379", workers=3, cpus_per_worker=0.5)
    found = batch_size._measured(options, (64, 16, 10))
    assert len(found) == 3
    for room, per_image in found:
        assert per_image == memory.measure((64, 16, 10), "cpu")[1]
        assert 0 < room < memory.free_bytes("cpu")
    with pytest.raises(UserError, match="could not be measured") as mistake:
        batch_size._measured(options.model_copy(update={"device": "nonsense"}), (64, 16, 10))
    assert "\n" not in str(mistake.value) and mistake.value.args[0].endswith("give a number")


def test_a_resume_keeps_the_number_on_a_machine_with_less_memory(
    tmp_path: Path, free: Callable[[float, BatchSizeOptions], None]
) -> None:
    data = load_dataset("digits")
    given: dict[str, Any] = {"results": str(tmp_path), "name": "first"}
    options = HuntOptions(batch_size="auto", **given)  # type: ignore[arg-type]
    Experiment("hunt", fitted(options, data)).start("", 0)
    assert (config_of(tmp_path)["batch_size"], config_of(tmp_path)["batch_size_asked"]) == (32, "auto")
    free(2, options)
    again = options.model_copy(update={"resume": True})
    resumed = fitted(again, data)
    assert resumed.batch_size == 32
    assert Experiment("hunt", resumed).rows[""]["status"] == "running"
    # Neither may a number take the place of auto, nor auto that of a number.
    number = HuntOptions(batch_size=32, resume=True, **given)
    with pytest.raises(UserError, match="batch_size_asked was 'auto', is None"):
        Experiment("hunt", fitted(number, data))
    Experiment("hunt", fitted(HuntOptions(batch_size=32, results=str(tmp_path), name="other"), data)).start(
        "", 0
    )
    with pytest.raises(UserError, match="batch_size_asked was None, is 'auto'"):
        Experiment("hunt", fitted(again.model_copy(update={"name": "other"}), data))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["hunt", "--batch-size", "many"], "batch_size is 'many': must be a number of images, or auto"),
        (["train", "--batch-size", "2.5"], "batch_size is '2.5': must be a number of images, or auto"),
        (["grow", "--batch-size", "0"], "batch_size is 0, but must be at least 1"),
        (["grow", "--batch-size", "auto", "--device", "cuda:99"], "where torch finds a GPU: leave it at cpu"),
        (["sweep", "--set", "batch_size=auto"], "the settings of a sweep are compared"),
        (["sweep", "--vary", "batch_size=16,auto"], "give a number"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    assert_refused(structnet(*arguments, cwd=tmp_path), message)
    assert not list(tmp_path.iterdir())


# Where memory runs out


def with_room_for(batch: int, epochs: int) -> Callable[..., None]:
    """The loop of a worker that runs out of memory with larger batches, once so many epochs are done."""

    def loop(plan: Any, start: Any, packed: Any, about: Any) -> None:
        import search.commands.train.worker as inside

        real = inside.train_shared_steps

        def steps(state: Any, split: Any, recipe: Any, count: int, *given: Any) -> Any:
            if recipe.batch_size > batch and state.step >= epochs * count:
                raise torch.OutOfMemoryError(f"CUDA out of memory with {recipe.batch_size} images")
            return real(state, split, recipe, count, *given)

        inside.train_shared_steps = steps  # type: ignore[assignment]
        try:
            inside.train_loop(plan, start, packed, about)
        finally:
            inside.train_shared_steps = real

    return loop


def train(folder: Path, **options: Any) -> None:
    COMMAND.run({"results": str(folder), "name": "first", "epochs": 4, "density": 0.2, **options})


@pytest.mark.slow
def test_train_goes_on_with_half_of_it_and_says_so(
    ray_session: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "RETRIES", 0)
    monkeypatch.setattr(worker, "train_loop", with_room_for(16, 2))
    train(tmp_path, batch_size="auto")
    out = capsys.readouterr().out
    assert "4 epochs, 32 images a step" in out and "from epoch 3 on 16 images a step" in out
    config = config_of(tmp_path)
    assert (config["batch_size"], config["batch_size_asked"]) == (32, "auto")
    assert config["smaller_batches"] == {"epoch 3": 16}
    (run,) = read_table(str(tmp_path), "experiments", "first").to_pylist()
    steps = 2 * (IMAGES // 32) + 2 * (IMAGES // 16)
    assert (run["status"], run["steps"], run["parameter_steps"]) == (
        "finished",
        steps,
        steps * run["parameters"],
    )
    assert run["accuracy"] > 0.5
    epochs = sorted(read_table(str(tmp_path), "epochs", "first").to_pylist(), key=lambda row: row["epoch"])
    assert [row["epoch"] for row in epochs] == [1, 2, 3, 4]
    # The rate has fallen along the cosine as far as it would have, so four passes are four passes.
    last = load_snapshot(run["snapshot"]).state
    assert (last.step, last.optimizer.step) == (4 * (IMAGES // 16), steps)
    assert epochs[0]["learning_rate"] > epochs[1]["learning_rate"] > epochs[2]["learning_rate"] > 0
    assert epochs[3]["learning_rate"] < 1e-5


@pytest.mark.slow
def test_train_resumes_with_the_smaller_batches(
    ray_session: None,
    tmp_path: Path,
    free: Callable[[float, BatchSizeOptions], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With room for no batch at all after two epochs it fails; the resume has room again, and stays small."""
    free(2, TrainOptions())
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(command, "RETRIES", 0)
        patch.setattr(worker, "train_loop", with_room_for(0, 2))
        train(tmp_path, batch_size="auto")
    assert ended.value.code == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "OutOfMemoryError" in out and "with a smaller --batch-size" in out
    assert config_of(tmp_path)["smaller_batches"] == {"epoch 3": 2}, "1 is no multiple of the 2 workers"
    free(10**6, TrainOptions())
    train(tmp_path, batch_size="auto", resume=True)
    assert "4 epochs, 2 images a step" in capsys.readouterr().out
    assert (config_of(tmp_path)["batch_size"], config_of(tmp_path)["smaller_batches"]) == (4, {"epoch 3": 2})
    (run,) = read_table(str(tmp_path), "experiments", "first").to_pylist()
    assert run["steps"] == 2 * (IMAGES // 4) + 2 * (IMAGES // 2)


def test_a_batch_that_train_was_given_is_not_halved(tmp_path: Path) -> None:
    lack = command.MemoryRanOut("training failed: OutOfMemoryError: CUDA out of memory")
    options = TrainOptions(batch_size=32, results=str(tmp_path), name="first")
    experiment = Experiment("train", options)
    experiment.start("", 0)
    with pytest.raises(command.MemoryRanOut):
        command.with_smaller_batches(options, experiment, lack, Console())
    asked = options.model_copy(update={"batch_size_asked": "auto"})
    halved = command.with_smaller_batches(asked, experiment, lack, Console())
    assert halved.smaller_batches == config_of(tmp_path)["smaller_batches"] == {"epoch 1": 16}
    with pytest.raises(command.MemoryRanOut):
        command.with_smaller_batches(asked.model_copy(update={"batch_size": 3}), experiment, lack, Console())


def test_an_auto_batch_of_train_is_a_multiple_of_the_workers() -> None:
    options = TrainOptions(batch_size="auto", workers=3)  # type: ignore[arg-type]
    assert with_batch_size(options, load_dataset("digits"), parts=3).batch_size == 30


GROWN: dict[str, Any] = {
    "policy": "score",
    "epochs": 6,
    "rounds": 2,
    "candidates": 4,
    "density": 0.1,
    "actions": "patch",
}


@pytest.fixture
def grown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Any, list[int]]]:
    """Grows in this process, with room for so many images from so many calls on; the batches that trained the line."""

    def go(room: int, calls: int, **given: Any) -> tuple[Any, list[int]]:
        data, tried = load_dataset("digits"), list[int]()
        real = fork.train_line

        def train_line(state: Any, train: Any, validation: Any, recipe: Any, *more: Any) -> Any:
            if len(tried) >= calls and recipe.batch_size > room:
                raise torch.OutOfMemoryError(f"CUDA out of memory with {recipe.batch_size} images")
            tried.append(recipe.batch_size)
            return real(state, train, validation, recipe, *more)

        told = {"results": str(tmp_path), "name": "first", **GROWN, **given}
        options = fitting.fitted_to(GrowOptions(**told), data)
        experiment, pool = Experiment("grow", options), InlinePool(data)
        with monkeypatch.context() as patch:
            patch.setattr(fork, "train_line", train_line)
            try:
                return grow.grow_one(options, data, experiment, pool, 0, "", Console()), tried
            finally:
                pool.close()

    return go


def test_grow_goes_on_with_half_of_it_and_says_so(
    grown: Callable[..., tuple[Any, list[int]]], tmp_path: Path
) -> None:
    result, tried = grown(8, 2, batch_size="auto")
    assert tried[:2] == [32, 32] and len(tried) > 2 and set(tried[2:]) == {8}
    config = config_of(tmp_path)
    assert (config["batch_size"], config["batch_size_asked"]) == (32, "auto")
    # Twice in the same stretch, which counts once in the end: the smallest.
    assert config["smaller_batches"] == {"round 2": 8}
    assert result.progress.smaller_batches == [[2, 16], [2, 8]]
    assert result.progress.step == 6 * (IMAGES // 32), "the line is as long as before"
    (run,) = read_table(str(tmp_path), "experiments", "first").to_pylist()
    assert run["status"] == "finished"


def test_grow_resumes_with_the_smaller_batches(
    grown: Callable[..., tuple[Any, list[int]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*given: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr("tournament.coordinator.start_final_phase", stop)
        grown(16, 1, batch_size="auto", round_steps=8, heat_steps=8)
    assert config_of(tmp_path)["smaller_batches"] == {"round 1": 16}
    result, tried = grown(10**6, 0, batch_size="auto", round_steps=8, heat_steps=8, resume=True)
    assert set(tried) <= {16}
    assert result.progress.smaller_batches == [[1, 16]]
    assert config_of(tmp_path)["smaller_batches"] == {"round 1": 16}


def test_a_batch_that_grow_was_given_is_not_halved(
    grown: Callable[..., tuple[Any, list[int]]], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        grown(8, 1, batch_size=32)
    assert ended.value.code == 1
    assert "train_line failed in round 1: OutOfMemoryError" in " ".join(capsys.readouterr().out.split())
