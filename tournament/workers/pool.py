"""Where work runs: in this process, or on Ray actors. One contract, two pools.

A job is a piece of work (tournament.workers.work) and the states that it works on. `run` returns one outcome per job,
in the order of the jobs, whatever ran where: so the number of workers changes no table. States stay where they are
made; a pool hands out handles to them.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NewType, Protocol, TypeVar, cast

import torch

from structnet.data.dataset import Dataset
from structnet.data.packing import pack
from structnet.errors import UserError, WorkFailed, one_line
from tournament.workers.cluster import cap_gpu_memory, check_device, check_room
from tournament.workers.contender import Contender, Work
from tournament.workers.dispatch import Dispatch, Sent
from tournament.workers.fork import Arrays
from tournament.workers.metrics import JOBS_RUNNING, JOBS_WAITING, forget, publish
from tournament.workers.work import TellProcess

# Without any result, after which the cluster is asked whether its machines are still there.
SILENT_SECONDS = 5.0
LOST = "a machine is gone, and with it work that others need"
PAUSE_SECONDS = 0.5  # between two calls to an actor that cannot be reached

R = TypeVar("R")
# Where a state lies: the arrays themselves in this process, a reference to an object on Ray.
StateHandle = NewType("StateHandle", object)


class WorkersLost(WorkFailed):
    """A machine is gone, and states that lay on it: what is written is whole, so go on from there."""


@dataclass(frozen=True)
class Job(Generic[R]):
    """Work that reports an R, and the states that it is done on. name: on Ray's dashboard, if not that of the work."""

    work: Work[R]
    states: tuple[StateHandle, ...] = ()
    name: str = ""


@dataclass(frozen=True)
class Outcome(Generic[R]):
    """What came of a job: its report and handles to the states that it made, or the error that it ended with."""

    report: R | None
    states: list[StateHandle]
    error: str = ""

    def value(self) -> R:
        """The report. Raises WorkFailed with the error that the job ended with."""
        if self.error:
            raise WorkFailed(self.error)
        return cast(R, self.report)


# Waits for jobs that were begun aside, and says what came of them.
Aside = Callable[[], list[Outcome[R]]]


class Pool(Protocol):
    """What a tournament needs of its workers.

    device: of every worker. together: whether the forks of a heat train in cohorts; one by one they come to the
    same in more time, which is for benchmarks and tests.
    """

    workers: int
    device: str
    together: bool

    def put(self, state: Arrays) -> StateHandle:
        """A handle to a state, for jobs."""

    def get(self, handle: StateHandle) -> Arrays:
        """The state behind a handle."""

    def run(self, jobs: Sequence[Job[R]], on_done: Callable[[int], None] | None = None) -> list[Outcome[R]]:
        """Runs all jobs; outcomes in their order. on_done is told the index of each job that ends."""

    def aside(self, jobs: Sequence[Job[R]]) -> Aside[R]:
        """Begins jobs beside those of `run`, on a worker that gets no others before they are done.

        No states come of them. Where there is one worker, they begin when they are waited for.
        """

    def close(self) -> None:
        """Gives the workers back."""


def _attempt(
    contender: Contender, work: Work[R], states: Sequence[Arrays]
) -> tuple[R | None, Sequence[Arrays | None], str]:
    """(report, states that were made, ""), or nothing but one line for whatever the work raised."""
    try:
        report, made = contender.do(work, states)
    except Exception as error:  # work that fails is an outcome; whoever asked for it decides what that means
        return None, [None] * work.makes, one_line(error)
    return report, made, ""


def _tell(dispatch: Dispatch) -> None:
    publish(JOBS_RUNNING, dispatch.busy, queue="contenders")
    publish(JOBS_WAITING, dispatch.not_begun, queue="contenders")


class InlinePool:
    """Runs every job in this process, one after the other: no Ray, for notebooks and tests."""

    workers = 1
    together = True

    def __init__(self, data: Dataset, device: str = "cpu") -> None:
        self.device = device
        self._threads = torch.get_num_threads()
        self._contender = Contender(pack(data), device)

    def put(self, state: Arrays) -> StateHandle:
        """The state itself."""
        return StateHandle(state)

    def get(self, handle: StateHandle) -> Arrays:
        """The state itself."""
        return cast(Arrays, handle)

    def run(self, jobs: Sequence[Job[R]], on_done: Callable[[int], None] | None = None) -> list[Outcome[R]]:
        """Runs the jobs in their order; what one raises is its outcome."""
        outcomes = []
        for index, job in enumerate(jobs):
            states = [self.get(handle) for handle in job.states]
            report, made, error = _attempt(self._contender, job.work, states)
            handles = [] if error else [StateHandle(state) for state in made]
            outcomes.append(Outcome(report, handles, error))
            if on_done:
                on_done(index)
        return outcomes

    def aside(self, jobs: Sequence[Job[R]]) -> Aside[R]:
        """Runs the jobs when they are waited for."""
        return lambda: self.run(jobs)

    def close(self) -> None:
        """Lets torch have as many threads again as before."""
        torch.set_num_threads(self._threads)


class _RayContender:
    """A Contender that fetches the dataset with its first job, and again after a restart."""

    def __init__(self, kind: type[Contender], device: str, gpus: float, name: str) -> None:
        self._kind, self._device, self._gpus, self._name = kind, device, gpus, name
        self._contender: Contender | None = None

    def work(self, boxed_data: list[Any], work: Work[Any], *states: Arrays) -> Any:
        """One job: (report, error), and each state that it makes as a result of its own.

        The handle to the data comes in a list, not to be fetched every time.
        """
        if self._contender is None:
            import ray

            cap_gpu_memory(self._device, self._gpus)
            self._contender = self._kind(ray.get(boxed_data[0]), self._device, self._name)
        report, made, error = _attempt(self._contender, work, states)
        return ((report, error), *made) if made else (report, error)


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
        self._aside: list[Any] = []
        self._call_all()

    def put(self, state: Arrays) -> StateHandle:
        """A reference to the state in the object store."""
        return StateHandle(self._ray.put(state))

    def get(self, handle: StateHandle) -> Arrays:
        """The state behind a handle; raises WorkersLost if it lay on a machine that is gone."""
        try:
            return cast(Arrays, self._ray.get(cast(Any, handle)))
        except self._ray.exceptions.ObjectLostError as lost:
            raise WorkersLost(LOST) from lost

    def run(self, jobs: Sequence[Job[R]], on_done: Callable[[int], None] | None = None) -> list[Outcome[R]]:
        """Raises WorkersLost if what a job needs is gone with a machine, WorkFailed if there is room for no worker."""
        dispatch = Dispatch(len(jobs), self.workers)
        outcomes: dict[int, Outcome[R]] = {}
        while len(outcomes) < len(jobs):
            away = {*self._away.values(), *self._kept_aside()}
            while turn := dispatch.next(away):
                actor, index = turn
                report, made = self._send(actor, jobs[index])
                dispatch.sent[report] = Sent(actor, index, made)
            _tell(dispatch)
            done, _ = self._ray.wait([*self._away, *dispatch.sent], num_returns=1, timeout=SILENT_SECONDS)
            if not done:
                self._check_room()
            elif done[0] in self._away:
                self._hear(done[0])
            elif ended := self._take(done[0], dispatch):
                index, outcome = ended
                outcomes[index] = outcome
                if on_done:
                    on_done(index)
        _tell(dispatch)
        return [outcomes[index] for index in range(len(jobs))]

    def aside(self, jobs: Sequence[Job[R]]) -> Aside[R]:
        """Sends the jobs to the last worker at once, one after the other; a job that is lost with it is an error."""
        if self.workers == 1:
            return lambda: self.run(jobs)
        self._aside = [self._send(self.workers - 1, job)[0] for job in jobs]

        def wait() -> list[Outcome[R]]:
            reports, self._aside = self._aside, []
            found = [self._collect(report) for report in reports]
            return [Outcome(report, [], error) for report, error, _ in found]

        return wait

    def _kept_aside(self) -> list[int]:
        """The worker that still has jobs of its own, if one has."""
        _, left = (
            self._ray.wait(self._aside, num_returns=len(self._aside), timeout=0) if self._aside else ([], [])
        )
        return [self.workers - 1] if left else []

    def _take(self, reported: Any, dispatch: Dispatch) -> tuple[int, Outcome[Any]] | None:
        """The job of a report and what came of it; None if its actor died and it is tried again."""
        sent = dispatch.sent[reported]
        report, error, alive = self._collect(reported)
        if alive:
            dispatch.end(reported)
            return sent.job, Outcome(report, [] if error else sent.made, error)
        given_up = dispatch.lose(sent.worker)
        self._call(sent.worker)
        return None if given_up is None else (given_up, Outcome(None, [], error))

    def _send(self, actor: int, job: Job[R]) -> tuple[Any, list[StateHandle]]:
        """References to the report and to the states that will come of a job."""
        makes = job.work.makes
        call = self._actors[actor].work.options(num_returns=1 + makes, name=job.name or job.work.name)
        results = call.remote([self._data], job.work, *job.states)
        report, *made = results if makes else [results]
        return report, made

    def _collect(self, reported: Any) -> tuple[Any, str, bool]:
        """The report of a job, the error that it ended with, and whether its actor lives. Raises WorkersLost."""
        errors = self._ray.exceptions
        gone = errors.RayActorError, errors.WorkerCrashedError, errors.OutOfMemoryError, errors.NodeDiedError
        try:
            report, error = self._ray.get(reported)
        except gone as lost:
            return None, f"worker lost: {type(lost).__name__}", False
        except errors.ObjectLostError as lost:
            raise WorkersLost(LOST) from lost
        except errors.RayError as failed:
            return None, f"worker failed: {type(failed).__name__}", True
        return report, error, True

    def _call(self, actor: int) -> None:
        """Asks an actor to answer when it is there; until then it gets no jobs."""
        self._away[self._ask(actor)] = actor

    def _ask(self, actor: int) -> Any:
        """A handle to the process id, of an actor that is restarted too once it is there."""
        work = TellProcess()
        call = self._actors[actor].work.options(name=work.name, max_task_retries=-1)
        return call.remote([self._data], work)

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
        """Ends the actors, and what is published of their jobs."""
        forget(queue="contenders")
        for actor in self._actors:
            self._ray.kill(actor)
