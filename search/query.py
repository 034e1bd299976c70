"""SQL over the tables of results, by DuckDB, as a reader that cannot do anything else.

Every table is a view of that name. DuckDB itself may touch no file and no network: that is switched off, and
locked, before it runs the statement; the rows reach it through Arrow, which opens the parts of the tables
alone. (A folder that DuckDB may read, it may also write to, with EXPLAIN ANALYZE COPY for one.)
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from structnet.errors import UserError
from structnet.tables import (
    KEYS,
    SCHEMAS,
    Part,
    damaged,
    is_local,
    list_parts,
    missing_keys,
    open_results,
    read_part,
    with_experiment,
)

if TYPE_CHECKING:
    import duckdb
    from pyarrow.dataset import ParquetFileFragment

_ROWS_ON_TERMINAL = 200


def run_query(results: str, sql: str) -> pa.Table:
    """The rows of one statement that only reads: SELECT, WITH, FROM, DESCRIBE, SHOW, SUMMARIZE or EXPLAIN.

    The views have a text column `experiment`, then the columns of their schema; rows are unique by experiment
    and key; a table without parts is empty. Times are in UTC.
    results: a folder or an fsspec URL. Raises UserError when the folder does not exist, the statement is of
    another kind or there is more than one, DuckDB refuses it, or a part of a table in it is damaged.
    """
    import duckdb

    fs, root = open_results(results)
    if is_local(fs) and not Path(root).is_dir():
        raise UserError(f"results is {results!r}, but there is no such folder: name one with tables in it")
    fragments = {table: _fragments(fs, results, table) for table in SCHEMAS}
    # A name in a comment costs a needless check of its parts, no more.
    named = {table: fragments[table] for table in SCHEMAS if table in sql.lower()}
    mistakes = (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException)
    with duckdb.connect() as connection:
        try:
            _check_statement(connection, sql)
            _check_schemas(named)
            for table in SCHEMAS:
                _create_view(connection, table, [fragment for _, fragment in fragments[table]])
            _lock(connection)
            return connection.sql(sql).to_arrow_table()
        except duckdb.Error as error:
            if not isinstance(error, mistakes):
                _read_all(fs, named)
            reason = str(error).strip().splitlines()[0]
            raise UserError(
                f"DuckDB refuses the statement ({reason}): SHOW TABLES and DESCRIBE say what there is"
            ) from error


def print_table(table: pa.Table) -> None:
    """Prints the rows: on a terminal as wide as it is and at most 200, elsewhere all of them in full."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console() if sys.stdout.isatty() else Console(width=1_000_000)
    shown = table.slice(0, _ROWS_ON_TERMINAL) if console.is_terminal else table
    grid = Table(box=box.SIMPLE_HEAD)
    for field in table.schema:
        number = pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
        grid.add_column(Text(field.name), justify="right" if number else "left")
    columns = [column.to_pylist() for column in shown.columns]
    for values in zip(*columns):
        grid.add_row(*(Text(_cell(value)) for value in values))
    console.print(grid)
    if shown.num_rows < table.num_rows:
        console.print(
            f"{shown.num_rows} of {table.num_rows:,} rows; the rest with LIMIT and OFFSET, or in a file"
        )


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _check_statement(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    import duckdb

    statements = connection.extract_statements(sql)
    if len(statements) != 1:
        raise UserError(
            f"there are {len(statements)} statements, but must be one: ask one question at a time"
        )
    if statements[0].type not in (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN):
        raise UserError(
            f"the statement is of the kind {statements[0].type.name}, but the tables can only be read: use "
            "SELECT, WITH, DESCRIBE, SHOW, SUMMARIZE or EXPLAIN"
        )


def _lock(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("SET TimeZone = 'UTC'")
    # A large sort must not leave files in the working directory.
    connection.execute("SET temp_directory = ''")
    # No file, no network, no extension, and no variable of this program taken for a table.
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _fragments(fs: Any, results: str, table: str) -> list[tuple[Part, ParquetFileFragment]]:
    """The parts of a table, unread, each with the experiment and name it stands for."""
    import pyarrow.compute as pc
    import pyarrow.dataset as ds
    from pyarrow import fs as arrow_fs

    files = arrow_fs.LocalFileSystem() if is_local(fs) else arrow_fs.PyFileSystem(arrow_fs.FSSpecHandler(fs))
    parquet = ds.ParquetFileFormat()
    fragments = []
    for part in list_parts(results, table):
        stands_for = (pc.field("experiment") == part.experiment) & (pc.field("part") == part.name)
        fragments.append((part, parquet.make_fragment(part.path, files, partition_expression=stands_for)))
    return fragments


def _create_view(
    connection: duckdb.DuckDBPyConnection, table: str, fragments: list[ParquetFileFragment]
) -> None:
    import pyarrow.dataset as ds

    schema = with_experiment(SCHEMAS[table]).append(pa.field("part", pa.string()))
    rows = ds.FileSystemDataset(fragments, schema, ds.ParquetFileFormat())
    key = ", ".join(f'"{name}"' for name in ("experiment", *KEYS[table]))
    last = f"row_number() OVER (PARTITION BY {key} ORDER BY part DESC) = 1"
    view = connection.from_arrow(rows).query("parts", f"SELECT * EXCLUDE (part) FROM parts QUALIFY {last}")
    assert view is not None  # a SELECT always has a result
    view.create_view(table)


def _check_schemas(tables: dict[str, list[tuple[Part, ParquetFileFragment]]]) -> None:
    """Refuses parts without a footer or without the key columns, which would read as null."""
    for table, fragments in tables.items():
        for part, fragment in fragments:
            try:
                missing = missing_keys(table, fragment.physical_schema)
            except (OSError, pa.ArrowException) as error:
                raise damaged(part, str(error).splitlines()[0]) from error
            if missing:
                raise damaged(part, f"it has no column {missing[0]!r}")


def _read_all(fs: Any, tables: dict[str, list[tuple[Part, ParquetFileFragment]]]) -> None:
    """Raises the UserError that names a damaged part, if one is why a statement failed: DuckDB does not."""
    for table, fragments in tables.items():
        for part, _ in fragments:
            read_part(fs, table, part)
