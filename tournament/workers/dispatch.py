"""Which worker does which of the jobs of one run: kept here, free of Ray, and sent by tournament.workers.pool."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection
from typing import Any, NamedTuple

TASK_RETRIES = 2


class Sent(NamedTuple):
    """A job by its index, the worker that it was sent to, and references to the states that it will make."""

    worker: int
    job: int
    made: list[Any]


class Dispatch:
    """The jobs of a run that wait, and those that were sent: reference to a report -> job, in the order of sending."""

    def __init__(self, jobs: int, workers: int) -> None:
        self.waiting = deque(range(jobs))
        self.sent: dict[Any, Sent] = {}
        self._load, self._tries = [0] * workers, Counter[int]()

    @property
    def busy(self) -> int:
        """How many workers are at a job."""
        return sum(jobs > 0 for jobs in self._load)

    @property
    def not_begun(self) -> int:
        """How many jobs no worker is at."""
        return len(self.waiting) + sum(self._load) - self.busy

    def next(self, away: Collection[int]) -> tuple[int, int] | None:
        """(worker, job) that is to be sent now and noted in `sent`; None while nobody should get one.

        A second job waits at every worker, so that none idles while a result travels; towards the end jobs are
        kept back, so that the last ones go to whoever is free first. A worker that is away gets none.
        """
        here = [worker for worker in range(len(self._load)) if worker not in away]
        if not self.waiting or not here:
            return None
        worker = min(here, key=lambda number: self._load[number])
        if self._load[worker] >= (2 if len(self.waiting) > len(here) else 1):
            return None
        self._load[worker] += 1
        return worker, self.waiting.popleft()

    def end(self, report: Any) -> None:
        """A job has ended, well or badly, and its worker lives."""
        self._load[self.sent.pop(report).worker] -= 1

    def lose(self, worker: int) -> int | None:
        """A worker has died: its jobs wait again. Returns the one that it was at if that is not to be tried again."""
        reports = [report for report, sent in self.sent.items() if sent.worker == worker]
        jobs = [self.sent.pop(report).job for report in reports]
        self.waiting.extendleft(reversed(jobs))
        self._load[worker] = 0
        guilty = jobs[0]
        self._tries[guilty] += 1
        if self._tries[guilty] <= TASK_RETRIES:
            return None
        self.waiting.remove(guilty)
        return guilty
