"""Where work runs: in this process, or on Ray actors. One contract, two pools.

A job names a method of Contender and its arguments. `run` returns one outcome per job, in the order of the
jobs, whatever ran where: so the number of workers changes no table. States stay where they are made; a pool
hands out handles (`put`, `get`), and a job takes handles among its arguments, though not inside lists.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from structnet.data.datasets import Dataset
from structnet.errors import UserError, WorkFailed, one_line
from tournament.workers.cluster import cap_gpu_memory, check_device, check_room
from tournament.workers.contender import Contender, pack
from tournament.workers.metrics import JOBS_RUNNING, JOBS_WAITING, forget, publish

TASK_RETRIES = 2
# Without any result, after which the cluster is asked whether its machines are still there.
SILENT_SECONDS = 5.0
LOST = "a machine is gone, and with it work that others need"
PAUSE_SECONDS = 0.5  # between two calls to an actor that cannot be reached


class WorkersLost(WorkFailed):
    """A machine is gone, and states that lay on it: what is written is whole, so go on from there."""


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

    def __init__(self, kind: type[Contender], device: str, gpus: float, name: str) -> None:
        self._kind, self._device, self._gpus, self._name = kind, device, gpus, name
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
            self._contender = self._kind(ray.get(boxed_data[0]), self._device, self._name)
        report, made = _attempt(self._contender, method, arguments)
        if states is None:
            return report, made
        return report, *(made or [None] * states)


class RayPool:
    """Contender actors on a Ray cluster that is already initialised (see tournament.workers.cluster).

    data: the dataset, or a handle to the packed one. It goes into the object store once; on a CPU the actors of a
    machine read it from there without a copy. kind: of the contenders; a benchmark has its own.

    An actor that dies is restarted, where there is room; until then the others do its jobs. A job that was being done
    when its actor died is tried again, twice; then it fails.
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
        kind: type[Contender] = Contender,
    ) -> None:
        import ray

        check_device(device, gpus_per_worker)
        check_room(workers, cpus_per_worker, gpus_per_worker)
        self._ray, self._share = ray, (cpus_per_worker, gpus_per_worker)
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
                max_task_retries=0,  # Ray's own are used up before it knows that a machine is gone
            ).remote(kind, device, gpus_per_worker, f"contender-{index}")
            for index in range(workers)
        ]
        self._call_all()

    def put(self, value: Any) -> Any:
        return self._ray.put(value)

    def get(self, handle: Any) -> Any:
        """The value behind a handle; raises WorkersLost if it lay on a machine that is gone."""
        try:
            return self._ray.get(handle)
        except self._ray.exceptions.ObjectLostError as lost:
            raise WorkersLost(LOST) from lost

    def run(self, jobs: Sequence[Job], on_done: Callable[[int], None] | None = None) -> list[Outcome]:
        """Raises WorkersLost if what a job needs is gone with a machine, WorkFailed if there is room for no worker."""
        waiting = deque(range(len(jobs)))
        outcomes: dict[int, Outcome] = {}
        running: dict[Any, tuple[int, int, Any]] = {}  # in the order in which they were sent
        load, tries = [0] * self.workers, Counter[int]()

        def submit(actor: int) -> None:
            index = waiting.popleft()
            report, state = self._send(actor, jobs[index])
            running[report] = actor, index, state
            load[actor] += 1

        def fill() -> None:
            # A second job waits at every actor, so that none idles while a result travels; towards the end
            # jobs are kept back, so that the last ones go to whoever is free first.
            away = set(self._away.values())
            here = [actor for actor in range(self.workers) if actor not in away]
            while waiting and here:
                actor = min(here, key=lambda number: load[number])
                if load[actor] >= (2 if len(waiting) > len(here) else 1):
                    return
                submit(actor)

        def tell() -> None:
            busy = sum(jobs > 0 for jobs in load)
            publish(JOBS_RUNNING, busy, queue="contenders")
            publish(JOBS_WAITING, len(waiting) + sum(load) - busy, queue="contenders")

        def take_back(actor: int) -> int:
            """The jobs of an actor that died wait again; which of them it was at."""
            its = [report for report, (owner, _, _) in running.items() if owner == actor]
            indices = [running.pop(report)[1] for report in its]
            waiting.extendleft(reversed(indices))
            load[actor] = 0
            return indices[0]

        while len(outcomes) < len(jobs):
            fill()
            tell()
            done, _ = self._ray.wait([*self._away, *running], num_returns=1, timeout=SILENT_SECONDS)
            if not done:
                self._check_room()
                continue
            if done[0] in self._away:
                self._hear(done[0])
                continue
            actor, index, state = running[done[0]]
            outcome, alive = self._collect(done[0], state)
            if alive:
                del running[done[0]]
                load[actor] -= 1
            else:
                index = take_back(actor)
                self._call(actor)
                tries[index] += 1
                if tries[index] <= TASK_RETRIES:
                    continue
                waiting.remove(index)
            outcomes[index] = outcome
            if on_done:
                on_done(index)
        tell()
        return [outcomes[index] for index in range(len(jobs))]

    def _send(self, actor: int, job: Job) -> tuple[Any, Any]:
        """Handles to the report and to the state or states that will come of it."""
        results = 2 if job.states is None else 1 + job.states
        call = self._actors[actor].work.options(num_returns=results, name=job.name or job.method)
        report, *made = call.remote([self._data], job.states, job.method, *job.arguments)
        return report, made if job.states is not None else made[0]

    def _collect(self, reported: Any, state: Any) -> tuple[Outcome, bool]:
        """What came of a job, and whether its actor lives. Raises WorkersLost."""
        errors = self._ray.exceptions
        gone = errors.RayActorError, errors.WorkerCrashedError, errors.OutOfMemoryError, errors.NodeDiedError
        try:
            report, error = self._ray.get(reported)
        except gone as lost:
            return Outcome(None, None, f"worker lost: {type(lost).__name__}"), False
        except errors.ObjectLostError as lost:
            raise WorkersLost(LOST) from lost
        except errors.RayError as failed:
            return Outcome(None, None, f"worker failed: {type(failed).__name__}"), True
        return Outcome(report, state, error), True

    def _call(self, actor: int) -> None:
        """Asks an actor to answer when it is there; until then it gets no jobs."""
        self._away[self._ask(actor)] = actor

    def _ask(self, actor: int) -> Any:
        """A handle to the process id, of an actor that is restarted too once it is there."""
        call = self._actors[actor].work.options(num_returns=2, name="process_id", max_task_retries=-1)
        return call.remote([self._data], None, "process_id")[0]

    def _call_all(self) -> None:
        self._away: dict[Any, int] = {}
        for actor in range(self.workers):
            self._call(actor)

    def _hear(self, answer: Any) -> None:
        """Takes the answer of an actor; if it cannot be reached yet, it is asked again."""
        actor = self._away.pop(answer)
        try:
            self._ray.get(answer)
        except self._ray.exceptions.RayActorError:
            time.sleep(PAUSE_SECONDS)
            self._call(actor)

    def _check_room(self) -> None:
        """Raises WorkFailed if no machine has room for a worker, WorkersLost if one that has jobs cannot be there."""
        here = self.workers - len(self._away)
        try:
            check_room(max(1, here), *self._share)
        except UserError as error:
            if not here:
                raise WorkFailed(f"all workers are lost, and {error}") from error
            self._call_all()
            raise WorkersLost(LOST) from error

    def process_ids(self) -> list[int]:
        """The process of each actor."""
        answers = self._ray.get([self._ask(actor) for actor in range(self.workers)])
        return [process for process, _ in answers]

    def close(self) -> None:
        forget(queue="contenders")
        for actor in self._actors:
            self._ray.kill(actor)
