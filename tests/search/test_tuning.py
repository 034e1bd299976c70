"""Tune around the work of a trial: what ends, what fails, what a dead process leaves behind, and what a resume does."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from ray import cloudpickle

from search.options import CommonOptions
from search.session.experiment import Experiment
from search.tune import metrics
from search.tune import trials as tuning
from search.tune.trials import Failed, StoredArrays, results_path, run_trials, shared_by
from structnet.data.dataset import Dataset
from structnet.data.datasets import load_dataset
from structnet.data.packing import description, pack
from structnet.trials.work import Shared

STRETCHES = 4


class Counting:
    """Counts to STRETCHES and notes every stretch and every start in a file of its own.

    config: "unmade": it cannot be made; "dies_at", a stretch in which the process ends, once, or 0, when it is made;
    "stops_at", one that fails until the file `repaired` is there.
    """

    def __init__(self, config: dict[str, Any], shared: Shared) -> None:
        if config.get("unmade"):
            raise MemoryError("no room")
        self.config, self.folder, self.count = config, Path(shared.results), 0
        self.images = len(shared.dataset().train)
        self.note("made")
        self.die_once()

    def note(self, what: str) -> None:
        with (self.folder / f"{self.config['name']}.log").open("a") as file:
            file.write(f"{what} {os.getpid()} {torch.get_num_threads()}\n")

    def step(self) -> dict[str, Any]:
        self.count += 1
        self.die_once()
        if self.config.get("stops_at") == self.count and not (self.folder / "repaired").exists():
            raise RuntimeError("stopped")
        self.note(f"step-{self.count}")
        name, done = self.config["name"], self.count == STRETCHES
        told = {"done": done, "name": name, "networks": self.count}
        return told | {"count": self.count, "images": self.images}

    def die_once(self) -> None:
        died = self.folder / f"{self.config['name']}.died"
        if self.config.get("dies_at") == self.count and not died.exists():
            died.touch()
            os._exit(1)

    def save(self, folder: Path) -> None:
        (folder / "count.json").write_text(json.dumps(self.count))

    def load(self, folder: Path) -> None:
        self.count = json.loads((folder / "count.json").read_text())
        self.note(f"loaded-{self.count}")


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """One retry, as each starts a process; and workers cannot import the modules of tests."""
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "RETRIES", 1)
        yield
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


Told = list[dict[str, Any]]


def run(data: Dataset, folder: Path, configs: Told, *, resume: bool = False) -> tuple[list[Failed], Told]:
    """What failed, and what was reported."""
    options = CommonOptions(results=str(folder), name="counted", resume=resume)
    experiment = Experiment("count", options, {})
    experiment.start("", 0)
    shared, told = shared_by(data, options, experiment), []
    failed = run_trials("count", Counting, configs, shared, options, told.append, part="trials")
    return failed, told


# The one that cannot be made stands first: Tune then knows it only by the processes of others.
CONFIGS = [
    {"name": "unmade", "unmade": True},
    {"name": "plain"},
    {"name": "dying", "dies_at": 3},
    {"name": "stopped", "stops_at": 3},
    {"name": "another"},
    {"name": "last"},
]
FINE = ("plain", "another", "last")
STEPS = [f"step-{count}" for count in range(1, STRETCHES + 1)]


class Ran(NamedTuple):
    folder: Path
    failed: list[Failed]
    told: Told
    published: list[tuple[str, float, dict[str, str]]]


@pytest.fixture(scope="module")
def first(digits: Dataset, tmp_path_factory: pytest.TempPathFactory, ray_session: None) -> Ran:
    """All of them, two at a time."""
    folder = tmp_path_factory.mktemp("first")
    published: list[tuple[str, float, dict[str, str]]] = []
    with pytest.MonkeyPatch.context() as patch:
        note = lambda metric, value, **tags: published.append((metric.name, value, tags))  # noqa: E731
        patch.setattr(metrics, "publish", note)
        return Ran(folder, *run(digits, folder, CONFIGS), published)


@pytest.fixture(scope="module")
def resumed(digits: Dataset, first: Ran, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Gone on with, after one of them was repaired."""
    folder = tmp_path_factory.mktemp("resumed")
    shutil.copytree(first.folder, folder, dirs_exist_ok=True)
    for log in folder.glob("*.log"):
        log.write_text("")
    (folder / "repaired").touch()
    return Ran(folder, *run(digits, folder, CONFIGS, resume=True), [])


def notes(folder: Path, name: str, *, starts: bool = False) -> list[str]:
    """What a trial noted; without its starts, as Tune may start one twice and need it once."""
    lines = [line.split()[0] for line in (folder / f"{name}.log").read_text().splitlines()]
    return [line for line in lines if starts or line != "made"]


def counts(told: Told, name: str) -> list[int]:
    return [report["count"] for report in told if report["name"] == name]


def test_every_stretch_is_done_and_reported_once(first: Ran, digits: Dataset) -> None:
    for name in FINE:
        assert notes(first.folder, name) == STEPS
        assert counts(first.told, name) == list(range(1, STRETCHES + 1))
    assert [report["name"] for report in first.told if report["done"]].count("plain") == 1
    assert {report["images"] for report in first.told} == {len(digits.train)}


def test_processes_have_one_thread(first: Ran) -> None:
    lines = [line for log in first.folder.glob("*.log") for line in log.read_text().splitlines()]
    assert {line.split()[2] for line in lines} == {"1"}


def test_a_process_that_dies_is_replaced_and_its_trial_goes_on(first: Ran) -> None:
    assert notes(first.folder, "dying") == ["step-1", "step-2", "loaded-2", "step-3", "step-4"]
    assert counts(first.told, "dying") == list(range(1, STRETCHES + 1))


@pytest.mark.slow
def test_a_process_that_dies_as_it_takes_up_a_trial_is_replaced_too(
    digits: Dataset, tmp_path: Path, ray_session: None
) -> None:
    """Tune gives such a trial up at once: for it the trial has not begun."""
    configs = [{"name": "plain"}, {"name": "another"}, {"name": "taken", "dies_at": 0}]
    failed, told = run(digits, tmp_path, configs)
    assert (tmp_path / "taken.died").exists() and failed == []
    for name in ("plain", "another", "taken"):
        assert notes(tmp_path, name) == STEPS
        assert counts(told, name) == list(range(1, STRETCHES + 1))


def test_those_that_fail_are_named_with_their_reason(first: Ran) -> None:
    reasons = {failure.config["name"]: failure.error for failure in first.failed}
    assert sorted(reasons) == ["stopped", "unmade"]
    assert reasons["unmade"].endswith("MemoryError: no room")
    assert reasons["stopped"].endswith("RuntimeError: stopped")
    assert [failure.config for failure in first.failed if failure.config["name"] == "stopped"] == [CONFIGS[3]]


def test_what_fails_is_tried_again(first: Ran) -> None:
    assert notes(first.folder, "stopped", starts=True).count("made") >= 2
    assert notes(first.folder, "stopped") == ["step-1", "step-2", "loaded-2"]


def test_metrics_tell_of_networks_failures_and_what_waits(first: Ran) -> None:
    def values(name: str, **tags: str) -> list[float]:
        return [value for found, value, its in first.published if (found, its) == (f"structnet_{name}", tags)]

    # Of `stopped` two stretches.
    assert sum(values("networks_trained", experiment="counted")) == (len(FINE) + 1) * STRETCHES + 2
    assert len(values("trials_failed", experiment="counted", outcome="given_up")) == len(first.failed)
    assert values("trials_failed", experiment="counted", outcome="retried")
    assert 0 < max(values("jobs_waiting", queue="trials")) <= len(CONFIGS)
    assert values("jobs_waiting", queue="trials")[-1] == 0
    assert {0, 1} <= set(values("jobs_running", queue="trials")) <= {0, 1, 2}
    assert values("jobs_running", queue="trials")[-1] == 0


def test_a_resume_does_what_is_left(resumed: Ran) -> None:
    for name in (*FINE, "dying"):
        assert not (resumed.folder / f"{name}.log").read_text(), "what is done is not done again"
    assert notes(resumed.folder, "stopped") == ["loaded-2", "step-3", "step-4"]
    assert [(report["name"], report["count"]) for report in resumed.told] == [("stopped", 3), ("stopped", 4)]
    assert sorted(failure.config["name"] for failure in resumed.failed) == ["unmade"]


@pytest.mark.slow
def test_where_nothing_was_started_a_resume_starts(
    digits: Dataset, tmp_path: Path, ray_session: None
) -> None:
    failed, told = run(digits, tmp_path, [{"name": "new"}], resume=True)
    assert failed == [] and counts(told, "new") == list(range(1, STRETCHES + 1))
    assert [path.name for path in (tmp_path / "ray" / "counted").iterdir()] == ["trials"]


# What trials share


def test_a_run_that_is_interrupted_leaves_no_processes(
    digits: Dataset, tmp_path: Path, ray_session: None
) -> None:
    """In a notebook Ray lives on, and its next command needs the CPUs."""
    options = CommonOptions(results=str(tmp_path), name="counted")
    experiment = Experiment("count", options, {})
    experiment.start("", 0)
    before = tuning._placement_groups()

    def interrupt(report: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shared = shared_by(digits, options, experiment)
        run_trials("count", Counting, CONFIGS[1:], shared, options, interrupt)
    assert tuning._placement_groups() == before


def test_the_dataset_goes_through_the_object_store_whole(
    digits: Dataset, tmp_path: Path, ray_session: None
) -> None:
    options = CommonOptions(results=str(tmp_path), name="shared")
    shared = shared_by(digits, options, Experiment("count", options, {}))
    assert isinstance(shared.packed, StoredArrays), (
        "a handle, not the arrays: the trials get it with their class"
    )
    found = shared.dataset()
    assert (found.name, found.classes, found.class_names) == ("digits", 10, digits.class_names)
    assert found.fingerprint == digits.fingerprint
    for split in ("train", "validation", "test"):
        assert torch.equal(getattr(found, split).images, getattr(digits, split).images)
        assert torch.equal(getattr(found, split).labels, getattr(digits, split).labels)
    assert shared.options["name"] == "shared" and json.dumps(shared.options)


def test_on_a_cpu_the_dataset_is_not_copied(digits: Dataset) -> None:
    packed = pack(digits)
    found = Shared(packed, description(digits), "results", "test", {}).dataset()
    assert found.train.stored.data_ptr() == packed["train_images"].ctypes.data


def test_workers_find_the_results_whatever_their_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert results_path(CommonOptions(results="here")) == str(tmp_path / "here")
    assert results_path(CommonOptions(results="memory://there")) == "memory://there"
