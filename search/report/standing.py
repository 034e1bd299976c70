"""How an experiment stands, from its rows in `experiments` alone: whether it is alive, how far it is, what to do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from search.session.program import program

# Ten heartbeats (search.session.experiment): whoever misses so many has died, or cannot write.
SILENT_SECONDS = 300.0


@dataclass(frozen=True)
class Standing:
    """An experiment as its rows in `experiments` tell it.

    main: the row of the command or, where there are only trials, as in `grow --repeats`, the one written last.
    trials: the rows of its trials. heartbeat: the last of any row. rows may have more columns than the table.
    """

    name: str
    status: str
    main: dict[str, Any]
    trials: list[dict[str, Any]]
    heartbeat: datetime | None

    @classmethod
    def of(cls, name: str, rows: Sequence[dict[str, Any]]) -> Standing:
        """rows: all of this experiment, at least one."""
        beats = [row["heartbeat_at"] for row in rows if row["heartbeat_at"]]
        trials = [row for row in rows if row["trial"]]
        whole = [row for row in rows if not row["trial"]]
        main = whole[0] if whole else max(rows, key=lambda row: str(row["heartbeat_at"] or ""))
        status = main["status"] if whole else _status_of(trials)
        return cls(name, status or "unknown", main, trials, max(beats, default=None))

    @property
    def config(self) -> dict[str, Any]:
        """The options of the command."""
        return dict(json.loads(self.main["config"] or "{}"))

    @property
    def seconds(self) -> float:
        """Of work, over all trials of a command that is nothing but trials."""
        return sum(_seconds_of(row) for row in (self.trials if self.main["trial"] else [self.main]))

    def silence(self, now: datetime) -> float:
        """Seconds without a heartbeat of what should be running, if they are too many; else 0."""
        return silence_of(self.status, self.heartbeat, now)

    def advice(self, now: datetime) -> str:
        """What to do about an experiment that did not end well, in one line; nothing for others."""
        again = f"go on with {program()} {self.main['command']} … --name {self.name} --resume"
        if silence := self.silence(now):
            return f"silent for {span(silence)}: it may have died; {again}"
        return again if self.status in ("failed", "interrupted") else ""


def unreadable(name: str) -> str:
    """What is wrong with an experiment whose rows in `experiments` are there, and none of them can be read."""
    return (
        f"experiment is {name!r}, but its rows in experiments are damaged: run it again under another --name"
    )


def silence_of(status: str, heartbeat: datetime | None, now: datetime) -> float:
    """Seconds since the last heartbeat of what should be running, if they are too many; else 0."""
    if status != "running" or heartbeat is None:
        return 0.0
    age = (now - heartbeat).total_seconds()
    return age if age > SILENT_SECONDS else 0.0


def _seconds_of(row: dict[str, Any]) -> float:
    """Without the column, as in older tables, the time it was there."""
    if row["seconds"] is not None:
        return float(row["seconds"])
    first, last = row["started_at"], row["finished_at"] or row["heartbeat_at"]
    return (last - first).total_seconds() if first and last else 0.0


def _status_of(trials: Sequence[dict[str, Any]]) -> str:
    """Of a command that is nothing but trials, one after the other: `repeats` says how many there will be."""
    statuses = {row["status"] for row in trials}
    planned = json.loads(trials[0]["config"] or "{}").get("repeats") or 1
    if statuses == {"finished"} and len(trials) < planned:
        return "running"
    return next((one for one in ("running", "failed", "interrupted") if one in statuses), "finished")


def progress(one: Standing, last_round: int | None, networks: int, tasks: int) -> str:
    """How far it is: what its command counts."""
    if tasks:
        return f"{tasks:,} tasks"
    if networks:
        return f"{networks:,} networks"
    config, texts = one.config, []
    if one.trials and not one.main["trial"]:
        ended = sum(row["status"] != "running" for row in one.trials)
        return f"{ended:,} trials"
    if (config.get("repeats") or 1) > 1:
        texts.append(f"rng_seed {len(one.trials)} of {config['repeats']}")
    if last_round is not None:
        limit = config.get("rounds") if one.status == "running" and not config.get("indefinite") else None
        texts.append(f"round {last_round}" + (f" of {limit}" if limit else ""))
    return ", ".join(texts)


def span(seconds: float) -> str:
    """A stretch of time in its two largest units."""
    whole = max(0, round(seconds))
    for unit, size, below, parts in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // parts} {below}"
    return f"{whole} s"
