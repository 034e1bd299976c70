"""What a tracker was told of an experiment: RESULTS/trackers/TRACKER/EXPERIMENT.json.

Rows are known by their keys, so that an experiment that is resumed, or trains something twice, has its points once.
They are noted after they were told: whoever is killed in between tells them again.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from search.trackers.registry import Begun
from structnet.storage.atomic import write_whole
from structnet.storage.schemas import INT, KEYS, REAL, SCHEMAS
from structnet.storage.tables import open_folder

# What is no measure of anything: keys, and what started a random stream.
NUMBERS = {
    table: tuple(
        field.name
        for field in schema
        if field.type in (INT, REAL) and field.name not in (*KEYS[table], "rng_seed")
    )
    for table, schema in SCHEMAS.items()
}


@contextmanager
def alone(file: Path) -> Iterator[None]:
    """Waits until no other process is inside with this file; not where files cannot be locked."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as lock:
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Notes:
    """runs: name -> what the tracker calls it. began: when the experiment did; notes of another one do not count."""

    def __init__(self, results: str, tracker: str, experiment: str, began: str) -> None:
        self._fs, root = open_folder(results)
        self._file = f"{root}/trackers/{tracker}/{experiment}.json"
        self.began = began
        self.runs: dict[str, Begun] = {}
        # By table and key of a row, in the order in which they came: the columns that were told, a bit for each. Their
        # places in NUMBERS stay, as columns are only ever added.
        self._told: dict[str, dict[str, int]] = {}
        self._numbers: dict[str, dict[str, int]] = {}
        self._saved = ""
        self._load()

    def untold(self, table: str, row: Mapping[str, Any]) -> dict[str, float]:
        """The numbers of a row that were not told, by column."""
        before = self._told.get(table, {}).get(key_of(table, row), 0)
        columns = enumerate(NUMBERS[table])
        return {
            name: float(row[name])
            for place, name in columns
            if row[name] is not None and not before >> place & 1
        }

    def number(self, table: str, row: Mapping[str, Any]) -> int:
        """The place of a row among those of its table, from 1, in the order in which they were asked for and told."""
        numbers = self._numbers.setdefault(table, {})
        return numbers.setdefault(key_of(table, row), len(numbers) + 1)

    def note(self, table: str, row: Mapping[str, Any]) -> None:
        """Counts all numbers of a row as told."""
        told, key = self._told.setdefault(table, {}), key_of(table, row)
        bits = sum(1 << place for place, name in enumerate(NUMBERS[table]) if row[name] is not None)
        told[key] = told.get(key, 0) | bits

    def save(self) -> None:
        """Writes what is noted, if that has changed; raises StoreFailed."""
        runs = {name: list(begun) for name, begun in self.runs.items()}
        content = json.dumps({"began": self.began, "runs": runs, "told": self._told})
        if content != self._saved:
            write_whole(self._fs, {self._file: content.encode()})
            self._saved = content

    def _load(self) -> None:
        self._fs.invalidate_cache()
        if not self._fs.exists(self._file):
            return
        there = json.loads(self._fs.cat_file(self._file))
        if there["began"] != self.began:
            return
        self.runs = {name: Begun(*begun) for name, begun in there["runs"].items()}
        self._told = there["told"]
        for table, told in self._told.items():
            self._numbers[table] = {key: number for number, key in enumerate(told, 1)}


def key_of(table: str, row: Mapping[str, Any]) -> str:
    """What a row of an experiment is known by."""
    return json.dumps([row[name] for name in KEYS[table]])
