"""An experiment: its name, its row in the `experiments` table, and what a resume may change."""

from __future__ import annotations

import json
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import count
from typing import TYPE_CHECKING, Any

from search.options import CommonOptions, changeable
from search.report.records import Records
from search.session.console import outcome
from search.trackers.process import Following
from structnet.data.fingerprints import changes, data_fingerprint
from structnet.data.tables import input_names
from structnet.errors import UserError
from structnet.storage.claims import Claim, NameTaken, claim_name
from structnet.storage.tables import TableWriter, check_name, list_parts, open_folder, read_table

if TYPE_CHECKING:
    from structnet.data.dataset import Dataset

LIBRARIES = ("structnet", "torch", "numpy", "ray", "pyarrow")
HEARTBEAT_SECONDS = 30.0
JSON_COLUMNS = ("config", "versions", "data_fingerprint")


def versions() -> dict[str, str]:
    """What the experiment ran with."""
    return {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES}


def default_name(command: str, about: str) -> str:
    """A name for an experiment of a command about a dataset, or whatever it is about, that begins now."""
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    plain = "".join(letter if letter.isalnum() else "-" for letter in about).strip("-")[-40:]
    return f"{command}-{plain}-{stamp}"


class Experiment:
    """Writes the rows of one experiment: one per trial, the empty trial for a plain run.

    `seconds` of a trial counts from its start, on over resumes, unless whoever ends it knows better. No other process
    can have the name as long as this is there (structnet.storage.claims).

    data: what it learns from, whose fingerprint is written, and must be the same when it is resumed. joins: whether
    this writes to what another process has begun, and has the name of.
    """

    def __init__(
        self,
        command: str,
        options: CommonOptions,
        config: dict[str, Any] | None = None,
        *,
        data: Dataset | None = None,
        joins: bool = False,
    ) -> None:
        self.name = check_name(options.name or default_name(command, options.dataset))
        self.command, self.options = command, options
        self.config = options.model_dump(mode="json") if config is None else config
        self.writer = TableWriter(options.results, self.name)
        self._claim = None if joins else self._claimed()
        self.data_fingerprint = None if data is None else data_fingerprint(data)
        self.input_names = None if data is None else input_names(data.preprocessing)
        self.rows: dict[str, dict[str, Any]] = {}
        self._started: dict[str, float] = {}
        # Heartbeats come from a thread of their own: an older row must not replace a newer one.
        self._writing = threading.Lock()
        self._check_against_what_is_there()
        # They read the tables, in which is what others write who join.
        followed = () if joins else dict.fromkeys(options.tracker)
        self._trackers = [Following(options.results, self.name, tracker) for tracker in followed]
        outcome(self.told)

    @property
    def is_there(self) -> bool:
        """Whether tables of this name exist."""
        return bool(list_parts(self.options.results, "experiments", self.name))

    def finished(self, trial: str) -> dict[str, Any] | None:
        """The row of a trial that an earlier run ended, or None."""
        row = self.rows.get(trial)
        return row if row and row["status"] == "finished" else None

    def told(self) -> dict[str, Any]:
        """What `--json` prints of it: where everything is, and its rows as they are written."""
        results = self.options.results
        records = Records(results, self.name)
        rows = records.runs
        for row in rows:
            row |= {name: json.loads(row[name]) for name in JSON_COLUMNS if row[name]}
        files, root = open_folder(results)
        report = f"reports/{self.name}/index.html"
        return {
            "experiment": self.name,
            "status": records.status or None,
            "error": next((row["error"] for row in rows if row["error"]), None),
            "results": results,
            "tables": f"{results}/tables",
            "rows": rows,
            "snapshot": next((row["snapshot"] for row in rows if row["snapshot"]), None),
            "report": f"{results}/{report}" if files.exists(f"{root}/{report}") else None,
        }

    def start(self, trial: str, rng_seed: int) -> None:
        """Marks a trial as running; its first start is remembered over resumes."""
        before = self.rows.get(trial, {})
        self._started[trial] = time.monotonic() - (before.get("seconds") or 0.0)
        self.rows[trial] = {
            "trial": trial,
            "command": self.command,
            "dataset": self.options.dataset,
            "rng_seed": rng_seed,
            "status": "running",
            "started_at": before.get("started_at") or datetime.now(UTC),
            "config": json.dumps(self.config, sort_keys=True),
            "versions": json.dumps(versions(), sort_keys=True),
            "input_names": self.input_names,
            "data_fingerprint": self.data_fingerprint and json.dumps(self.data_fingerprint, sort_keys=True),
        }
        self.update(trial)
        for tracker in self._trackers:
            tracker.start()

    def update(self, trial: str, **columns: Any) -> None:
        """Writes new values and a heartbeat."""
        with self._writing:
            alive: dict[str, Any] = {"heartbeat_at": datetime.now(UTC)}
            if trial in self._started:
                alive["seconds"] = time.monotonic() - self._started[trial]
            self.rows[trial] |= alive | columns
            self.writer.write("experiments", trial or "run", [self.rows[trial]])

    def amend(self, trial: str, **options: Any) -> None:
        """Puts what changed on the way into the config of a trial; the next update writes it."""
        with self._writing:
            config = json.loads(self.rows[trial]["config"]) | options
            self.rows[trial]["config"] = json.dumps(config, sort_keys=True)

    def end(self, trial: str, status: str, **columns: Any) -> None:
        """Marks a trial as finished, failed or interrupted; its trackers are given some time to take that up."""
        self.update(trial, status=status, finished_at=datetime.now(UTC), **columns)
        for tracker in self._trackers:
            tracker.ask()
        for tracker in self._trackers:
            tracker.wait()

    @contextmanager
    def beating(self, trial: str) -> Iterator[None]:
        """Writes a heartbeat at intervals, whatever the work inside is at; `structnet status` tells who went silent."""
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(HEARTBEAT_SECONDS):
                # What cannot be written, the work itself will find out, and say.
                with suppress(Exception):
                    self.update(trial)

        heart = threading.Thread(target=beat, name="heartbeat", daemon=True)
        heart.start()
        try:
            yield
        finally:
            ended.set()
            heart.join()

    def _claimed(self) -> Claim:
        """The claim of its name; a name that was not given gets a number where another has it already."""
        results = self.options.results
        if self.options.name:
            return claim_name(results, self.name, take_over=self.options.resume)
        stem = self.name
        for number in count(2):
            with suppress(NameTaken):
                claim = claim_name(results, self.name, again=False)
                if not self.is_there:
                    break
                claim.release()
            self.name = f"{stem}-{number}"
        self.writer = TableWriter(results, self.name)
        return claim

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
        self._check_options(json.loads(rows[0]["config"]))
        # Those of before there was one have none.
        stored = next((row["data_fingerprint"] for row in rows if row["data_fingerprint"]), None)
        if stored:
            self._check_data(json.loads(stored))

    def _check_options(self, before: dict[str, Any]) -> None:
        mine = json.loads(json.dumps(self.config))
        changed = sorted(
            key
            for key in before.keys() | mine.keys()
            if _told(before.get(key)) != _told(mine.get(key)) and key not in changeable(type(self.options))
        )
        if changed:
            shown = ", ".join(f"{key} was {before.get(key)!r}, is {mine.get(key)!r}" for key in changed)
            raise UserError(
                f"experiment '{self.name}' was started with other options ({shown}): choose another --name"
            )

    def _check_data(self, before: dict[str, str]) -> None:
        if self.data_fingerprint is None:
            self.data_fingerprint = before
        elif found := changes(before, self.data_fingerprint):
            raise UserError(
                f"experiment '{self.name}' was started with other data ({found}): bring that data back, or choose "
                "another --name"
            )


def _told(value: Any) -> Any:
    """The value of an option; no is as if it had not been there, as an option of a later version was not."""
    return None if value is False else value
