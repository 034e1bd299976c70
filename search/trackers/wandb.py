"""Weights & Biases: offline in the results, unless WANDB_MODE says otherwise.

Its steps only ever rise, so every table has one of its own, `TABLE/step`, and its own count of points is the other.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

# What stays on this machine is no matter for its makers, also where it goes wrong.
if os.environ.setdefault("WANDB_MODE", "offline") == "offline":
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")

import wandb

from search.trackers.following import TABLES
from search.trackers.registry import PROJECT, Begun, Point


class Adapter:
    """See search.trackers.registry."""

    def __init__(self, folder: Path, experiment: str) -> None:
        self.folder, self.experiment = os.environ.get("WANDB_DIR", str(folder)), experiment
        self.runs: dict[str, wandb.Run] = {}
        self.points: dict[str, int] = {}
        # Nothing of what it finds out by itself: code, machine, what is printed.
        self.settings = wandb.Settings(
            silent=True,
            console="off",
            disable_git=True,
            disable_code=True,
            disable_job_creation=True,
            x_disable_stats=True,
        )

    def begin(self, run: str, params: Mapping[str, Any], before: Begun | None) -> str:
        begun = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            group=self.experiment,
            name=run,
            id=before.id if before else uuid4().hex[:16],
            dir=self.folder,
            resume="allow",
            reinit="create_new",
            config=dict(params),
            settings=self.settings,
        )
        for table in TABLES:
            begun.define_metric(f"{table}/step")
            begun.define_metric(f"{table}/*", step_metric=f"{table}/step")
        self.runs[run], self.points[run] = begun, before.points if before else 0
        return str(begun.id)

    def log(self, run: str, points: Sequence[Point]) -> None:
        for point in points:
            self.runs[run].log({**point.named(), f"{point.table}/step": point.step}, step=self.points[run])
            self.points[run] += 1

    def end(self, run: str, status: str) -> None:
        self.runs.pop(run).finish(exit_code=0 if status == "finished" else 1)
