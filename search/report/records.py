"""The tables of one experiment, as its story reads them."""

from __future__ import annotations

import json
import shlex
from functools import cached_property
from typing import Any

from search.report.standing import Standing
from structnet.storage.tables import read_table

Rows = list[dict[str, Any]]


class Records:
    """Rows of one experiment. A table is read when it is first asked for; damaged parts are left out, with a warning.

    results: a folder or an fsspec URL.
    """

    def __init__(self, results: str, name: str) -> None:
        self.results, self.name = results, name
        self._tables: dict[str, Rows] = {}

    def rows(self, table: str, trial: str | None = None) -> Rows:
        """The rows of a table in the order of its key, or those of one trial."""
        if table not in self._tables:
            found = read_table(self.results, table, self.name, skip_damaged=True)
            self._tables[table] = found.to_pylist()
        rows = self._tables[table]
        return rows if trial is None else [row for row in rows if row["trial"] == trial]

    @cached_property
    def runs(self) -> Rows:
        """The rows of `experiments`, one for every trial."""
        return self.rows("experiments")

    @property
    def trials(self) -> list[str]:
        """Their names; the empty one for a plain run."""
        return [row["trial"] for row in self.runs]

    @cached_property
    def config(self) -> dict[str, Any]:
        """The options of the command."""
        return dict(json.loads(self.runs[0]["config"] or "{}")) if self.runs else {}

    @property
    def command(self) -> str:
        """What was run."""
        return self.runs[0]["command"] if self.runs else ""

    @property
    def dataset(self) -> str:
        """What it was run on."""
        return self.runs[0]["dataset"] if self.runs else ""

    @cached_property
    def standing(self) -> Standing | None:
        """How it stands; None without rows."""
        return Standing.of(self.name, self.runs) if self.runs else None

    @property
    def status(self) -> str:
        """`running`, `finished`, `failed` or `interrupted`; empty without rows."""
        return self.standing.status if self.standing else ""

    @property
    def where(self) -> str:
        """What a command needs beside a name to find these results: nothing for the folder that is the default."""
        return "" if self.results == "results" else f" --results {shlex.quote(self.results)}"
