"""An experiment: its name, its row in the `experiments` table, and what a resume may change."""

from __future__ import annotations

import json
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from search.options import WHERE_NOT_WHAT, CommonOptions
from structnet.errors import UserError
from structnet.tables import TableWriter, check_name, list_parts, read_table

LIBRARIES = ("structnet", "torch", "numpy", "ray", "pyarrow")


def versions() -> dict[str, str]:
    """What the experiment ran with."""
    return {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES}


def default_name(command: str, about: str) -> str:
    """A name for an experiment of a command about a dataset, or whatever it is about, that begins now."""
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    plain = "".join(letter if letter.isalnum() else "-" for letter in about).strip("-")[-40:]
    return f"{command}-{plain}-{stamp}"


class Experiment:
    """Writes the rows of one experiment: one per trial, the empty trial for a plain run."""

    def __init__(self, command: str, options: CommonOptions, config: dict[str, Any]) -> None:
        self.name = check_name(options.name or default_name(command, options.dataset))
        self.command, self.options, self.config = command, options, config
        self.writer = TableWriter(options.results, self.name)
        self.rows: dict[str, dict[str, Any]] = {}
        self._check_against_what_is_there()

    @property
    def is_there(self) -> bool:
        """Whether tables of this name exist."""
        return bool(list_parts(self.options.results, "experiments", self.name))

    def finished(self, trial: str) -> dict[str, Any] | None:
        """The row of a trial that an earlier run ended, or None."""
        row = self.rows.get(trial)
        return row if row and row["status"] == "finished" else None

    def start(self, trial: str, rng_seed: int) -> None:
        """Marks a trial as running; its first start is remembered over resumes."""
        now = datetime.now(UTC)
        before = self.rows.get(trial, {})
        self.rows[trial] = {
            "trial": trial,
            "command": self.command,
            "dataset": self.options.dataset,
            "rng_seed": rng_seed,
            "status": "running",
            "started_at": before.get("started_at") or now,
            "heartbeat_at": now,
            "config": json.dumps(self.config, sort_keys=True),
            "versions": json.dumps(versions(), sort_keys=True),
        }
        self._write(trial)

    def update(self, trial: str, **columns: Any) -> None:
        """Writes new values and a heartbeat."""
        self.rows[trial] |= {"heartbeat_at": datetime.now(UTC), **columns}
        self._write(trial)

    def end(self, trial: str, status: str, **columns: Any) -> None:
        """Marks a trial as finished, failed or interrupted."""
        self.update(trial, status=status, finished_at=datetime.now(UTC), **columns)

    def _write(self, trial: str) -> None:
        self.writer.write("experiments", trial or "run", [self.rows[trial]])

    def _check_against_what_is_there(self) -> None:
        if not self.is_there:
            return
        if not self.options.resume:
            raise UserError(
                f"experiment '{self.name}' already exists in '{self.options.results}': go on with --resume, or "
                "choose another --name"
            )
        rows = read_table(self.options.results, "experiments", self.name).to_pylist()
        for row in rows:
            row.pop("experiment")
            self.rows[row["trial"]] = row
        before = json.loads(rows[0]["config"])
        mine = json.loads(json.dumps(self.config))
        changed = sorted(
            key
            for key in before.keys() | mine.keys()
            if before.get(key) != mine.get(key) and key not in WHERE_NOT_WHAT
        )
        if changed:
            shown = ", ".join(f"{key} was {before.get(key)!r}, is {mine.get(key)!r}" for key in changed)
            raise UserError(
                f"experiment '{self.name}' was started with other options ({shown}): choose another --name"
            )
