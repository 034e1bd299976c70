"""Whether two results folders hold the same rows, whatever the clock, the worker and the folder make of them.

`python tests/helpers/same_rows.py BEFORE AFTER` compares every experiment of BEFORE with that of the same name in
AFTER, prints what differs first in each table, and ends with exit code 1 if anything does or if one is missing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from structnet.errors import UserError
from structnet.storage.schemas import SCHEMAS
from structnet.storage.tables import list_parts, read_table

# Benchmarks hold times alone.
TABLES = [table for table in SCHEMAS if table != "benchmarks"]
CLOCK = {"seconds", "started_at", "heartbeat_at", "finished_at"}
PLACE = {"worker", "snapshot", "versions"}
# Of a configuration, which is a text of JSON: where an experiment was written is not what was done.
PLACE_OF_OPTIONS = {"results", "data_dir"}
# What a study measures is a row of its own, named by its `quantity`.
QUANTITIES_OF_THE_CLOCK = {"seconds"}


def comparable(results: str, table: str, experiment: str) -> list[dict[str, Any]]:
    """The rows of an experiment, sorted by their key, without the columns that differ between any two runs."""
    rows = read_table(results, table, experiment).to_pylist()
    return [
        {name: _plain(name, value) for name, value in row.items() if name not in CLOCK | PLACE}
        for row in rows
        if row.get("quantity") not in QUANTITIES_OF_THE_CLOCK
    ]


def _plain(name: str, value: Any) -> Any:
    """A value that equals itself: not-a-number does not, and neither do options with another folder in them."""
    if name == "config" and value:
        options = json.loads(value)
        return {option: given for option, given in options.items() if option not in PLACE_OF_OPTIONS}
    return "nan" if isinstance(value, float) and value != value else value


def differences(before: str, after: str) -> Iterator[str]:
    """A line for each table of an experiment that differs. Raises UserError naming a part that is damaged."""
    for table in TABLES:
        there = {part.experiment for part in list_parts(after, table)}
        for experiment in sorted({part.experiment for part in list_parts(before, table)}):
            if experiment not in there:
                yield f"{table} of {experiment}: missing in {after}"
            elif found := _first(*(comparable(folder, table, experiment) for folder in (before, after))):
                yield f"{table} of {experiment}: {found}"


def _first(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> str:
    """The first row that differs, with the columns in which it does; empty if there is none."""
    for number, (one, other) in enumerate(zip(before, after)):
        names = [name for name in sorted(one.keys() | other.keys()) if one.get(name) != other.get(name)]
        if names:
            changes = ", ".join(f"{name} was {one.get(name)!r}, is {other.get(name)!r}" for name in names)
            return f"row {number}: {changes}"
    return "" if len(before) == len(after) else f"{len(before)} rows were there, {len(after)} are"


def main(arguments: list[str]) -> int:
    """Prints the differences of two folders; the exit code."""
    if len(arguments) != 2:
        print("usage: python tests/helpers/same_rows.py BEFORE AFTER", file=sys.stderr)
        return 2
    before, after = arguments
    try:
        compared = len({(table, part.experiment) for table in TABLES for part in list_parts(before, table)})
        if not compared:
            raise UserError(f"there are no tables in '{before}': name a results folder")
        found = list(differences(before, after))
    except UserError as error:
        print(f"same_rows: {error}", file=sys.stderr)
        return 2
    print(*found, f"{compared} tables compared, {len(found)} differ", sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
