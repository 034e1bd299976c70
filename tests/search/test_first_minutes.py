"""What somebody sees first: the line without a command, completion, a first line at once, and what columns mean."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.command_cases import GROWN, structnet

from search.command import Command
from search.commands.registry import COMMANDS
from search.line import FIRST_STEPS
from search.session.progress import EXPLAINED

ROOT = Path(__file__).parents[2]
PROGRAM = str(Path(sys.executable).parent / "structnet")
HEAVY = {"numpy", "pyarrow", "torch", "ray", "pandas", "duckdb", "altair"}
FIRST_LINE = "The job: the size from which on a doubling gains less than 0.01 of the label's entropy."


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def imported_by(*line: str) -> set[str]:
    """The modules that are there once a command has ended."""
    done = python(
        f"import sys\nsys.argv = ['structnet', *{line!r}]\nimport search.cli\n"
        "try:\n    search.cli.main()\nexcept SystemExit:\n    pass\n"
        "sys.stderr.write(' '.join(sys.modules))"
    )
    return set(done.stderr.split())


def test_without_a_command_there_are_five_lines_that_can_be_typed() -> None:
    done = structnet()
    assert done.code == 0 and not done.err
    lines = done.out.splitlines()
    assert len(lines) == 5
    assert [line.split("  ")[0] for line in lines] == [command for command, _ in FIRST_STEPS]
    for line in lines:
        name = line.split()[1]
        assert name == "--help" or name in COMMANDS


def test_the_options_of_the_first_steps_exist() -> None:
    for command, _ in FIRST_STEPS:
        _, name, *options = command.split()
        if name != "--help":
            one = COMMANDS[name]
            assert isinstance(one, Command)
            fields = one.model.model_fields
            assert {
                option[2:].replace("-", "_") for option in options if option.startswith("--")
            } <= fields.keys()


def test_lists_of_commands_import_none_of_them() -> None:
    found = imported_by("--help")
    assert not found & HEAVY
    assert not {name for name in found if name.startswith("search.commands.") and name.count(".") > 2}


@pytest.mark.parametrize("name", [name for name, each in COMMANDS.items() if isinstance(each, Command)])
def test_a_room_says_what_it_has_without_importing_it(name: str) -> None:
    """And what it says is there."""
    command = COMMANDS[name]
    assert isinstance(command, Command)
    for place in (command.options, command.function, *([command.defaults] if command.defaults else [])):
        module, _, attribute = place.partition(":")
        assert (ROOT / f"{module.replace('.', '/')}.py").exists() and attribute
    assert command.model.__name__ == command.options.partition(":")[2]


def test_the_help_of_a_command_imports_no_other() -> None:
    found = imported_by("grow", "--help")
    assert not found & HEAVY
    rooms = {
        name.split(".")[2] for name in found if name.startswith("search.commands.") and name.count(".") > 2
    }
    assert rooms == {"grow"}


def test_grow_says_a_line_before_anything_heavy_is_imported() -> None:
    code = (
        "import sys\nimport search.commands.grow.run as grow\n"
        "def ends(options):\n    print(*{'torch', 'ray', 'duckdb'} & set(sys.modules))\n    sys.exit()\n"
        "grow.load_data = ends\n"
        "from search.commands.registry import COMMANDS\nCOMMANDS['grow'].run({})\n"
    )
    done = python(code)
    assert done.stdout.splitlines() == [FIRST_LINE, ""], done.stderr


@pytest.mark.slow
def test_a_first_run_explains_its_columns_and_no_later_one(grown: tuple[Path, str], tmp_path: Path) -> None:
    folder, said = grown
    lines = said.splitlines()
    place = lines.index(EXPLAINED.splitlines()[0])
    assert "\n".join(lines[place : place + 3]) == EXPLAINED
    assert lines[place + 3].startswith("round 0")
    shutil.copytree(folder / "results", tmp_path / "results")
    done = structnet("grow", *GROWN, "--epochs=1", "--rounds=1", "--no-opponents", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "round 0" in done.out and EXPLAINED.splitlines()[0] not in done.out


def completed(words: str) -> list[str]:
    """What a shell is told after these words, the last of which is not finished."""
    done = subprocess.run(
        [PROGRAM],
        env={
            **os.environ,
            "_STRUCTNET_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split()) - 1),
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_a_shell_completes_commands_and_options() -> None:
    assert completed("structnet gr") == ["grow"]
    assert completed("structnet grow --target-acc") == ["--target-accuracy"]
    assert completed("structnet queue li") == ["list"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_is_printed(shell: str) -> None:
    done = subprocess.run(
        [PROGRAM, "--show-completion", shell],
        env={**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "_STRUCTNET_COMPLETE" in done.stdout


@pytest.mark.slow
def test_the_documented_line_installs_completion(tmp_path: Path) -> None:
    (tmp_path / ".bashrc").write_text("# mine\n")
    done = subprocess.run(
        [PROGRAM, "--install-completion", "bash"],
        env={**os.environ, "HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    script = (
        'COMP_WORDS=(structnet gr); COMP_CWORD=1; _structnet_completion structnet; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", f"source {tmp_path}/.bashrc; {script}"],
        env={**os.environ, "HOME": str(tmp_path), "PATH": f"{Path(PROGRAM).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.split() == ["grow"], done.stderr


def seconds_to_first_line(*line: str, cwd: Path, **environment: str) -> float:
    started = time.perf_counter()
    running = subprocess.Popen(
        [PROGRAM, *line],
        cwd=cwd,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert running.stdout is not None
    assert running.stdout.readline()
    taken = time.perf_counter() - started
    running.kill()
    running.communicate()
    return taken


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "most"),
    [(("--help",), 0.3), (("grow", "--help"), 0.3), ((), 0.3), (("grow",), 1.0)],
    ids=["help", "help of grow", "no command", "first line of grow"],
)
def test_it_answers_at_once(line: tuple[str, ...], most: float, tmp_path: Path) -> None:
    taken = [seconds_to_first_line(*line, cwd=tmp_path) for _ in range(7)]
    assert statistics.median(taken) <= most, taken


@pytest.mark.slow
def test_completion_answers_at_once(tmp_path: Path) -> None:
    asked = {"_STRUCTNET_COMPLETE": "complete_bash", "COMP_WORDS": "structnet gr", "COMP_CWORD": "1"}
    taken = [seconds_to_first_line(cwd=tmp_path, **asked) for _ in range(7)]
    assert statistics.median(taken) <= 0.3, taken
