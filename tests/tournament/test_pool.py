"""Ray workers: the same tables for 1, 2 and 3 of them, and a death in the middle changes nothing."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from ray import cloudpickle

from structnet import StructNet
from structnet.data.dataset import Dataset
from structnet.data.datasets import load_dataset
from structnet.errors import UserError
from structnet.network.state import TrainState
from structnet.training.recipe import Recipe
from tournament import Economy, Settings, Tournament
from tournament.coordinator import Result
from tournament.observer import Observer
from tournament.workers import cluster
from tournament.workers.cluster import probe, start_ray
from tournament.workers.contender import Contender
from tournament.workers.dispatch import TASK_RETRIES
from tournament.workers.fork import Arrays
from tournament.workers.pool import InlinePool, Job, Pool, RayPool
from tournament.workers.work import Measure, TellProcess

pytestmark = pytest.mark.usefixtures("ray_session")

SETTINGS = Settings(
    epochs=6,
    rounds=2,
    round_steps=20,
    heat_steps=40,
    candidates=6,
    recipe=Recipe(batch_size=32),
    economy=Economy(income=0.5, fork_price=0.0),
)
MEASURED_ON_THE_WAY = ("seconds", "worker")


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


def grow(data: Dataset, pool: Pool, observer: Observer | None = None) -> Result:
    seed = StructNet([64, 16, 10], 0.1, ensure_paths=True)
    return Tournament(seed, data, settings=SETTINGS, pool=pool, observer=observer).run()


def timeless(result: Result) -> list[dict[str, Any]]:
    rows = result.candidates + result.rounds
    return [{name: value for name, value in row.items() if name not in MEASURED_ON_THE_WAY} for row in rows]


@pytest.fixture(scope="module")
def undisturbed(digits: Dataset) -> list[dict[str, Any]]:
    """In this process, with the forks of every heat one by one."""
    pool = InlinePool(digits)
    pool.together = False
    try:
        return timeless(grow(digits, pool))
    finally:
        pool.close()


def test_in_this_process_cohorts_give_the_same_tables(
    digits: Dataset, undisturbed: list[dict[str, Any]]
) -> None:
    pool = InlinePool(digits)
    try:
        assert timeless(grow(digits, pool)) == undisturbed
    finally:
        pool.close()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_any_number_of_workers_gives_the_same_tables(
    digits: Dataset, undisturbed: list[dict[str, Any]], workers: int
) -> None:
    pool = RayPool(digits, workers)
    try:
        assert timeless(grow(digits, pool)) == undisturbed
    finally:
        pool.close()


class Killer(Observer):
    """Kills a worker in the middle of the first heat."""

    def __init__(self, process: int) -> None:
        self.process, self.struck = process, False

    def fork_done(self) -> None:
        if not self.struck:
            self.struck = True
            os.kill(self.process, signal.SIGKILL)


def test_a_worker_that_dies_is_replaced_and_its_fork_retried(
    digits: Dataset, undisturbed: list[dict[str, Any]]
) -> None:
    pool = RayPool(digits, 2)
    try:
        killer = Killer(pool.process_ids()[0])
        assert timeless(grow(digits, pool, killer)) == undisturbed
        assert killer.struck
        assert killer.process not in pool.process_ids()
    finally:
        pool.close()


@dataclass(frozen=True)
class Die:
    """Ends its process so many times, with a mark in a folder; then tells how often it did."""

    folder: str
    times: int
    name: ClassVar[str] = "die"
    makes: ClassVar[int] = 0

    def run(self, contender: Contender, states: Sequence[Arrays]) -> tuple[int, list[Arrays]]:
        marks = len(list(Path(self.folder).iterdir()))
        if marks < self.times:
            Path(self.folder, str(marks)).touch()
            os._exit(1)
        return marks, []


@dataclass(frozen=True)
class WaitFor:
    """Ends once a file is there; tells its process."""

    file: str
    name: ClassVar[str] = "wait"
    makes: ClassVar[int] = 0

    def run(self, contender: Contender, states: Sequence[Arrays]) -> tuple[int, list[Arrays]]:
        while not Path(self.file).exists():
            time.sleep(0.01)
        return os.getpid(), []


@pytest.fixture
def by_value() -> Iterator[None]:
    """Workers cannot import the modules of tests."""
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def test_a_job_whose_worker_dies_is_tried_again_twice(
    digits: Dataset, tmp_path: Path, by_value: None
) -> None:
    pool = RayPool(digits, 1)
    try:
        (outcome,) = pool.run([Job(Die(str(tmp_path), TASK_RETRIES))])
    finally:
        pool.close()
    assert (outcome.report, outcome.error) == (TASK_RETRIES, "")


@pytest.mark.slow
def test_work_that_kills_every_worker_it_gets_fails_alone(
    digits: Dataset, tmp_path: Path, by_value: None
) -> None:
    pool = RayPool(digits, 1)
    try:
        state = pool.put(TrainState.fresh(StructNet([64, 16, 10], 0.1)).to_arrays())
        deadly = Job(Die(str(tmp_path), TASK_RETRIES + 2))
        outcomes = pool.run([deadly, Job(Measure("validation"), (state,))])
    finally:
        pool.close()
    assert outcomes[0].report is None
    assert outcomes[0].error.startswith("worker lost")
    assert len(list(tmp_path.iterdir())) == 1 + TASK_RETRIES
    assert outcomes[1].report.loss > 0


def test_more_workers_than_cpus_are_refused(digits: Dataset) -> None:
    with pytest.raises(UserError, match="9 workers need 9 CPUs, but the cluster has 4"):
        RayPool(digits, 9)


@pytest.mark.parametrize(
    ("address", "message"),
    [("127.0.0.1:1", "no Ray cluster answers"), ("nonsense", "must be HOST:PORT")],
)
def test_an_address_that_does_not_answer_is_refused_at_once(address: str, message: str) -> None:
    started = time.monotonic()
    with pytest.raises(UserError, match=message):
        probe(address)
    assert time.monotonic() - started < 30


def test_a_server_that_is_no_ray_is_refused_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cluster.ADDRESS_TIMEOUT_SECONDS + cluster.HEALTH_TIMEOUT_SECONDS <= 30
    monkeypatch.setattr(cluster, "HEALTH_TIMEOUT_SECONDS", 3.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        started = time.monotonic()
        with pytest.raises(UserError, match="does not answer as a Ray cluster"):
            probe(f"127.0.0.1:{server.getsockname()[1]}")
        assert time.monotonic() - started < 30


def test_a_ray_that_runs_passes_the_probe() -> None:
    import ray

    probe(ray.get_runtime_context().gcs_address)


def test_ray_that_runs_already_is_used() -> None:
    assert start_ray(2, 1, None) is False


def test_jobs_aside_have_a_worker_of_their_own(digits: Dataset, tmp_path: Path, by_value: None) -> None:
    """Until they are done: what is asked for meanwhile waits for no one, and afterwards all have work again."""
    pool = RayPool(digits, 2)
    try:
        first, second = pool.process_ids()
        gate = tmp_path / "gate"
        wait = pool.aside([Job(WaitFor(str(gate)))] * 2)
        assert [outcome.value() for outcome in pool.run([Job(TellProcess())] * 6)] == [first] * 6
        gate.touch()
        assert [outcome.value() for outcome in wait()] == [second] * 2
        assert {outcome.value() for outcome in pool.run([Job(TellProcess())] * 6)} == {first, second}
    finally:
        pool.close()


@pytest.mark.slow
def test_a_job_aside_that_is_lost_with_its_worker_is_an_error(
    digits: Dataset, tmp_path: Path, by_value: None
) -> None:
    pool = RayPool(digits, 2)
    try:
        pool.process_ids()
        (outcome,) = pool.aside([Job(Die(str(tmp_path), 1))])()
        assert outcome.report is None and "worker lost" in outcome.error
        assert all(not outcome.error for outcome in pool.run([Job(TellProcess())] * 4))
    finally:
        pool.close()
