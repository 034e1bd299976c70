"""The command line, made of commands: an option for every field of a model that has a text.

Typer makes the parser of a command from a signature, which takes longer than it runs; so it is made for the command
that is called, and for no other.
"""

from __future__ import annotations

import gc
import inspect
import json
from collections.abc import Iterable
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, cast, get_args, get_origin

import typer
from typer.core import TyperCommand

from search.command import Command, Group
from structnet.data.datasets import DATASETS

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from search.options import Options

# What refuses a line: of Typer's own Click, or of the real one, as its version has it.
WRONG_USE = cast(type[Exception], typer.BadParameter.__bases__[0])

FIRST_STEPS = (
    ("structnet demo", "grows a network in a minute, and shows its report"),
    ("structnet grow --dataset YOUR.csv --target-accuracy 0.9", "the smallest one that does your job"),
    ("structnet report", "a page of all that was grown here"),
    ("structnet query --list", "questions to ask of it"),
    ("structnet --help", "all commands"),
)


def line_of(commands: Iterable[Command | Group]) -> typer.Typer:
    """The command line of these commands. By itself it says what to do first."""
    line = typer.Typer(
        invoke_without_command=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        help="Finds the smallest neural network that does the job, by growing it.",
    )
    line.callback()(_first_steps)
    for each in commands:
        if isinstance(each, Group):
            group = typer.Typer(no_args_is_help=True, help=each.help)
            line.add_typer(group, name=each.name)
            for command in each.commands:
                _add(command, group)
        else:
            _add(each, line)
    return line


def _first_steps(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        width = max(len(command) for command, _ in FIRST_STEPS)
        for command, what in FIRST_STEPS:
            typer.echo(f"{command:{width}}  {what}")


def _add(command: Command, line: typer.Typer) -> None:
    """Puts the name of a command on a line, and what it is for; the rest is made when it is called."""

    class Later(TyperCommand):
        def make_context(self, info_name: str | None, args: list[str], *given: Any, **more: Any) -> Any:
            as_json = "--json" in args
            try:
                return parser_of(command).make_context(info_name, args, *given, **more)
            except WRONG_USE as error:
                if as_json:
                    typer.echo(json.dumps({"error": said_in_a_line(error)}, ensure_ascii=False))
                raise

    line.command(command.name, help=command.help, cls=Later)(lambda: None)


def said_in_a_line(error: Any) -> str:
    """Why a line was refused. error: one of WRONG_USE."""
    return " ".join(error.format_message().split())


def parser_of(command: Command) -> Any:
    """Click's command, with all its options."""

    def called(**given: Any) -> None:
        from search.session.console import speaking

        gc.enable()
        with speaking(quiet=bool(given.pop("quiet")), as_json=bool(given.pop("json"))):
            command.run(given)

    parameters = [*_parameters(command)]
    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {each.name: each.annotation for each in parameters}
    alone = typer.Typer(rich_markup_mode="rich", add_completion=False)
    alone.command(command.name, help=command.help, context_settings=command.settings)(called)
    return typer.main.get_command(alone)


def fields_on_line(model: type[Options]) -> dict[str, FieldInfo]:
    """The fields that are options or arguments: those of the model itself first, then those of what it extends."""
    names = [name for kind in model.__mro__ for name in vars(kind).get("__annotations__", {})]
    fields = model.model_fields
    return {name: fields[name] for name in names if name in fields and fields[name].description}


def _parameters(command: Command) -> list[inspect.Parameter]:
    """The options of the model, and those that say how the command is told and how it answers."""
    from search.options import EXPERIMENT, CommonOptions

    fields = fields_on_line(command.model)
    made = [_parameter(name, field, help_of(command.name, name, field)) for name, field in fields.items()]
    if issubclass(command.model, CommonOptions):
        told = typer.Option(help="A YAML file with these options by name.", rich_help_panel=EXPERIMENT)
        made.append(_keyword("config", Annotated[Path | None, told], None))
    for name, text in (
        ("quiet", "Print nothing but what was asked for as data; warnings and errors go to stderr."),
        ("json", "Print one JSON object at the end, and nothing else."),
    ):
        answered = typer.Option(f"--{name}", help=text, show_default=False)
        made.append(_keyword(name, Annotated[bool | None, answered], None))
    return made


def _parameter(name: str, field: FieldInfo, text: str) -> inspect.Parameter:
    extra = _extra(field)
    if extra.get("argument"):
        kind = type_on_line(field.annotation)
        told: Any = typer.Argument(help=text, metavar=extra["metavar"])
        if field.is_required():
            return _keyword(name, Annotated[kind, told], inspect.Parameter.empty)
        return _keyword(name, Annotated[kind | None, told], None)
    kind = str if extra.get("words") else type_on_line(field.annotation)
    # A flag is given or not, and what holds by default can be denied. An option whose name Python has a word for, such
    # as `set`, is named as it is.
    dashed = name.replace("_", "-")
    names = [f"--{dashed}/--no-{dashed}" if extra.get("deniable") else f"--{dashed}"]
    told = typer.Option(*names, help=text, rich_help_panel=extra["panel"] or None, show_default=False)
    return _keyword(name, Annotated[kind | None, told], None)


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def type_on_line(annotation: Any) -> Any:
    """What the command line reads: the type without None, a word for one of several, a list for a tuple."""
    origin = get_origin(annotation)
    if origin in (Union, UnionType):
        (annotation,) = (part for part in get_args(annotation) if part is not NoneType)
        return type_on_line(annotation)
    if origin is Literal:
        return str
    return list[str] if origin is tuple else annotation


def help_of(command: str, name: str, field: FieldInfo) -> str:
    """The text of an option and its default, with those of datasets that have one of their own."""
    text, shown = field.description or "", _extra(field).get("shown", "")
    if not shown and field.annotation is not bool and not field.is_required():
        shown = "" if field.default in (None, (), "") else _said(field.default)
    special = [
        f"{_said(entry.defaults[command][name])} on {dataset}"
        for dataset, entry in DATASETS.items()
        if name in entry.defaults.get(command, {})
    ]
    told = "; ".join([shown] * bool(shown) + special)
    return f"{text} Default: {told}." if told else text


def _said(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _extra(field: FieldInfo) -> dict[str, Any]:
    return field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
