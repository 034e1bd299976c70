"""The classes of pictures as a list beside them says: metadata.csv or metadata.jsonl, the layout of Hugging Face."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from structnet.data.labels import read_labels
from structnet.data.rows import first_line, is_text, read_rows
from structnet.errors import UserError

METADATA = ("metadata.csv", "metadata.jsonl")
FILE_NAME = "file_name"


def listed_pictures(file: Path, there: set[Path], label: str) -> list[tuple[Path, str]]:
    """The pictures that a list names, with their classes.

    there: the files that exist. label: the column of the labels; `file_name` has the paths, from the list's folder on.
    Raises UserError for a list that cannot be read, and for pictures that are missing, named twice or lie elsewhere.
    """
    rows = read_rows(file).table if file.suffix == ".csv" else _read_json_lines(file)
    if FILE_NAME not in rows.column_names or not is_text(rows.schema.field(FILE_NAME).type):
        raise UserError(
            f"{file} has no texts in a column {FILE_NAME!r}: add it, with the path of each picture"
        )
    labels = read_labels(rows, file, label).to_pylist()
    found: dict[Path, str] = {}
    for row, (name, of_row) in enumerate(zip(rows[FILE_NAME].to_pylist(), labels)):
        place = file.parent / (name or "")
        if place not in there:
            raise UserError(
                f"row {row} of {file} names the picture {name!r}, but there is no such file beside or below it: "
                "correct or remove the row"
            )
        if place in found:
            raise UserError(
                f"row {row} of {file} names the picture {name!r} once more: remove one of its rows"
            )
        found[place] = str(of_row)
    return list(found.items())


def _read_json_lines(file: Path) -> pa.Table:
    import pyarrow.json

    try:
        return pyarrow.json.read_json(file)
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{file} cannot be read ({first_line(error)}): write one object of JSON on each line"
        ) from error
