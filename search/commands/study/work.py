"""StudyWork: one task of a study, as one trial. Free of Ray."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from search.commands.study.study import Measurement, Place, Row, Study, Task
from structnet.storage.tables import TableWriter, read_table
from structnet.trials.work import Shared

TABLE = "measurements"


class StudyWork:
    """Does one task in one stretch and writes what it measured. A task that was written is not done again.

    config: name, arm, rng_seed, options of the task.
    """

    def __init__(self, config: dict[str, Any], shared: Shared, study: Study) -> None:
        self.task = Task(config["arm"], config["rng_seed"], config["options"])
        self.name, self.shared, self.study = config["name"], shared, study
        self.report: dict[str, Any] | None = None

    def step(self) -> dict[str, Any]:
        """Does the task, once; its name and seconds."""
        if self.report is None:
            started = time.perf_counter()
            place = Place(self.shared.results, self.shared.experiment, self.name)
            found = self.study.measure(self.task, self.shared.dataset(), place)
            seconds = time.perf_counter() - started
            rows = rows_of(self.name, self.task, [*found, Measurement("seconds", seconds)])
            TableWriter(self.shared.results, self.shared.experiment).write(TABLE, self.name, rows)
            self.report = {"done": True, "name": self.name, "seconds": seconds}
        return self.report

    def save(self, folder: Path) -> None:
        """Writes what was reported."""
        (folder / "report.json").write_text(json.dumps(self.report))

    def load(self, folder: Path) -> None:
        """A task that was reported is done."""
        self.report = json.loads((folder / "report.json").read_text())


def rows_of(trial: str, task: Task, found: list[Measurement]) -> list[dict[str, Any]]:
    """Rows of the table `measurements`."""
    return [
        {
            "trial": trial,
            "quantity": one.quantity,
            "item": one.item,
            "arm": task.arm,
            "rng_seed": task.rng_seed,
            "value": float(one.value),
        }
        for one in found
    ]


def measured_rows(results: str, experiment: str) -> list[Row]:
    """All measurements of a study."""
    return rows_in_order(read_table(results, TABLE, experiment).to_pylist())


def rows_in_order(rows: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Rows of the table by trial, so that a judge sees the same whatever ran first."""
    ordered = sorted(rows, key=lambda row: (row["trial"], row["quantity"], row["item"]))
    return [Row(*(row[name] for name in Row._fields)) for row in ordered]


def summary_sql(experiment: str) -> str:
    """A query for every quantity of every arm."""
    columns = "arm, quantity, avg(value) as mean, count(*) as n"
    return f"select {columns} from measurements where experiment = '{experiment}' group by all order by all"
