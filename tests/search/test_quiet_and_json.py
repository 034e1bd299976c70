"""`--quiet` and `--json`: every command has both; stdout then holds what was asked for, or one object, and no more."""

from __future__ import annotations

import json
import shutil
import sys
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.command_cases import GROWN, Done, assert_refused, structnet

from search.command import Group
from search.commands.registry import COMMANDS
from search.line import parser_of
from search.session.console import Console, outcome, plain, speaking
from structnet.errors import UserError, WorkFailed
from structnet.storage.tables import read_table

EVERY = [
    (f"{each.name} {command.name}" if isinstance(each, Group) else command.name, command)
    for each in COMMANDS.values()
    for command in (each.commands if isinstance(each, Group) else [each])
]


@pytest.mark.parametrize("command", [command for _, command in EVERY], ids=[name for name, _ in EVERY])
def test_every_command_has_both(command: Any) -> None:
    options = {option for parameter in parser_of(command).params for option in parameter.opts}
    assert {"--quiet", "--json"} <= options
    assert not {"quiet", "json"} & command.model.model_fields.keys()  # so that no table has them


@pytest.fixture(scope="module")
def folder(grown: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One with a finished experiment, a file of rows and a module, in which commands may write."""
    folder = tmp_path_factory.mktemp("told")
    shutil.copytree(grown[0] / "results", folder / "results")
    row = ",".join(f"p{index}" for index in range(64)) + "\n" + ",".join(["0"] * 64) + "\n"
    (folder / "rows.csv").write_text(row)
    (folder / "nets.py").write_text(
        "from torch import nn\nprint('a line of the user')\n"
        "def small():\n    return nn.Sequential(nn.Linear(64, 4), nn.ReLU(), nn.Linear(4, 10))\n"
    )
    return folder


def snapshot(folder: Path) -> str:
    found: str = read_table(str(folder / "results"), "experiments", "first").to_pylist()[0]["snapshot"]
    return found


RESUME = ("grow", *GROWN, "--name", "first", "--resume")
VALIDATE = ("validate", "--epochs", "1", "--density", "0.2", "--batch-size", "256")
HUNT = (
    "hunt",
    "--architectures",
    "input-4-classes",
    "--densities",
    "0.5",
    "--rng-seeds",
    "1",
    "--epochs",
    "1",
    "--workers",
    "1",
)
# Each with what its object has at least.
TOLD = {
    "status": (("status",), {"experiments"}),
    "status of one": (("status", "first"), {"experiment", "status", "config", "tables"}),
    "query": (("query", "select 1 as one"), {"rows"}),
    "questions": (("query", "--list"), {"rows"}),
    "studies": (("study", "list"), {"studies"}),
    "pick": (("pick", "first", "--max-parameters", "100000"), {"chosen", "snapshot"}),
    "predict": (("predict", "SNAPSHOT", "rows.csv"), {"rows", "predictions", "accuracy"}),
    "predict to a file": (
        ("predict", "SNAPSHOT", "rows.csv", "--output", "said.csv"),
        {"output", "predictions"},
    ),
    "export": (("export", "SNAPSHOT", "--to", "torch", "--output", "out"), {"name", "files", "check"}),
    "import": (("import", "nets:small"), {"snapshot", "parameters"}),
    "queue add": (("queue", "add", "--", "grow"), {"entry"}),
    "queue list": (("queue", "list"), {"entries", "paused"}),
    "queue pause": (("queue", "pause"), {"paused"}),
    "grow": (RESUME, {"experiment", "status", "results", "tables", "rows", "snapshot", "report"}),
    "validate": ((*VALIDATE, "--name", "valid"), {"experiment", "checks", "rows"}),
    "hunt": ((*HUNT, "--name", "hunted"), {"experiment", "champions", "rows"}),
}
TRAIN = {"hunt", "validate"}
# What was asked for is data, which --quiet leaves.
DATA = {"status", "status of one", "query", "questions", "studies", "predict", "queue list"}


def run(folder: Path, words: tuple[str, ...], *more: str) -> Done:
    return structnet(*(snapshot(folder) if word == "SNAPSHOT" else word for word in words), *more, cwd=folder)


def with_options(words: tuple[str, ...], *options: str) -> tuple[str, ...]:
    """Behind the first word, or the second where that names a command of a group."""
    place = 2 if words[0] == "queue" else 1
    return *words[:place], *options, *words[place:]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name == "hunt" else name for name in TOLD]
)
def test_a_command_says_all_in_one_object(folder: Path, name: str) -> None:
    words, keys = TOLD[name]
    done = run(folder, with_options(words, "--json"))
    assert done.code in (0, 1), done.err
    told = json.loads(done.out)
    assert keys <= told.keys()
    assert "error" not in told or told["error"] is None or name == "validate"
    assert "a line of the user" not in done.out


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in TRAIN else name for name in TOLD]
)
def test_a_quiet_command_says_nothing_but_what_was_asked_for(folder: Path, name: str) -> None:
    words, _ = TOLD[name]
    fresh = {"validate": ("--name", "valid-quiet"), "hunt": ("--name", "hunted-quiet")}
    done = run(folder, with_options(words, "--quiet"), *fresh.get(name, ()))
    assert done.code in (0, 1), done.err
    said = done.out.replace("a line of the user\n", "")
    assert bool(said.strip()) == (name in DATA), said
    assert not done.err


def test_an_experiment_tells_its_rows_as_they_are(folder: Path) -> None:
    told = json.loads(run(folder, (*RESUME, "--json")).out)
    (stored,) = read_table(str(folder / "results"), "experiments", "first").to_pylist()
    (row,) = told["rows"]
    assert row["test_accuracy"] == stored["test_accuracy"] and row["config"] == json.loads(stored["config"])
    assert (told["experiment"], told["status"], told["snapshot"]) == ("first", "finished", stored["snapshot"])
    assert datetime.fromisoformat(row["started_at"]) == stored["started_at"]
    assert told["report"] is None or (folder / told["report"]).exists()
    # How it is told is no part of what it is.
    assert not {"quiet", "json"} & row["config"].keys()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("grow", "--dataset", "nonsense"), "dataset is 'nonsense'"),
        (("grow", *GROWN, "--name", "first"), "already exists"),
        (("query", "select nothing"), "nothing"),
        (("status", "frist"), "is it first?"),
        (("predict", "missing", "rows.csv"), "missing"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_failure_is_an_object_with_the_same_exit_code(
    folder: Path, words: tuple[str, ...], reason: str
) -> None:
    plainly, done = run(folder, words), run(folder, (*words, "--json"))
    assert_refused(done, reason)
    assert reason in json.loads(done.out)["error"]
    assert (plainly.code, plainly.err) == (done.code, done.err)
    assert_refused(run(folder, (*words, "--quiet")), reason)


@pytest.mark.parametrize(
    "words", [("grow", "--nonsense", "1"), ("grow", "--epochs", "many"), ("pick",)], ids=" ".join
)
def test_a_line_that_cannot_be_read_is_an_object_too(words: tuple[str, ...], tmp_path: Path) -> None:
    done = structnet(*words, "--json", cwd=tmp_path)
    assert done.code == 2 and "Usage:" in done.err
    assert json.loads(done.out)["error"] and "\n" not in json.loads(done.out)["error"]
    assert not structnet(*words, cwd=tmp_path).out


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UserError("name is 'x'"), "name is 'x'"),
        (WorkFailed("no worker is left"), "no worker is left"),
        (KeyboardInterrupt(), "interrupted"),
        (RuntimeError("a defect"), "RuntimeError: a defect"),
        (SystemExit(1), None),
        (SystemExit(0), None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_ends_a_command_it_has_an_object(
    error: BaseException, reason: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(type(error)), speaking(quiet=False, as_json=True):
        outcome(found=1)
        raise error
    expected = {"found": 1} | ({"error": reason} if reason else {})
    assert json.loads(capsys.readouterr().out) == expected


def test_what_others_print_does_not_get_into_the_object(capsys: pytest.CaptureFixture[str]) -> None:
    with speaking(quiet=False, as_json=True):
        print("a line of a library")
        Console().say("a line of ours")
        outcome(lambda: {"late": True}, early=1)
    said = capsys.readouterr()
    assert json.loads(said.out) == {"late": True, "early": 1}
    assert said.err == "a line of a library\n"
    # And what one command told, the next one does not.
    with speaking(quiet=False, as_json=True):
        pass
    assert json.loads(capsys.readouterr().out) == {}


@pytest.mark.parametrize("mode", ["plain", "quiet", "json"])
def test_a_warning_is_seen_in_any_case(mode: str, capsys: pytest.CaptureFixture[str]) -> None:
    with speaking(quiet=mode == "quiet", as_json=mode == "json"):
        Console().warn("one [class] is rare")
    said = capsys.readouterr()
    assert "one [class] is rare\n" in (said.out if mode == "plain" else said.err)


def test_a_silent_console_shows_no_bars(capsys: pytest.CaptureFixture[str]) -> None:
    with speaking(quiet=True, as_json=False):
        console = Console(force_terminal=True)
        assert not console.is_terminal
        console.show("a table")
        Console(asked=True).say("data")
    assert capsys.readouterr().out == "data\n"


def test_values_are_what_json_has() -> None:
    value = {
        "nothing": float("nan"),
        "much": [float("inf"), 1.5],
        "array": np.array([[1, 2]]),
        "number": np.float32(0.5),
        "when": datetime(2026, 1, 2, tzinfo=UTC),
        "where": Path("results"),
        1: (True, None),
    }
    assert plain(value) == {
        "nothing": None,
        "much": [None, 1.5],
        "array": [[1, 2]],
        "number": 0.5,
        "when": "2026-01-02T00:00:00+00:00",
        "where": "results",
        "1": [True, None],
    }
    json.dumps(plain(value), allow_nan=False)


def test_the_tables_of_a_module_are_no_lines_of_ours() -> None:
    """What is silent by now is heard again afterwards, also where the command failed."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserError), speaking(quiet=True, as_json=True):
            raise UserError("no")
    assert not Console().quiet and Console().file is sys.stdout
