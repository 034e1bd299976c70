"""What is new in the tables of one experiment, told to one tracker.

All that a tracker has comes from here, and so from tables: what it shows equals them. A part is read again only when
it has changed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from search.trackers.notes import Notes, key_of
from search.trackers.registry import Adapter, Begun, Point
from structnet.errors import UserError
from structnet.storage.tables import list_parts, open_folder, read_part

# The column that is the step of a row. Of `networks` it is the number of the row, in the order in which they came.
TABLES = {
    "rounds": "steps",
    "epochs": "epoch",
    "fronts": "parameters",
    "measurements": "item",
    "networks": "",
    "experiments": "steps",
}
# Of one experiment: a search has thousands of networks, and no page of a tracker has room for them.
RUNS = 200


class Place(NamedTuple):
    """Whose run it is: of a trial, or of a network in it; of the experiment, if both are empty."""

    trial: str = ""
    network: str = ""


class Follower:
    """Tells one tracker what an experiment has written.

    at_most: runs. unread: why something could not be read the last time; empty if all was. is_full: whether there were
    more runs.
    """

    def __init__(
        self, results: str, experiment: str, tracker: str, adapter: Adapter, at_most: int = RUNS
    ) -> None:
        self.results, self.experiment, self.tracker = results, experiment, tracker
        self.adapter, self.at_most = adapter, at_most
        self.unread, self.is_full = "", False
        self._fs, _ = open_folder(results)
        self._stamps: dict[str, str] = {}  # of the parts that were read
        self._trials: dict[str, dict[str, Any]] = {}  # rows of `experiments`
        self._notes: Notes | None = None
        self._admitted: set[str] = set()  # names of runs
        self._open: set[str] = set()

    def follow(self) -> None:
        """Tells what is new. Raises what the adapter raises; nothing more can be told after that."""
        self.unread = ""
        # Their status first: what is finished now has written its other rows before.
        for row in self._changed("experiments"):
            self._trials[row["trial"]] = row
        if not self._trials:
            return
        notes = self._taken_up()
        try:
            for trial, row in sorted(self._trials.items()):
                if row["status"] == "running" and self._admits(Place(trial)):
                    self._begin(notes, Place(trial))
            for table in TABLES:
                if table != "experiments":
                    self._tell(notes, table)
            self._end_trials(notes)
        finally:
            notes.save()

    def close(self) -> None:
        """Closes the runs that are open, of an experiment whose process has ended before it."""
        for name in sorted(self._open):
            self._end(name, "interrupted")

    def _taken_up(self) -> Notes:
        if self._notes is None:
            began = min(str(row["started_at"]) for row in self._trials.values())
            self._notes = Notes(self.results, self.tracker, self.experiment, began)
            self._admitted = {*self._notes.runs}
        return self._notes

    def _changed(self, table: str) -> Iterator[dict[str, Any]]:
        """The rows of the parts that have changed. What cannot be read is left to the next time."""
        try:
            parts = list_parts(self.results, table, self.experiment)
        except UserError as error:
            self.unread = str(error)
            return
        for part in parts:
            if self._stamps.get(part.path) == part.stamp:
                continue
            try:
                rows = read_part(self._fs, table, part).to_pylist()
            except UserError as error:
                self.unread = str(error)
                continue
            self._stamps[part.path] = part.stamp
            yield from rows

    def _tell(self, notes: Notes, table: str) -> None:
        """Tells what is new in a table, to one run after the other; closes those of networks that are done."""
        # Of two rows with one key, in two parts, the later one counts.
        new: dict[Place, dict[str, dict[str, Any]]] = {}
        done: dict[str, str] = {}
        for row in self._changed(table):
            place = _place(table, row)
            if table == "networks":
                done[self._name(Place(row["trial"], row["network"]))] = row["status"] or ""
            if notes.untold(table, row) and self._admits(place):
                new.setdefault(place, {})[key_of(table, row)] = row
        for place, rows in new.items():
            self._log(notes, place, table, list(rows.values()))
        for name in sorted(self._open & done.keys() - {self._name(Place(trial)) for trial in self._trials}):
            self._end(name, done[name])

    def _end_trials(self, notes: Notes) -> None:
        """Tells the last numbers of trials that have ended, and closes their runs; with that of all, every run."""
        for trial, row in self._trials.items():
            place, status = Place(trial), row["status"]
            if status == "running":
                continue
            if status == "finished" and notes.untold("experiments", row) and self._admits(place):
                self._log(notes, place, "experiments", [row])
            for name in sorted(self._open & {self._name(place)} if trial else self._open):
                self._end(name, status)

    def _admits(self, place: Place) -> bool:
        """Whether there is room for a run; it is kept from then on."""
        name = self._name(place)
        if name not in self._admitted and len(self._admitted) >= self.at_most:
            self.is_full = True
            return False
        self._admitted.add(name)
        return True

    def _begin(self, notes: Notes, place: Place, **about: Any) -> None:
        """Opens the run, unless it is open. about: what it was made with beside the config."""
        name = self._name(place)
        if name in self._open:
            return
        row = self._trials.get(place.trial) or next(iter(self._trials.values()))
        params = json.loads(row["config"]) | {"command": row["command"], "experiment": self.experiment}
        params |= place._asdict() | {"rng_seed": row["rng_seed"]} | about
        before = notes.runs.get(name)
        known = self.adapter.begin(
            name, {key: value for key, value in params.items() if value is not None}, before
        )
        notes.runs[name] = Begun(known, before.points if before else 0)
        self._open.add(name)

    def _log(self, notes: Notes, place: Place, table: str, rows: list[dict[str, Any]]) -> None:
        """Tells what is new in rows of one run."""
        about = {name: rows[0][name] for name in ("arm", "rng_seed")} if table == "measurements" else {}
        self._begin(notes, place, **about)
        name = self._name(place)
        self.adapter.log(name, [_point(notes, table, row) for row in rows])
        for row in rows:
            notes.note(table, row)
        before = notes.runs[name]
        notes.runs[name] = before._replace(points=before.points + len(rows))

    def _end(self, name: str, status: str) -> None:
        self.adapter.end(name, status)
        self._open.remove(name)

    def _name(self, place: Place) -> str:
        """EXPERIMENT/TRIAL/NETWORK; a trial that is one network, and named like it, is named once."""
        parts = dict.fromkeys(part for part in (self.experiment, *place) if part)
        return "/".join(map(_plain, parts))


def _place(table: str, row: dict[str, Any]) -> Place:
    """Whose run has what a row says: a network its epochs, the experiment what all its networks came to."""
    if table == "epochs":
        return Place(row["trial"], row["network"])
    return Place() if table == "networks" else Place(row["trial"])


def _point(notes: Notes, table: str, row: dict[str, Any]) -> Point:
    """What a row says that was not told yet."""
    values = notes.untold(table, row)
    if table == "measurements":
        values = {_plain(row["quantity"]): value for value in values.values()}
    column = TABLES[table]
    return Point(table, (row[column] or 0) if column else notes.number(table, row), values)


def _plain(text: str) -> str:
    """A name as every tracker takes it."""
    return re.sub(r"[^\w.: -]", "_", text)
