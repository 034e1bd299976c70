"""A results folder in Python: its tables as DuckDB relations, as pandas frames and as Arrow tables."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from structnet.errors import UserError
from structnet.storage.schemas import SCHEMAS
from structnet.storage.sql import check_experiment, check_folder, experiment_names, open_query
from structnet.storage.tables import read_table

if TYPE_CHECKING:
    import duckdb
    import pandas as pd


def open_results(path: str | os.PathLike[str] = "results") -> Results:
    """The results in a folder or under an fsspec URL, such as s3://bucket/folder.

    Raises UserError for a folder that does not exist, or what is no URL.
    """
    return Results(os.fspath(path))


class Results:
    """The tables of results, by name: `results.rounds` is `results.table("rounds")`, a DuckDB relation.

    Every call sees what is there now, so that an experiment may still run. Rows are unique by experiment and key. A
    damaged part is left out, and a warning names it. Nothing here writes: nor can what DuckDB does with a relation.
    """

    def __init__(self, path: str) -> None:
        check_folder(path)
        self.path = path

    def __getattr__(self, name: str) -> duckdb.DuckDBPyRelation:
        if name not in SCHEMAS:
            raise AttributeError(f"results have no table {name!r}: there are {', '.join(SCHEMAS)}")
        return self.table(name)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *SCHEMAS]

    def __repr__(self) -> str:
        return f"open_results({self.path!r})"

    def experiments(self) -> list[str]:
        """The names of all experiments, sorted. The table of that name is `table("experiments")`."""
        return experiment_names(self.path)

    def table(self, name: str, experiment: str | None = None) -> duckdb.DuckDBPyRelation:
        """The rows of a table, or of one experiment in it, of which DuckDB reads what is asked for.

        Raises UserError for a table or an experiment that is not there.
        """
        return open_query(self.path, f"FROM {_known(name)}", experiment)

    def sql(self, statement: str, experiment: str | None = None) -> duckdb.DuckDBPyRelation:
        """The rows of one statement that only reads, over views named as the tables.

        experiment: the only one whose rows the views have. Raises UserError for any other statement, and for what
        DuckDB refuses.
        """
        return open_query(self.path, statement, experiment)

    def arrow(self, table: str, experiment: str | None = None) -> pa.Table:
        """All rows of a table, or of one experiment in it, sorted by experiment and key.

        Raises UserError for a table or an experiment that is not there.
        """
        rows = read_table(self.path, _known(table), experiment, skip_damaged=True)
        if experiment is not None and not rows.num_rows:
            check_experiment(self.path, experiment)
        return rows

    def frame(self, table: str, experiment: str | None = None) -> pd.DataFrame:
        """The same rows for pandas. Whole numbers are `Int64`, which has a place for those that are missing."""
        import pandas as pd

        whole: dict[Any, Any] = {pa.int64(): pd.Int64Dtype()}
        frame: pd.DataFrame = self.arrow(table, experiment).to_pandas(types_mapper=whole.get)
        return frame


def _known(table: str) -> str:
    if table not in SCHEMAS:
        raise UserError(f"table is {table!r}, but must be one of {', '.join(SCHEMAS)}: choose one of these")
    return table
