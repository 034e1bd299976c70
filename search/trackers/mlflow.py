"""MLflow: where MLFLOW_TRACKING_URI says, else an SQLite store in the results.

Every run of ours is one of MLflow's, in its experiment `structnet`, or the one that MLFLOW_EXPERIMENT_NAME names.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# It tells its makers which of its functions are called, unless told not to; the environment of the user goes first.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from mlflow.entities import Metric, Param
from mlflow.tracking import MlflowClient

from search.trackers.notes import alone
from search.trackers.registry import PROJECT, Begun, Point

# Of one request, by the limits of MLflow.
METRICS, PARAMS, PARAM_LETTERS = 1000, 100, 6000
STATUS = {"finished": "FINISHED", "failed": "FAILED"}


class Adapter:
    """See search.trackers.registry."""

    def __init__(self, folder: Path, experiment: str) -> None:
        self.experiment = experiment
        self.ids: dict[str, str] = {}
        told = os.environ.get("MLFLOW_TRACKING_URI")
        if told:
            self.client = MlflowClient(told)
            self.project = self._project(None)
        else:
            # Two at once would make its tables twice.
            with alone(folder / "lock"):
                self.client = MlflowClient(f"sqlite:///{folder.resolve()}/mlflow.db")
                self.project = self._project(str(folder.resolve() / "artifacts"))

    def begin(self, run: str, params: Mapping[str, Any], before: Begun | None) -> str:
        if before is not None:
            self.client.update_run(before.id, status="RUNNING")
            self.ids[run] = before.id
            return before.id
        tags = {"structnet.experiment": self.experiment}
        begun = self.client.create_run(self.project, run_name=run, tags=tags)
        self.ids[run] = begun.info.run_id
        told = [Param(name, str(value)[:PARAM_LETTERS]) for name, value in params.items()]
        for start in range(0, len(told), PARAMS):
            self.client.log_batch(self.ids[run], params=told[start : start + PARAMS])
        return self.ids[run]

    def log(self, run: str, points: Sequence[Point]) -> None:
        now = int(time.time() * 1000)
        metrics = [
            Metric(name, value, now, point.step) for point in points for name, value in point.named().items()
        ]
        for start in range(0, len(metrics), METRICS):
            self.client.log_batch(self.ids[run], metrics=metrics[start : start + METRICS])

    def end(self, run: str, status: str) -> None:
        self.client.set_terminated(self.ids.pop(run), STATUS.get(status, "KILLED"))

    def _project(self, artifacts: str | None) -> str:
        """MLflow's id of the project, which is made if it is not there. artifacts: where its files would go."""
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        there = self.client.get_experiment_by_name(name)
        if there is not None:
            return str(there.experiment_id)
        return str(self.client.create_experiment(name, artifact_location=artifacts))
