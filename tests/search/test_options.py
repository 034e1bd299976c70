"""An option is said once, in a model; the command line, the file and the help come from there."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from search.cli import command_line
from search.command import Command, Group
from search.commands import registry
from search.commands.grow.command import GrowOptions
from search.line import fields_on_line, help_of, parser_of, type_on_line
from search.options import CommonOptions, Options, changeable, one_of, option
from structnet.data import datasets
from structnet.data.datasets import DatasetEntry
from structnet.errors import UserError

COMMANDS = [
    (group.name if isinstance(group, Group) else "", command)
    for group in registry.COMMANDS.values()
    for command in (group.commands if isinstance(group, Group) else [group])
]
every_command = pytest.mark.parametrize(
    ("group", "command"), COMMANDS, ids=[f"{group} {command.name}".strip() for group, command in COMMANDS]
)


@every_command
def test_the_line_has_the_options_of_the_model(group: str, command: Command) -> None:
    fields = fields_on_line(command.model)
    found = {parameter.name: parameter for parameter in parser_of(command).params}
    beside = {"quiet", "json"} | ({"config"} if issubclass(command.model, CommonOptions) else set())
    assert found.keys() == fields.keys() | beside
    for name, field in fields.items():
        parameter = found[name]
        assert parameter.help == help_of(command.name, name, field)
        assert parameter.default is None  # what is not given is known as such
        if parameter.param_type_name == "option":
            assert parameter.opts == [f"--{name.replace('_', '-')}"]
            assert parameter.is_flag == (type_on_line(field.annotation) is bool)


@every_command
def test_the_function_of_a_command_takes_its_model(group: str, command: Command) -> None:
    module, _, name = command.function.partition(":")
    __import__(module)
    (parameter,) = inspect.signature(getattr(sys.modules[module], name)).parameters.values()
    assert parameter.annotation == command.model.__name__ or parameter.annotation.endswith("Options")


def test_what_a_queue_may_stop_can_be_resumed() -> None:
    written = {
        name for name, command in registry.resumable().items() if "resume" in command.model.model_fields
    }
    assert written == set(registry.resumable()) and {"grow", "hunt", "train"} <= written
    assert not {"validate", "queue", "query"} & written


def test_the_help_of_grow_names_what_there_is() -> None:
    """Its names stand there in words, as the registries need numpy."""
    from structnet.growth.triggers import TRIGGERS
    from tournament.rules.score import POLICIES

    fields = GrowOptions.model_fields
    assert fields["trigger"].description == f"When to grow: {one_of(TRIGGERS)}."
    assert fields["policy"].description == f"{one_of(POLICIES)}."


@every_command
def test_the_help_says_a_default_once_and_as_it_is(group: str, command: Command) -> None:
    for name, field in fields_on_line(command.model).items():
        text = help_of(command.name, name, field)
        assert text.count("Default") <= 1
        if isinstance(field.default, float) and not (field.json_schema_extra or {})["shown"]:  # type: ignore[index]
            assert f"Default: {field.default:g}" in text


def test_the_help_has_the_defaults_of_datasets_too() -> None:
    page = CliRunner().invoke(command_line(), ["grow", "--help"], env={"COLUMNS": "300"}).output
    assert "Share of connections that exist in the seed. Default: 0.01, of maps 0.05; 0.05 on digits." in page
    batches = "Images per step; auto: as many as the memory has room for."
    assert f"{batches} Default: a 32nd of the training images, at most 128." in page


def test_the_line_goes_before_the_file_and_the_file_before_the_dataset(tmp_path: Path) -> None:
    grow = registry.COMMANDS["grow"]
    assert isinstance(grow, Command)
    file = tmp_path / "options.yaml"
    file.write_text("density: 0.07\nround-steps: 5\n")
    assert grow.parse({}).density == 0.05  # of digits
    assert grow.parse({"dataset": "mnist"}).density is None
    assert grow.parse({"config": file}).density == 0.07
    found = grow.parse({"config": file, "density": 0.3, "round_steps": None})
    assert (found.density, found.round_steps) == (0.3, 5)


def test_a_resume_may_change_what_changes_no_result() -> None:
    assert {"workers", "minutes", "results", "resume"} <= changeable(GrowOptions)
    assert not {"epochs", "dataset", "rng_seed"} & changeable(GrowOptions)


class ToyOptions(Options):
    """The options of a command that only the tests have."""

    times: int = option(2, "How often.", ge=1)


TOLD: list[int] = []


def run(options: ToyOptions) -> None:
    """What the toy command does."""
    TOLD.append(options.times)


def test_a_command_is_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    toy = Command("toy", "Only a test.", f"{__name__}:ToyOptions", f"{__name__}:run")
    monkeypatch.setitem(registry.COMMANDS, "toy", toy)
    page = CliRunner().invoke(command_line(), ["toy", "--help"], env={"COLUMNS": "200"}).output
    assert "How often. Default: 2." in page
    for line, times in (([], 2), (["--times", "5"], 5)):
        assert CliRunner().invoke(command_line(), ["toy", *line]).exit_code == 0
        assert TOLD.pop() == times
    refused = CliRunner().invoke(command_line(), ["toy", "--times", "0"])
    assert isinstance(refused.exception, UserError) and "times is 0" in str(refused.exception)


def load(name: str, **given: Any) -> Any:
    """A dataset that only the tests have: the digits under another name."""
    from dataclasses import replace

    return replace(datasets.load_dataset("digits"), name=name)


def test_a_dataset_is_one_entry_with_defaults_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    defaults = {"validate": {"epochs": 1, "architecture": "input,9,classes", "density": 0.5}}
    monkeypatch.setitem(datasets.DATASETS, "toy", DatasetEntry(__name__, defaults))
    page = CliRunner().invoke(command_line(), ["validate", "--help"], env={"COLUMNS": "300"}).output
    assert "Default: 3; 10 on digits; 1 on toy." in page
    assert "Default: 0.01; 0.05 on digits; 0.5 on toy." in page  # beside a default that is said in words
    line = ["validate", "--dataset", "toy", "--name", "toy", "--results", str(tmp_path)]
    done = CliRunner().invoke(command_line(), line)
    assert done.exit_code in (0, 1), done.output
    assert "64-9-10" in done.output and "on toy" in done.output
