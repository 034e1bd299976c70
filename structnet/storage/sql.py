"""SQL over the tables of results, by DuckDB, as a reader that cannot do anything else.

Every table is a view of that name. DuckDB itself may touch no file and no network: that is switched off, and
locked, before it runs the statement; the rows reach it through Arrow, which opens the parts of the tables
alone. (A folder that DuckDB may read, it may also write to, with EXPLAIN ANALYZE COPY for one.)
"""

from __future__ import annotations

import re
import time
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from structnet.errors import UserError
from structnet.storage.atomic import is_local
from structnet.storage.schemas import KEYS, SCHEMAS
from structnet.storage.tables import (
    ATTEMPTS,
    Part,
    damaged,
    first_line,
    list_parts,
    missing_keys,
    open_folder,
    read_part,
    with_experiment,
)

if TYPE_CHECKING:
    import duckdb
    from pyarrow.dataset import ParquetFileFragment

    Fragments = list[tuple[Part, ParquetFileFragment]]

_FOOTERS_AT_ONCE = 16
Rows = TypeVar("Rows")


def run_query(results: str, sql: str, experiment: str | None = None) -> pa.Table:
    """The rows of one statement that only reads: SELECT, WITH, FROM, DESCRIBE, SHOW, SUMMARIZE or EXPLAIN.

    The views have a text column `experiment`, then the columns of their schema; rows are unique by experiment
    and key; a table without parts is empty. Times are in UTC. A damaged part of a table in the statement is
    left out, and a warning names it.
    results: a folder or an fsspec URL. experiment: the only one whose rows the views have; None for all.
    Raises UserError when the folder or the experiment does not exist, the statement is of another kind or there
    is more than one, or DuckDB refuses it.
    """
    return _read(results, sql, experiment, lambda relation: relation.to_arrow_table())


def open_query(results: str, sql: str, experiment: str | None = None) -> duckdb.DuckDBPyRelation:
    """The rows of such a statement, unread: DuckDB reads what is asked of them, when it is.

    They are of the parts that are there now. Of one that is damaged inside, or has gone when it is read, DuckDB
    raises its own error. Nothing that is done with the relation can write a file or read another.
    """
    return _read(results, sql, experiment, lambda relation: relation)


def experiment_names(results: str, tables: Iterable[str] = tuple(SCHEMAS)) -> list[str]:
    """The experiments that any of these tables has parts of, sorted."""
    return sorted({part.experiment for table in tables for part in list_parts(results, table)})


def check_experiment(results: str, experiment: str, tables: Iterable[str] = tuple(SCHEMAS)) -> None:
    """Raises UserError, with the names that are near, for an experiment that none of these tables has parts of."""
    names = experiment_names(results, tables)
    if experiment not in names:
        near = get_close_matches(experiment, names, 3, 0.5)
        way_out = f"is it {' or '.join(near)}?" if near else "`structnet status` names those there are"
        raise UserError(
            f"experiment is {experiment!r}, but there is none of that name in {results!r}: {way_out}"
        )


def _read(
    results: str,
    sql: str,
    experiment: str | None,
    finish: Callable[[duckdb.DuckDBPyRelation], Rows],
) -> Rows:
    """What `finish` makes of the rows of a statement; where parts change meanwhile it is asked again."""
    import duckdb

    fs = check_folder(results)
    named = _named_tables(sql)
    bad_inside: dict[Part, UserError] = {}
    for attempt in range(ATTEMPTS):
        time.sleep(attempt * 0.1)
        parts = {table: list_parts(results, table, experiment) for table in SCHEMAS}
        if experiment is not None and not any(parts.values()):
            check_experiment(results, experiment)
        fragments = {table: _fragments(fs, parts[table]) for table in SCHEMAS}
        bad = _bad_footers({table: fragments[table] for table in named})
        bad |= {part: bad_inside[part] for table in named for part in parts[table] if part in bad_inside}
        answer = _answer(sql, named, fragments, bad, finish)
        failed = isinstance(answer, duckdb.Error)
        if not failed and not any(isinstance(error.__cause__, FileNotFoundError) for error in bad.values()):
            break
        # A part that changes or goes after it was listed was written again, or merged: read that.
        changed = any(list_parts(results, table, experiment) != parts[table] for table in named)
        found = {}
        if failed and (not changed or attempt >= ATTEMPTS // 2):
            found = _bad_inside(fs, {table: parts[table] for table in named}, bad)
        if not changed and not found:
            break
        bad_inside |= found
    if isinstance(answer, duckdb.Error):
        raise _refusal(answer) from answer
    for error in bad.values():
        warnings.warn(f"skipped: {error}", stacklevel=3)
    return answer


def check_folder(results: str) -> Any:
    """The file system of the results; raises UserError for a local folder that does not exist."""
    fs, root = open_folder(results)
    if is_local(fs) and not Path(root).is_dir():
        raise UserError(f"results is {results!r}, but there is no such folder: name one with tables in it")
    return fs


def _named_tables(sql: str) -> list[str]:
    """The tables in a statement; UserError if it may do more than read."""
    import duckdb

    # Without it, a name such as https://… has DuckDB fetch what reads it from the network, only to name tables.
    with duckdb.connect(config={"enable_external_access": False}) as connection:
        try:
            statements = connection.extract_statements(sql)
        except duckdb.Error as error:
            raise _refusal(error) from error
        if len(statements) != 1:
            raise UserError(
                f"there are {len(statements)} statements, but must be one: ask one question at a time"
            )
        if statements[0].type not in (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN):
            raise UserError(
                f"the statement is of the kind {statements[0].type.name}, but the tables can only be read: use "
                "SELECT, WITH, DESCRIBE, SHOW, SUMMARIZE or EXPLAIN"
            )
        try:
            names = {name.lower() for name in connection.get_table_names(sql)}
        except duckdb.Error:  # USING asks for columns, and there are none yet: then any word may be a table
            names = set(re.findall(r"\w+", sql.lower()))
    return [table for table in SCHEMAS if table in names]


def _refusal(error: Exception) -> UserError:
    return UserError(
        f"DuckDB refuses the statement ({first_line(error)}): SHOW TABLES and DESCRIBE say what there is"
    )


def _answer(
    sql: str,
    named: list[str],
    fragments: dict[str, Fragments],
    bad: dict[Part, UserError],
    finish: Callable[[duckdb.DuckDBPyRelation], Rows],
) -> Rows | duckdb.Error:
    """What becomes of a statement over all parts but the bad ones, or the error if it may come from reading them.

    The connection lives as long as a relation of it.
    """
    import duckdb

    connection = duckdb.connect()
    try:
        for table, pairs in fragments.items():
            whole = [(part, fragment) for part, fragment in pairs if part not in bad]
            _create_view(connection, table, whole, table in named)
        _lock(connection)
        return finish(connection.sql(sql))
    except (duckdb.InvalidInputException, duckdb.IOException) as error:
        connection.close()
        return error
    except duckdb.Error as error:
        connection.close()
        raise _refusal(error) from error


def _lock(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("SET TimeZone = 'UTC'")
    # A large sort must not leave files in the working directory.
    connection.execute("SET temp_directory = ''")
    # No file, no network, no extension, and no variable of this program taken for a table.
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _fragments(fs: Any, parts: list[Part]) -> Fragments:
    """The parts, unread, each with the experiment and name it stands for."""
    import pyarrow.compute as pc
    from pyarrow import fs as arrow_fs

    files = arrow_fs.LocalFileSystem() if is_local(fs) else arrow_fs.PyFileSystem(arrow_fs.FSSpecHandler(fs))
    parquet = _format()
    fragments = []
    for part in parts:
        stands_for = (pc.field("experiment") == part.experiment) & (pc.field("part") == part.name)
        fragments.append((part, parquet.make_fragment(part.path, files, partition_expression=stands_for)))
    return fragments


def _format() -> Any:
    import pyarrow.dataset as ds

    checked = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
    return ds.ParquetFileFormat(default_fragment_scan_options=checked)


def _create_view(
    connection: duckdb.DuckDBPyConnection, table: str, fragments: Fragments, named: bool
) -> None:
    """A view of rows unique by experiment and key: of two, the one in the last part by name.

    To find the last one, all columns asked for are sorted by key. That is spared where no key can be there
    twice: in an experiment of one part, which holds a key once, and, in a table that the statement names,
    where a look at the keys alone finds no two alike.
    """
    key = ", ".join(f'"{name}"' for name in KEYS[table])
    part_count = Counter(part.experiment for part, _ in fragments)
    doubtful = {name for name, count in part_count.items() if count > 1}

    def select(experiments: Collection[str], sql: str) -> duckdb.DuckDBPyRelation:
        chosen = [fragment for part, fragment in fragments if part.experiment in experiments]
        rows = connection.from_arrow(_dataset(table, chosen)).query("parts", sql)
        assert rows is not None  # a SELECT always has a result
        return rows

    if named and doubtful:
        # Different hashes prove different keys; equal ones cost a needless sort.
        alike = f"GROUP BY experiment HAVING count(*) > count(DISTINCT hash({key}))"
        doubtful = {name for (name,) in select(doubtful, f"SELECT experiment FROM parts {alike}").fetchall()}
    view = select(part_count.keys() - doubtful, "SELECT * EXCLUDE (part) FROM parts")
    if doubtful:
        last = f"row_number() OVER (PARTITION BY experiment, {key} ORDER BY part DESC) = 1"
        view = view.union(select(doubtful, f"SELECT * EXCLUDE (part) FROM parts QUALIFY {last}"))
    view.create_view(table)


def _dataset(table: str, fragments: list[ParquetFileFragment]) -> Any:
    """The rows as they are in the parts, with the name of the part."""
    import pyarrow.dataset as ds

    schema = with_experiment(SCHEMAS[table]).append(pa.field("part", pa.string()))
    return ds.FileSystemDataset(fragments, schema, _format())


def _bad_footers(tables: dict[str, Fragments]) -> dict[Part, UserError]:
    """The parts without a footer, or without the key columns, which would read as null."""

    def refuse(table: str, part: Part, fragment: ParquetFileFragment) -> UserError | None:
        try:
            missing = missing_keys(table, fragment.physical_schema)
            return damaged(part, f"it has no column {missing[0]!r}") if missing else None
        except (OSError, pa.ArrowException) as error:
            refusal = damaged(part, first_line(error))
            refusal.__cause__ = error
            return refusal

    found: dict[Part, UserError] = {}
    with ThreadPoolExecutor(_FOOTERS_AT_ONCE) as pool:
        for table, pairs in tables.items():
            refusals = pool.map(lambda pair, table=table: refuse(table, *pair), pairs)
            found |= {part: error for (part, _), error in zip(pairs, refusals) if error}
    return found


def _bad_inside(
    fs: Any, tables: dict[str, list[Part]], known: dict[Part, UserError]
) -> dict[Part, UserError]:
    """The parts, beside those known as bad, that cannot be read to their end."""
    found: dict[Part, UserError] = {}
    for table, parts in tables.items():
        for part in parts:
            if part not in known:
                try:
                    read_part(fs, table, part)
                except UserError as error:
                    found[part] = error
    return found
