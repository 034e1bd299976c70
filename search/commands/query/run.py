"""`structnet query`: questions to the tables of results, where their rows go, and merging their small files."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

import pyarrow as pa
import typer

from search.commands.query.command import QueryOptions
from search.commands.query.formats import encode, format_of, records, table_of_rows
from search.commands.query.questions import QUESTIONS, question_of
from search.session.console import Console, outcome
from search.session.waiting import waiting
from structnet.errors import UserError
from structnet.storage.atomic import is_local, write_whole
from structnet.storage.sql import run_query
from structnet.storage.tables import first_line

_ROWS_ON_TERMINAL = 200


def run(options: QueryOptions) -> None:
    """Runs the command."""
    text, to_stdout = options.question, options.output is None
    form = options.format or ("table" if options.output is None else format_of(options.output))
    if not (options.list or options.compact or text is not None):
        raise UserError(
            f"there is no question, but must be SELECT … in quotes or one of {', '.join(QUESTIONS)}: ask one, or "
            "see --list"
        )
    if form == "parquet" and to_stdout:
        raise UserError("format is 'parquet', which is no text: say with --output which file it goes into")
    if options.compact:
        # Where rows go to stdout for another program, nothing else does.
        print_compaction(
            options.results, Console(file=sys.stderr) if to_stdout and form != "table" else Console()
        )
    if options.list and text is not None:
        print_sql(text)
    elif options.list:
        answers = [question.answers for question in QUESTIONS.values()]
        give(pa.table({"question": [*QUESTIONS], "answers": answers}), form, options.output)
    elif text is not None:
        question = question_of(text)
        rows = ask(options.results, question.sql if question else text, options.experiment)
        give(rows, form, options.output)


def ask(results: str, sql: str, experiment: str | None = None) -> pa.Table:
    """The rows of a statement; a line on stderr for each damaged part that was left out."""
    with warnings.catch_warnings(record=True) as caught, waiting("reading the tables", Console()):
        warnings.simplefilter("always", UserWarning)
        rows = run_query(results, sql, experiment)
    for warning in caught:
        typer.echo(warning.message, err=True)
    return rows


def print_query(results: str, sql: str) -> None:
    """Prints the rows of a statement, and what `ask` says."""
    print_table(ask(results, sql))


def print_sql(name: str) -> None:
    """Prints what a question answers, and how; UserError where it is none."""
    question = question_of(name)
    if question is None:
        raise UserError(
            "--list is beside SQL, but has the name of a question, or nothing, beside it: leave it out"
        )
    outcome(question=name, **question._asdict())
    Console(asked=True).say(f"{question.answers}\n{question.sql.rstrip()}", markup=False)


def give(rows: pa.Table, form: str, output: str | None) -> None:
    """Prints the rows in a format, or writes them into a file: a path, or an fsspec URL.

    Raises UserError where it cannot be written to.
    """
    if output is not None:
        write_rows(rows, form, output)
        return
    outcome(lambda: {"rows": records(rows)})
    if form == "table":
        print_table(rows)
    elif not Console(asked=True).quiet:
        sys.stdout.write(encode(rows, form).decode())


def write_rows(rows: pa.Table, form: str, output: str) -> None:
    """Writes the rows into a file, whole, in the place of what is there; UserError where that cannot be."""
    import fsspec

    try:
        fs, path = fsspec.url_to_fs(output)
    except (ValueError, ImportError, OSError) as error:
        raise UserError(
            f"output is {output!r}, but must be a file or an fsspec URL such as s3://bucket/file.csv "
            f"({first_line(error)}): correct it or install what it needs"
        ) from error
    if is_local(fs):
        _check_place(Path(path), output)
    write_whole(fs, {path: encode(rows, form)})
    outcome(output=output, row_count=rows.num_rows)
    Console().say(f"{rows.num_rows:,} {'row' if rows.num_rows == 1 else 'rows'}: {output}", markup=False)


def _check_place(path: Path, output: str) -> None:
    """At once: a disk that does not take a file may be full for a moment only, and is tried again for long."""
    above = next(folder for folder in path.parents if folder.exists())
    if path.is_dir() or not above.is_dir() or not os.access(above, os.W_OK):
        raise UserError(f"output is {output!r}, but no file can be written there: choose another")


def print_compaction(results: str, console: Console) -> None:
    """Merges the parts of all experiments that have ended, and prints what became of them."""
    from structnet.storage.compaction import compact

    with waiting("merging the files", console):
        report = compact(results)
    for done in report.merged:
        console.say(
            f"{done.experiment} {done.table}: {done.parts_before:,} parts became {done.parts_after:,}, "
            f"{done.rows:,} rows"
        )
    if not report.merged:
        console.say("Nothing to merge.")
    for line in report.left_alone:
        console.say(f"left alone: {line}", markup=False)
    for line in report.damaged:
        typer.echo(f"skipped: {line}", err=True)
    merged = [done._asdict() for done in report.merged]
    outcome(merged=merged, left_alone=report.left_alone, damaged=report.damaged)


def print_table(table: pa.Table) -> None:
    """Prints the rows: on a terminal as wide as it is and at most 200, elsewhere all of them in full."""
    console = Console(asked=True) if sys.stdout.isatty() else Console(asked=True, width=1_000_000)
    shown = table.slice(0, _ROWS_ON_TERMINAL) if console.is_terminal else table
    console.print(table_of_rows(shown))
    if shown.num_rows < table.num_rows:
        console.print(
            f"{shown.num_rows} of {table.num_rows:,} rows; the rest with LIMIT and OFFSET, or with --output FILE"
        )
