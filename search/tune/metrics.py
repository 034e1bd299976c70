"""How a search goes, published for Ray to export (tournament.workers.metrics)."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tournament.workers.metrics import (
    JOBS_RUNNING,
    JOBS_WAITING,
    NETWORKS_PER_SECOND,
    NETWORKS_TRAINED,
    TRIALS_FAILED,
    forget,
    publish,
)

QUEUE = "trials"


class SearchMetrics:
    """Of one run of trials. trials: how many there will be."""

    def __init__(self, experiment: str, trials: int) -> None:
        self.experiment, self.trials = experiment, trials
        self.started = time.monotonic()
        self.networks: dict[str, int] = {}
        self.trained = 0

    def reported(self, report: dict[str, Any]) -> None:
        """Takes in the report of a trial. One that is tried again trains its networks again."""
        if "networks" not in report:
            return
        new = report["networks"] - self.networks.get(report["name"], 0)
        self.networks[report["name"]] = report["networks"]
        self.trained += max(0, new)
        speed = self.trained / max(1e-9, time.monotonic() - self.started)
        publish(NETWORKS_TRAINED, new, experiment=self.experiment)
        publish(NETWORKS_PER_SECOND, speed, experiment=self.experiment)

    def queued(self, statuses: Sequence[str]) -> None:
        """statuses: in the words of Tune, of the trials that it has made so far."""
        counts = Counter(statuses)
        begun = len(statuses) - counts["PENDING"] - counts["PAUSED"]
        publish(JOBS_RUNNING, counts["RUNNING"], queue=QUEUE)
        publish(JOBS_WAITING, self.trials - begun, queue=QUEUE)

    def failed(self, outcome: str) -> None:
        """outcome: retried or given_up."""
        publish(TRIALS_FAILED, 1, experiment=self.experiment, outcome=outcome)

    def ended(self) -> None:
        """The run is over, well or badly."""
        forget(experiment=self.experiment)
        forget(queue=QUEUE)
