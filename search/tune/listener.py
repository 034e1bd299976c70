"""What Tune tells of its trials while a run lasts, and what it forgets of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from ray import tune
from ray.tune.experiment import Trial

from search.tune.metrics import SearchMetrics
from structnet.errors import WorkFailed

_current: ContextVar[Listener] = ContextVar("listener")


def current_listener() -> Listener:
    """The one that listens to the run that goes on in this process; raises LookupError where none does."""
    return _current.get()


class Listener(tune.Callback):
    """Passes the reports of one run on. Trials are known by their folders.

    on_report: takes what a stretch reported. check_store: raises WorkFailed if there is nowhere to write to, which no
    retry of a trial helps. Both may end the run; `failure` is for what, as Tune itself would make a traceback of it.
    indices: after the run, of the config of each trial. A result of Tune has the config of another trial, or none, if
    its trial never reported. never_begun: those that were given up before their process had taken them up.

    Tune pickles its callbacks with its state, and uses those again in a restored run. What is alive here cannot be
    stored, and is not meant to be: a pickle of a listener becomes the one that listens where it is opened.
    """

    def __init__(
        self,
        on_report: Callable[[dict[str, Any]], None],
        metrics: SearchMetrics,
        check_store: Callable[[], None],
    ) -> None:
        self.on_report, self.metrics, self.check_store = on_report, metrics, check_store
        self.failure: WorkFailed | None = None
        self.indices: dict[str | None, int] = {}
        self.never_begun: set[str | None] = set()
        self._begun: set[str | None] = set()

    def __reduce__(self) -> tuple[Callable[[], Listener], tuple[()]]:
        return current_listener, ()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listens to all runs inside."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)
            self.metrics.ended()

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Passes the report of a stretch on."""
        if "report" in result:
            self.metrics.reported(result["report"])
            self._or_end(lambda: self.on_report(result["report"]))

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Notes that a process has taken the trial up."""
        self._count(trials, trial, Trial.RUNNING)
        self._begun.add(trial.path)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Counts what still runs and waits."""
        self._count(trials, trial, Trial.TERMINATED)

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Notes that the trial has to be taken up anew, and asks whether there is anywhere to write to."""
        self._count(trials, trial, Trial.PENDING)
        self._begun.discard(trial.path)
        self.metrics.failed("retried")
        self._or_end(self.check_store)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Notes a trial that was given up, and asks whether there is anywhere to write to."""
        self._count(trials, trial, Trial.ERROR)
        if trial.path not in self._begun:
            self.never_begun.add(trial.path)
        self.metrics.failed("given_up")
        self._or_end(self.check_store)

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        """Notes which trial had which config."""
        self.indices = {trial.path: trial.config["index"] for trial in trials}

    def _or_end(self, call: Callable[[], None]) -> None:
        """Makes a call that may end the run."""
        try:
            call()
        except WorkFailed as error:
            self.failure = error
            raise

    def _count(self, trials: list[Trial], changed: Trial, status: str) -> None:
        """status: of the one that changes, which Tune notes only after it has told us."""
        self.metrics.queued([status if trial is changed else trial.status for trial in trials])
