"""The pages of the site that are made of the code itself: commands, tables, studies and Python, in docs/reference/.

Markdown for what MyST reads, reStructuredText for what autodoc fills in. Sphinx calls `write_reference` before it reads
anything (conf.py); nothing here is kept by git.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search.command import Command

# What a program may count on, by module and in the order of the page.
PUBLIC: Mapping[str, Sequence[str]] = {
    "structnet": ("StructNet", "load_dataset", "fit", "from_module", "open_results"),
    "structnet.data.dataset": ("Dataset", "Split"),
    "structnet.training.fit": ("History",),
    "structnet.training.pruning": ("pruned_to",),
    "tournament": ("GrownClassifier", "Tournament", "Result", "Settings", "Economy"),
    "structnet.actions": ("Action", "offered", "growing"),
    "structnet.actions.base": ("Context", "Proposal", "strongest_absent", "feeding", "fed_by"),
    "structnet.network.edit": ("Edit", "connect", "disconnect", "add_units", "add_group", "remove_units"),
    "structnet.network.architecture": ("Architecture", "sizes_of"),
    "structnet.network.remap": ("to_sequential", "from_sequential"),
    "structnet.storage.results": ("Results",),
    "structnet.storage.snapshot": ("Snapshot", "save_snapshot", "load_snapshot"),
    "structnet.paths.files": ("load_plastic",),
    "structnet.heads.building": ("load_transformer",),
    "structnet.heads.hugging_face": ("load_pruned",),
    "structnet.errors": ("UserError", "WorkFailed"),
}


# Pages of the root of the repository, and where the site has them, seen from docs/reference.
ROOT_PAGES = {
    "README.md": "../index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}


def write_reference(docs: Path) -> None:
    """Writes every page of docs/reference that is not yet as it should be, so that Sphinx reads only what changed."""
    folder = docs / "reference"
    folder.mkdir(exist_ok=True)
    pages = {
        "commands.md": command_reference(),
        "tables.md": table_reference(),
        "questions.md": question_reference(),
        "actions.md": action_reference(),
        "studies.md": study_reference(),
        "python.rst": python_reference(),
        "changelog.md": page_of_the_root(docs.parent / "CHANGELOG.md"),
        "contributing.md": page_of_the_root(docs.parent / "CONTRIBUTING.md"),
    }
    for name, text in pages.items():
        path = folder / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


# Commands


def command_reference() -> str:
    """Every command with its options, in the panels that `--help` has."""
    from search.command import Group
    from search.commands.registry import COMMANDS

    parts = [
        "# Every option",
        "As the command line reads them. What the commands are for, with examples, is in [Commands](../COMMANDS.md). "
        "All take `--quiet`, by which nothing is printed but what was asked for as data, `--json`, by which one JSON "
        "object is printed at the end, and `--help`. Those that have `--resume` take `--config FILE.yaml`, with the "
        "same options by name.",
    ]
    for name, command in sorted(COMMANDS.items()):
        parts += [f"## structnet {name}", command.help]
        if isinstance(command, Group):
            for one in command.commands:
                parts += [f"### structnet {name} {one.name}", one.help, *_options(one)]
        else:
            parts += _options(command)
    return "\n\n".join(parts) + "\n"


def _options(command: Command) -> Iterator[str]:
    """The arguments of a command, then its options by panel, each as a table."""
    from search.line import fields_on_line, help_of

    panels: dict[str, list[tuple[str, ...]]] = {}
    for name, field in fields_on_line(command.model).items():
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        text, _, default = help_of(command.name, name, field).partition(" Default: ")
        if extra.get("argument"):
            panel, said = "Arguments", f"`{extra['metavar'] or name.upper()}`"
            default = "has to be given" if field.is_required() else default
        else:
            dashed = name.replace("_", "-")
            panel, said = str(extra["panel"] or "Options"), f"`--{dashed}`"
            said += f", `--no-{dashed}`" if extra.get("deniable") else ""
        panels.setdefault(panel, []).append((said, _taken(field, extra), text, default.removesuffix(".")))
    for panel, rows in panels.items():
        yield f"**{panel}**"
        yield markdown_table(("option", "takes", "what", "default"), rows)


def _taken(field: Any, extra: Mapping[str, Any]) -> str:
    """What stands behind an option, in a word or two."""
    from search.line import type_on_line

    words = {bool: "", int: "whole number", float: "number", Path: "file", list[str]: "text, several times"}
    return " or ".join([words.get(type_on_line(field.annotation), "text"), *extra.get("words", ())])


# Tables


def table_reference() -> str:
    """Every table of results with its key and its columns, in the order in which they are stored."""
    from structnet.storage.columns import TABLES, text_of
    from structnet.storage.schemas import KEYS, SCHEMAS

    parts = [
        "# Every table and column",
        "As rows are written. A table is a folder of Parquet files, "
        "`results/tables/TABLE/experiment=NAME/`; `structnet query` shows each as a view of its name, with the "
        "column `experiment`, which is part of every key. Columns are added, never renamed or retyped. What is not "
        "said to be of the training or the test set is on validation data; a column that does not apply is null.",
    ]
    for table, schema in SCHEMAS.items():
        key = ", ".join(f"`{name}`" for name in ("experiment", *KEYS[table]))
        parts += [f"## {table}", TABLES[table], f"Key: {key}."]
        rows = [(f"`{field.name}`", _kind(field.type), text_of(table, field.name)) for field in schema]
        parts.append(markdown_table(("column", "type", "what"), rows))
    return "\n\n".join(parts) + "\n"


def _kind(kind: Any) -> str:
    """A type of Arrow, as a reader who does not know it says it."""
    import pyarrow as pa

    if pa.types.is_list(kind):
        return f"list of {_kind(kind.value_type)}s"
    words = {
        "string": "text",
        "int64": "whole number",
        "double": "number",
        "bool": "yes or no",
        "binary": "bytes",
    }
    return words.get(str(kind), "time" if pa.types.is_timestamp(kind) else str(kind))


def question_reference() -> str:
    """Every ready-made question, and the SQL behind it."""
    from search.commands.query.questions import QUESTIONS

    parts = [
        "# Every ready-made question",
        "`structnet query NAME` asks it of a results folder. Each is one statement over the [tables](tables.md), from "
        "which to start with your own.",
    ]
    for name, question in QUESTIONS.items():
        answer = question.answers[0].upper() + question.answers[1:]
        parts += [f"## {name}", f"{answer}.", f"```sql\n{question.sql.strip()}\n```"]
    return "\n\n".join(parts) + "\n"


# Actions and studies


def action_reference() -> str:
    """Every growth action with what its file says of it."""
    from structnet.actions import ACTIONS

    parts = [
        "# Every growth action",
        "What competes with `structnet grow --policy score`, and how; [a new one](../ACTIONS.md) is one file. "
        "Controls run in every heat and are not offered.",
    ]
    for name, action in ACTIONS.items():
        said = inspect.getdoc(import_module(f"structnet.actions.{name}")) or ""
        keeps = "keeps the output" if action.preserves_output else "changes the output"
        parts += [f"## {name}", f"*{action.role}, {keeps}*", said]
    return "\n\n".join(parts) + "\n"


def study_reference() -> str:
    """Every study with what it asks."""
    from search.commands.study.registry import STUDIES

    rows = [
        (f"`{study.name}`", study.question, study.claim)
        for study in sorted(STUDIES.values(), key=lambda s: s.name)
    ]
    return (
        "\n\n".join(
            (
                "# Every study",
                "`structnet study NAME` answers one question with its controls, several rng_seeds and a plot. What "
                "came of them is in [Results](../RESULTS.md).",
                markdown_table(("study", "question", "what is claimed"), rows),
            )
        )
        + "\n"
    )


# Python


def python_reference() -> str:
    """What a program may import, module by module, which autodoc fills in from the docstrings."""
    parts = [_heading("Python", "="), "What a program may count on. All that is not here may change.", ""]
    for module, names in PUBLIC.items():
        parts += ["", _heading(f"``{module}``", "-"), f".. py:module:: {module}", ""]
        for name in names:
            parts += [f".. {_directive(module, name)}:: {module}.{name}", ""]
    return "\n".join(parts) + "\n"


def _heading(text: str, line: str) -> str:
    return f"{text}\n{line * len(text)}\n"


def _directive(module: str, name: str) -> str:
    thing = getattr(import_module(module), name)
    if not isinstance(thing, type):
        return "autofunction"
    return "autoexception" if issubclass(thing, BaseException) else "autoclass"


def docstring_as_rst(lines: Sequence[str]) -> list[str]:
    """Our docstrings, plain prose with code in single backticks, as reStructuredText."""
    text = "\n".join(lines)
    parts = re.split(r"(`[^`]+`)", text)
    return "".join(
        f"`{part}`" if part.startswith("`") else re.sub(r"([\\*|_])", r"\\\1", part) for part in parts
    ).split("\n")


# All


def page_of_the_root(path: Path) -> str:
    """A page of the root of the repository, with its links as they are from docs/reference."""

    def moved(found: re.Match[str]) -> str:
        target = found[1]
        if re.match(r"[a-z]+:|#", target):
            return found[0]
        if target in ROOT_PAGES:
            return f"]({ROOT_PAGES[target]})"
        return f"](../{target.removeprefix('docs/')})" if target.startswith("docs/") else f"](../../{target})"

    return re.sub(r"\]\(([^)\s]+)\)", moved, path.read_text())


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown; bars in cells are escaped."""
    lines = [head, ["---"] * len(head), *([cell.replace("|", r"\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
