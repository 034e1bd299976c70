"""Compaction: the many small parts of an experiment that has ended become one part per table.

Of two rows with one key, readers take the one in the part whose name sorts last. The name of a merged part
sorts after those of the merged parts it was made from, and before every name that a writer can give: whoever
resumes a failed experiment and writes a part again is heard. The merged parts are written, each whole, before
the first old part is removed, and the old ones go in the order of their names. So at every moment the last
part with a key holds the value that it held before.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from structnet.errors import UserError
from structnet.storage.atomic import is_local
from structnet.storage.tables import (
    KEYS,
    SCHEMAS,
    Part,
    damaged,
    first_line,
    list_parts,
    open_folder,
    read_part,
    store_part,
    unique,
    with_experiment,
)

__all__ = ["Compaction", "Merged", "compact"]

_ENDED = ("finished", "failed")
_ROWS_AT_MOST = 1_000_000
# "+" sorts before the letters and digits that the names of writers start with.
_MERGED = re.compile(r"\+merged-(\d{6})")


class Merged(NamedTuple):
    """What became of the parts of one table of one experiment, and how many rows they hold now."""

    experiment: str
    table: str
    parts_before: int
    parts_after: int
    rows: int


class Compaction(NamedTuple):
    """What was merged; what was left alone, and why; which parts are damaged and stay: a line for each."""

    merged: list[Merged]
    left_alone: list[str]
    damaged: list[str]


def compact(results: str, experiment: str | None = None, table: str | None = None) -> Compaction:
    """Merges the parts of the experiments that have ended; what readers see stays the same.

    An experiment has ended when each of its trials is finished or failed. The parts of each of its tables, or
    of `table` alone, become one, or several of at most a million rows. May be stopped at any moment, and run
    again.
    results: a folder or an fsspec URL. Raises UserError when there is no such folder or experiment, or when
    it cannot be written to, and ValueError when the table is unknown.
    """
    fs, root = open_folder(results)
    if is_local(fs) and not Path(root).is_dir():
        raise UserError(f"results is {results!r}, but there is no such folder: name one with tables in it")
    tables = list(SCHEMAS) if table is None else [table]
    found = {
        (name, kind): list(parts)
        for kind in tables
        for name, parts in groupby(list_parts(results, kind, experiment), key=lambda part: part.experiment)
    }
    if experiment is not None and not found:
        raise UserError(f"experiment is {experiment!r}, but {results!r} has no tables of it: name another")
    why_not = _not_ended(fs, results, experiment)
    report = Compaction([], [], [])
    for name, pairs in groupby(sorted(found), key=lambda pair: pair[0]):
        reason = why_not.get(name, "it has no row in the table experiments")
        if reason:
            report.left_alone.append(f"experiment '{name}': {reason}")
            continue
        for _, kind in pairs:
            _compact_table(fs, results, kind, found[name, kind], report)
    return report


def _not_ended(fs: Any, results: str, experiment: str | None) -> dict[str, str]:
    """Why an experiment has not ended, for each with trials; "" when it has."""
    why_not = {}
    for name, parts in groupby(list_parts(results, "experiments", experiment), lambda part: part.experiment):
        try:
            rows = pa.concat_tables([read_part(fs, "experiments", part) for part in parts])
        except UserError as error:
            why_not[name] = f"its trials are not known, because {error}"
            continue
        status = set(unique(rows, ["trial"])["status"].to_pylist())
        others = sorted(map(str, status.difference(_ENDED)))
        why_not[name] = f"a trial of it is {' or '.join(others)}" if others else ""
    return why_not


def _compact_table(fs: Any, results: str, table: str, parts: list[Part], report: Compaction) -> None:
    """Merges the parts of one experiment; adds to the report."""
    if len(parts) == 1:
        return
    experiment, folder = parts[0].experiment, parts[0].path.rpartition("/")[0]
    what = f"table {table} of experiment '{experiment}'"
    sizes = _sizes(fs, table, parts, report)
    batches = _batches(sizes)
    if all(len(batch) == 1 for batch in batches):
        return
    kept = 0
    while len(batches[kept]) == 1 and _MERGED.fullmatch(batches[kept][0].name):
        kept += 1
    number = max((int(match[1]) for part in parts if (match := _MERGED.fullmatch(part.name))), default=0)
    old: list[Part] = []
    new: dict[str, int] = {}
    # The last first: a merged part must not hide a later one that waits for its turn.
    for place, batch in reversed(list(enumerate(batches[kept:], number + 1))):
        rows, read = _read_batch(fs, table, batch, report)
        if len(read) < 2 and len(batches) == 1:
            return
        # A part may have come, gone or changed since it was listed: then somebody else is at work.
        if [part for part in list_parts(results, table, experiment) if part.path not in new] != parts:
            report.left_alone.append(f"{what}: it was written to while it was read")
            return
        if read:
            path = f"{folder}/+merged-{place:06d}.parquet"
            store_part(fs, path, rows)
            new[path] = rows.num_rows
            old = read + old
    before = kept + len(old)
    after = before + len(new) - _remove(fs, old, list_parts(results, table, experiment))
    row_count = sum(sizes[batch[0]] for batch in batches[:kept]) + sum(new.values())
    report.merged.append(Merged(experiment, table, before, after, row_count))


def _sizes(fs: Any, table: str, parts: list[Part], report: Compaction) -> dict[Part, int]:
    """Rows of each part that can be read; none of any if one has a column that is not known here."""
    sizes = {}
    for part in parts:
        try:
            sizes[part], columns = _footer(fs, part)
        except UserError as error:
            report.damaged.append(str(error))
            continue
        unknown = sorted(set(columns) - set(SCHEMAS[table].names))
        if unknown:  # from a later version: merging would lose it
            what = f"table {table} of experiment '{part.experiment}'"
            report.left_alone.append(
                f"{what}: {part.path} has a column {unknown[0]!r} that is not known here"
            )
            return {}
    return sizes


def _footer(fs: Any, part: Part) -> tuple[int, list[str]]:
    """How many rows a part has, and its columns."""
    try:
        with fs.open(part.path, "rb") as handle, pq.ParquetFile(handle) as file:
            return file.metadata.num_rows, file.schema_arrow.names
    except (OSError, pa.ArrowException) as error:
        raise damaged(part, first_line(error)) from error


def _batches(sizes: dict[Part, int]) -> list[list[Part]]:
    """The parts in their order, in runs of at most a million rows, or of one part."""
    batches: list[list[Part]] = []
    rows = 0
    for part, size in sizes.items():
        if not batches or rows + size > _ROWS_AT_MOST:
            batches.append([])
            rows = 0
        batches[-1].append(part)
        rows += size
    return batches


def _read_batch(
    fs: Any, table: str, batch: Sequence[Part], report: Compaction
) -> tuple[pa.Table, list[Part]]:
    """The rows of the parts, sorted by key, each key once, without the experiment; and the parts that are whole."""
    tables, read = [with_experiment(SCHEMAS[table]).empty_table()], []
    for part in batch:
        try:
            tables.append(read_part(fs, table, part))
        except UserError as error:
            report.damaged.append(str(error))
        else:
            read.append(part)
    rows = pa.concat_tables(tables).drop_columns("experiment")
    return unique(rows, list(KEYS[table])), read


def _remove(fs: Any, parts: list[Part], there: list[Part]) -> int:
    """Removes the parts in their order, up to one that is not there as it was before; how many."""
    unchanged = set(there)
    for count, part in enumerate(parts):
        if part not in unchanged:
            return count
        try:
            fs.rm_file(part.path)
        except OSError as error:
            raise UserError(
                f"{part.path} is merged, but cannot be removed ({error}): allow it and compact again"
            ) from error
    return len(parts)
