"""Ctrl-C is one line and exit code 130, whenever it comes, and if it comes twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.process_cases import PATIENCE_SECONDS

from structnet.storage.tables import read_table

ROOT = str(Path(__file__).parents[2])
COMMAND = """
import search.cli
main = search.cli.main
search.cli.main = lambda: (print("ready", flush=True), main())
search.cli.script()
"""
VALIDATE = ("validate", "--epochs=100000", "--name=run")
HUNT = ("hunt", "--rng-seeds=4", "--epochs=400", "--name=run")
GROW = ("grow", "--epochs=400", "--name=run")


def started(code: str, *arguments: str, cwd: Path, **environment: str) -> subprocess.Popen[str]:
    """A Python process, once it has said that it is ready."""
    running = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": ROOT, "PYTHONUNBUFFERED": "1", "COLUMNS": "200", **environment},
    )
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"
    return running


def twice(running: subprocess.Popen[str], gap: float) -> None:
    running.send_signal(signal.SIGINT)
    time.sleep(gap)
    if running.poll() is None:
        running.send_signal(signal.SIGINT)


def assert_one_line(running: subprocess.Popen[str], folder: Path) -> None:
    """It ends with code 130 and says so in one line, and what it had claimed is free."""
    out, err = running.communicate(timeout=PATIENCE_SECONDS)
    assert running.returncode == 130, out + err
    lines = [*err.strip().splitlines(), *(line for line in out.splitlines() if "interrupted" in line)]
    assert len(lines) == 1 and "interrupted" in lines[0], out + err
    assert not list(folder.rglob("claims")), out + err


def test_a_command_that_is_interrupted_twice_says_one_line(tmp_path: Path) -> None:
    running = {}
    for delay in (0.0, 0.2, 0.6, 1.2, 2.5):
        (folder := tmp_path / str(delay)).mkdir()
        running[delay] = started(COMMAND, *VALIDATE, cwd=folder)
        time.sleep(delay)
        twice(running[delay], 0.05)
    for delay, process in running.items():
        assert_one_line(process, tmp_path / str(delay))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "gap"),
    [(VALIDATE, 0.0), (GROW, 0.1), (HUNT, 0.1), (HUNT, 2.5)],
    ids=lambda value: value[0] if isinstance(value, tuple) else None,
)
def test_so_it_does_at_any_moment(line: tuple[str, ...], gap: float, tmp_path: Path, short: Path) -> None:
    for delay in (0.0, 0.2, 0.4, 0.6, 0.9, 1.2, 1.7, 2.5, 3.5, 5.0, 7.0, 9.0, 12.0, 15.0):
        (folder := tmp_path / str(delay)).mkdir()
        running = started(COMMAND, *line, cwd=folder, RAY_TMPDIR=str(short))
        time.sleep(delay)
        twice(running, gap)
        assert_one_line(running, folder)


@pytest.mark.slow
def test_work_that_is_interrupted_twice_is_written(tmp_path: Path) -> None:
    running = started(COMMAND, *VALIDATE, cwd=tmp_path)
    while not (rows := read_table(str(tmp_path / "results"), "experiments").to_pylist()):
        assert running.poll() is None
        time.sleep(0.05)
    assert rows[0]["status"] == "running"
    twice(running, 0.0)
    assert_one_line(running, tmp_path)
    assert read_table(str(tmp_path / "results"), "experiments").to_pylist()[0]["status"] == "interrupted"


def test_ctrl_c_is_answered_before_anything_heavy_is_imported() -> None:
    code = "import sys, search.cli; print(*{'typer', 'pydantic', 'numpy', 'pyarrow'} & set(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": ROOT}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("\n", "")


@pytest.mark.parametrize("takes_it", ["pass", "sys.exit(130)"])
def test_a_command_that_has_nothing_to_say_is_given_a_line(takes_it: str, tmp_path: Path) -> None:
    """The parser of the command line makes a SystemExit of a KeyboardInterrupt, and says nothing."""
    code = f"""
import sys, time, search.cli
def main():
    try:
        print("ready", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        {takes_it}
        raise
search.cli.main = main
search.cli.script()
"""
    running = started(code, cwd=tmp_path)
    running.send_signal(signal.SIGINT)
    assert running.communicate(timeout=PATIENCE_SECONDS) == ("", "structnet: interrupted\n")
    assert running.returncode == 130


# What the answers are made of, in processes that do nothing else

BEGIN = (
    "import sys, time; from search.session import interrupts;"
    "answering = interrupts.answering_ctrl_c(); answering.__enter__()\n"
)


def ended(code: str, *pauses: float, cwd: Path) -> tuple[int, str, str]:
    """Code, output and errors of a process that gets Ctrl-C after these pauses."""
    running = started(BEGIN + code, cwd=cwd)
    for pause in pauses:
        time.sleep(pause)
        running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=PATIENCE_SECONDS)
    return running.returncode, out, err


def test_work_has_the_time_to_end_though_the_key_is_pressed_twice(tmp_path: Path) -> None:
    code = """
try:
    with interrupts.ending_in_order():
        print("ready")
        time.sleep(60)
except KeyboardInterrupt:
    time.sleep(0.5)
    print("written")
    interrupts.line_is_said()
    interrupts.say_line()
    sys.exit(interrupts.CODE)
"""
    assert ended(code, 0.1, 0.1, cwd=tmp_path) == (130, "written\n", "")


def test_a_later_key_ends_what_does_not_end(tmp_path: Path) -> None:
    code = """
interrupts._SAME_KEY_SECONDS = 0.1
try:
    print("ready")
    time.sleep(60)
finally:
    time.sleep(60)
"""
    assert ended(code, 0.1, 0.5, cwd=tmp_path) == (130, "", "structnet: interrupted\n")


def test_what_a_destructor_swallows_comes_again(tmp_path: Path) -> None:
    code = """
class Slow:
    def __del__(self):
        print("ready")
        time.sleep(60)
try:
    Slow()
    time.sleep(60)
except KeyboardInterrupt:
    print("ends")
"""
    assert ended(code, 0.1, cwd=tmp_path) == (0, "ends\n", "")


def test_other_errors_of_destructors_are_told_as_ever(tmp_path: Path) -> None:
    code = """
class Broken:
    def __del__(self):
        raise ValueError("of this test")
print("ready")
Broken()
"""
    returned, _, err = ended(code, cwd=tmp_path)
    assert returned == 0 and "ValueError: of this test" in err


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import slow", (130, "", "structnet: interrupted\n")),
        ("with interrupts.ending_in_order(): import slow", (0, "swallowed\n", "")),
    ],
)
def test_an_import_is_left_at_once_unless_work_has_begun(
    code: str, expected: tuple[int, str, str], tmp_path: Path
) -> None:
    """Some modules catch whatever comes up while they are imported."""
    module = "import time\ntry:\n    print('ready')\n    time.sleep(60)\nexcept:\n    print('swallowed')\n"
    (tmp_path / "slow.py").write_text(module)
    assert ended(f"sys.path.insert(0, '.')\n{code}", 0.1, cwd=tmp_path) == expected


def test_what_is_left_at_once_has_no_name_any_more(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import time\nprint('ready')\ntime.sleep(60)\n")
    code = """
from structnet.storage.claims import claim_name
claim = claim_name("results", "run")
sys.path.insert(0, ".")
import slow
"""
    assert ended(code, 0.1, cwd=tmp_path) == (130, "", "structnet: interrupted\n")
    assert not list((tmp_path / "results").iterdir())


def test_after_the_command_it_ends_the_process_at_once(tmp_path: Path) -> None:
    code = """
answering.__exit__(None, None, None)
try:
    print("ready")
    time.sleep(60)
except BaseException:
    print("not reached")
"""
    assert ended(code, 0.1, cwd=tmp_path) == (130, "", "structnet: interrupted\n")


def test_the_end_itself_is_ended_by_a_later_key(tmp_path: Path) -> None:
    """A store that does not answer, for instance, keeps what is to be given up there."""
    (tmp_path / "slow.py").write_text("import time\nprint('ready')\ntime.sleep(60)\n")
    code = """
from structnet.storage import claims
interrupts._SAME_KEY_SECONDS = 0.3
claims.release_all = lambda: time.sleep(60)
sys.path.insert(0, ".")
import slow
"""
    began = time.monotonic()
    assert ended(code, 0.1, 0.0, 0.6, cwd=tmp_path) == (130, "", "structnet: interrupted\n")
    assert time.monotonic() - began < 40


def test_in_the_background_of_a_shell_it_is_ignored(tmp_path: Path) -> None:
    code = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    code += f"{BEGIN}print('ready'); time.sleep(0.5); print('goes on')"
    running = started(code, cwd=tmp_path)
    running.send_signal(signal.SIGINT)
    assert running.communicate(timeout=PATIENCE_SECONDS) == ("goes on\n", "")
