"""Where work runs: in this process, or on Ray actors. One contract, two pools.

A job names a method of Contender and its arguments. `run` returns one outcome per job, in the order of the
jobs, whatever ran where: so the number of workers changes no table. States stay where they are made; a pool
hands out handles (`put`, `get`), and a job takes handles among its arguments, though not inside lists.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from structnet.data import Dataset
from structnet.errors import one_line
from tournament.cluster import cap_gpu_memory, check_device, check_room
from tournament.contender import Contender, pack
from tournament.metrics import JOBS_RUNNING, JOBS_WAITING, forget, publish

TASK_RETRIES = 2


@dataclass(frozen=True)
class Job:
    """method of Contender, its arguments, and a name for Ray's dashboard.

    states: None for a method that returns a state or none, or how many there are in the list that it returns.
    """

    method: str
    arguments: tuple[Any, ...]
    name: str = ""
    states: int | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of a job.

    report: what the method reported; state: a handle to the state it made, or a list of a handle for each;
    error: why there is no report.
    """

    report: Any
    state: Any
    error: str = ""


class Pool(Protocol):
    """What a tournament needs of its workers.

    device: of every worker. together: whether the forks of a heat train in cohorts; one by one they come to the
    same in more time, which is for benchmarks and tests.
    """

    workers: int
    device: str
    together: bool

    def put(self, value: Any) -> Any:
        """A handle that jobs take as an argument."""

    def get(self, handle: Any) -> Any:
        """The value behind a handle."""

    def run(self, jobs: Sequence[Job], on_done: Callable[[int], None] | None = None) -> list[Outcome]:
        """Runs all jobs; outcomes in their order. on_done is told the index of each job that ends."""

    def close(self) -> None:
        """Gives the workers back."""


def _attempt(contender: Contender, method: str, arguments: Sequence[Any]) -> tuple[tuple[Any, str], Any]:
    """((report, ""), state or states), or ((None, one line), None) for whatever the job raised."""
    try:
        report, state = getattr(contender, method)(*arguments)
    except Exception as error:  # work that fails is an outcome; whoever asked for it decides what that means
        return (None, one_line(error)), None
    return (report, ""), state


class InlinePool:
    """Runs every job in this process, one after the other: no Ray, for notebooks and tests."""

    workers = 1
    together = True

    def __init__(self, data: Dataset, device: str = "cpu") -> None:
        self.device = device
        self._threads = torch.get_num_threads()
        self._contender = Contender(pack(data), device)

    def put(self, value: Any) -> Any:
        return value

    def get(self, handle: Any) -> Any:
        return handle

    def run(self, jobs: Sequence[Job], on_done: Callable[[int], None] | None = None) -> list[Outcome]:
        outcomes = []
        for index, job in enumerate(jobs):
            (report, error), state = _attempt(self._contender, job.method, job.arguments)
            outcomes.append(Outcome(report, state, error))
            if on_done:
                on_done(index)
        return outcomes

    def close(self) -> None:
        torch.set_num_threads(self._threads)


class _RayContender:
    """A Contender that fetches the dataset with its first job, and again after a restart."""

    def __init__(self, device: str, gpus: float, name: str) -> None:
        self._device, self._gpus, self._name = device, gpus, name
        self._contender: Contender | None = None

    def work(
        self, boxed_data: list[Any], states: int | None, method: str, *arguments: Any
    ) -> tuple[Any, ...]:
        """One job, as by `_attempt`, with the states of a list as results of their own.

        The handle to the data comes in a list, not to be fetched every time.
        """
        if self._contender is None:
            import ray

            cap_gpu_memory(self._device, self._gpus)
            self._contender = Contender(ray.get(boxed_data[0]), self._device, self._name)
        report, made = _attempt(self._contender, method, arguments)
        if states is None:
            return report, made
        return report, *(made or [None] * states)


class RayPool:
    """Contender actors on a Ray cluster that is already initialised (see tournament.cluster).

    data: the dataset, or a handle to the packed one. It goes into the object store once; on a CPU the actors of a
    machine read it from there without a copy. An actor that dies is restarted and what it was doing is tried
    again, twice; then the job fails.
    """

    together = True

    def __init__(
        self,
        data: Any,
        workers: int = 2,
        *,
        cpus_per_worker: float = 1,
        gpus_per_worker: float = 0,
        device: str = "cpu",
    ) -> None:
        import ray

        check_device(device, gpus_per_worker)
        check_room(workers, cpus_per_worker, gpus_per_worker)
        self._ray = ray
        self.workers, self.device = workers, device
        self._data = data if isinstance(data, ray.ObjectRef) else ray.put(pack(data))
        namespace = f"structnet-{uuid.uuid4().hex[:8]}"
        actor = ray.remote(_RayContender)
        self._actors: list[Any] = [
            actor.options(
                name=f"contender-{index}",
                namespace=namespace,
                num_cpus=cpus_per_worker,
                num_gpus=gpus_per_worker,
                max_restarts=-1,
                max_task_retries=TASK_RETRIES,
            ).remote(device, gpus_per_worker, f"contender-{index}")
            for index in range(workers)
        ]

    def put(self, value: Any) -> Any:
        return self._ray.put(value)

    def get(self, handle: Any) -> Any:
        return self._ray.get(handle)

    def run(self, jobs: Sequence[Job], on_done: Callable[[int], None] | None = None) -> list[Outcome]:
        waiting = deque(range(len(jobs)))
        outcomes: list[Outcome | None] = [None] * len(jobs)
        running: dict[Any, tuple[int, int, Any]] = {}
        load = [0] * self.workers

        def submit(actor: int) -> None:
            index = waiting.popleft()
            job = jobs[index]
            results = 2 if job.states is None else 1 + job.states
            call = self._actors[actor].work.options(num_returns=results, name=job.name or job.method)
            report, *made = call.remote([self._data], job.states, job.method, *job.arguments)
            running[report] = actor, index, made if job.states is not None else made[0]
            load[actor] += 1

        def fill() -> None:
            # A second job waits at every actor, so that none idles while a result travels; towards the end
            # jobs are kept back, so that the last ones go to whoever is free first.
            while waiting:
                actor = min(range(self.workers), key=lambda number: load[number])
                if load[actor] >= (2 if len(waiting) > self.workers else 1):
                    return
                submit(actor)

        def tell() -> None:
            busy = sum(jobs > 0 for jobs in load)
            publish(JOBS_RUNNING, busy, queue="contenders")
            publish(JOBS_WAITING, len(waiting) + sum(load) - busy, queue="contenders")

        fill()
        tell()
        while running:
            done, _ = self._ray.wait(list(running), num_returns=1)
            actor, index, state = running.pop(done[0])
            load[actor] -= 1
            outcomes[index] = self._collect(done[0], state)
            fill()
            tell()
            if on_done:
                on_done(index)
        return [outcome for outcome in outcomes if outcome is not None]

    def _collect(self, reported: Any, state: Any) -> Outcome:
        try:
            report, error = self._ray.get(reported)
        except self._ray.exceptions.RayError as lost:
            return Outcome(None, None, f"worker lost: {type(lost).__name__}")
        return Outcome(report, state, error)

    def process_ids(self) -> list[int]:
        """The process of each actor."""
        calls = [
            actor.work.options(num_returns=2).remote([self._data], None, "process_id")[0]
            for actor in self._actors
        ]
        return [process for process, _ in self._ray.get(calls)]

    def close(self) -> None:
        forget(queue="contenders")
        for actor in self._actors:
            self._ray.kill(actor)
