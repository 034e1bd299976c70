"""Every command in the README and in docs/ exists with the options it is given; those that take seconds are run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from helpers.pages import PAGES, ROOT, blocks, prose_of
from typer.testing import CliRunner

from search.cli import app
from search.commands.registry import COMMANDS as REGISTRY
from search.commands.study.registry import STUDIES

# What a block of docs/CLUSTER.md needs that a test does not have; a block without such a line would have to be run.
NEEDS = ("# needs a cloud account", "# needs several machines", "# needs a package index")
PROGRAMS = {"chmod", "docker", "export", "kubectl", "pip", "ray", "structnet"}


def lines(block: str) -> list[list[str]]:
    """Its commands as words, without comments and where their output goes."""
    found = (shlex.split(line, comments=True) for line in block.splitlines())
    return [words[: words.index(">")] if ">" in words else words for words in found if words]


def structnet_commands(page: Path) -> Iterator[list[str]]:
    """The words after `structnet` wherever a page has it in code: inline, in blocks, and inside other commands."""
    fenced = [line for language in ("", "sh") for block in blocks(page, language) for line in lines(block)]
    spans = re.findall(r"`([^`]+)`", prose_of(page))
    inline = [shlex.split(span) for span in spans if re.search(r"\bstructnet\s", span)]
    for words in fenced + inline:
        # `ray exec` takes a whole command as one word.
        flat = [
            part for word in words for part in (word.split() if word.startswith("structnet ") else [word])
        ]
        for index, word in enumerate(flat):
            if word in ("structnet", ".venv/bin/structnet") and flat[index + 1 :] != ["…"]:
                yield flat[index + 1 :]


class Wrong(Exception):
    """A command that does not exist, or not with these options."""


def check(command: Any, words: list[str], name: str) -> None:
    """Raises Wrong for what the command does not take; what … leaves out may be needed.

    command: of Click or of Typer, which has a Click of its own.
    """
    given = [word for word in words if word != "…"]
    while hasattr(command, "commands"):
        if given and given[0] in {option for each in command.params for option in each.opts}:
            return
        if not given or given[0] not in command.commands:
            raise Wrong(f"{name} has no command {given[:1]}")
        command, name, given = command.commands[given[0]], f"{name} {given[0]}", given[1:]
    try:
        command.make_context(name, given)
    except Exception as error:
        if type(error).__name__ != "MissingParameter" or "…" not in words:
            raise Wrong(f"{name} {' '.join(given)}: {error}") from error


COMMANDS = [(page.name, words) for page in PAGES for words in structnet_commands(page)]


def test_the_pages_have_commands() -> None:
    assert {name for name, _ in COMMANDS} >= {"README.md", "CLUSTER.md", "RESULTS.md"}
    assert len(COMMANDS) > 60
    assert {words[0] for _, words in COMMANDS} >= {
        "grow",
        "hunt",
        "query",
        "predict",
        "study",
        "sweep",
        "bench",
    }


def test_the_page_of_all_commands_has_them_all() -> None:
    page = (ROOT / "docs" / "COMMANDS.md").read_text(encoding="utf-8")
    firsts = [row.split("|")[1] for row in page.splitlines() if row.startswith("| `")]
    assert sorted(re.findall(r"`([a-z]+)`", "".join(firsts))) == sorted(REGISTRY)


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=[" ".join(words)[:60] for _, words in COMMANDS])
def test_a_command_of_the_pages_exists_with_its_options(page: str, words: list[str]) -> None:
    check(typer.main.get_command(app), words, "structnet")
    if words[0] == "study":
        assert words[1] in {*STUDIES, "list", "NAME"}


@pytest.mark.parametrize(
    "words",
    [
        ["hnut"],
        ["--instal-completion"],
        ["hunt", "--densty", "0.1"],
        ["grow", "--epochs", "many"],
        ["grow", "--name"],
        ["predict", "one"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_would_be_found(words: list[str]) -> None:
    with pytest.raises(Wrong):
        check(typer.main.get_command(app), words, "structnet")


CLUSTER = ROOT / "docs" / "CLUSTER.md"


def test_every_block_about_clusters_says_what_it_needs() -> None:
    found = blocks(CLUSTER, "sh")
    assert len(found) >= 5
    for block in found:
        assert block.startswith(NEEDS), block
        assert {words[0] for words in lines(block)} <= PROGRAMS, block


def test_the_commands_of_ray_exist_with_their_options() -> None:
    from ray.scripts.scripts import cli

    words = [words for block in blocks(CLUSTER, "sh") for words in lines(block) if words[0] == "ray"]
    assert {tuple(each[:3]) for each in words} >= {("ray", "job", "submit"), ("ray", "up", "--yes")}
    for each in words:
        check(cli, each[1:], "ray")
    with pytest.raises(Wrong):
        check(cli, ["up", "--no-such-option", "cluster.yaml"], "ray")


@pytest.mark.usefixtures("ray_session")
def test_the_first_commands_of_the_readme_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> str:
        done = CliRunner().invoke(app, words, env={"COLUMNS": "200"})
        assert done.exit_code == 0, done.output
        return done.output

    # What `make grow` runs, shorter, and the line that the README shows after it.
    short = ("--epochs", "4", "--rounds", "1", "--candidates", "2", "--workers", "1")
    run("grow", "--target-accuracy", "0.6", *short, "--name", "NAME")
    (query,) = (
        words
        for words in structnet_commands(ROOT / "README.md")
        if words[0] == "query" and len(words) == 2 and words[1].startswith("select round, action")
    )
    found = [line.split() for line in run(*query).splitlines()]
    rounds = [int(words[0]) for words in found if words and words[0].isdigit()]
    assert rounds == list(range(len(rounds))) and len(rounds) > 3  # the seed, a round, and a path of sizes
    snapshot = sorted((tmp_path / "results/snapshots/NAME").glob("*.safetensors"))[-1]
    (tmp_path / "new.csv").write_text(",".join(f"p{n}" for n in range(64)) + "\n" + ",".join("0" * 64) + "\n")
    assert "prediction" in run("predict", str(snapshot.with_suffix("")), "new.csv")
    assert "overshoot" in run("study", "list")
    assert "Nothing was run" in run("sweep", "--focus", "economy", "--preview")
