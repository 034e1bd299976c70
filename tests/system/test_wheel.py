"""The wheel has every module and what goes with them, and nothing else; `make wheel` runs what it installs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("structnet", "tournament", "search")

pytestmark = pytest.mark.slow


def test_the_wheel_has_all_packages_and_no_tests(tmp_path: Path) -> None:
    source = tmp_path / "source"
    without = shutil.ignore_patterns("__pycache__")
    for package in (*PACKAGES, "tests"):
        shutil.copytree(ROOT / package, source / package, ignore=without)
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", str(tmp_path), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = (file for package in PACKAGES for file in (source / package).rglob("*") if file.is_file())
    assert packed == {file.relative_to(source).as_posix() for file in files}
    assert {f"{package}/py.typed" for package in ("structnet", "tournament")} <= packed


def test_a_new_user_finds_the_way(tmp_path: Path) -> None:
    """From the wheel, in an environment that has nothing else: a first network, its report, questions, a C header."""
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(tmp_path),
        str(ROOT),
    ]
    subprocess.run(build, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "new", with_pip=True)
    program = tmp_path / "new" / "bin"
    install = ["install", "--quiet", "--constraint", str(ROOT / "constraints.txt"), str(wheel)]
    timed(tmp_path, program / "pip", *install)

    first = timed(tmp_path, program / "structnet")
    assert "structnet demo" in first
    grown = timed(tmp_path, program / "structnet", "demo")
    (page,) = re.findall(r"^Report: (\S+)$", grown, re.MULTILINE)
    assert (tmp_path / page).is_file()
    snapshot = re.findall(r"^Snapshot: (\S+)\.safetensors$", grown, re.MULTILINE)[-1]
    assert "results/reports/index.html" in timed(tmp_path, program / "structnet", "report")
    assert "champions" in timed(tmp_path, program / "structnet", "query", "--list")
    timed(tmp_path, program / "structnet", "export", snapshot, "--to", "c", "--int8")
    assert list(tmp_path.rglob("*.h"))


def timed(folder: Path, *command: str | Path) -> str:
    """What a command prints, as a new user calls it; says how long it took."""
    began = time.monotonic()
    path = {"PATH": f"{Path(command[0]).parent}:{os.environ['PATH']}"}
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    ended = subprocess.run([*map(str, command)], cwd=folder, env=kept | path, capture_output=True, text=True)
    print(f"{Path(command[0]).name} {' '.join(map(str, command[1:2]))}: {time.monotonic() - began:.1f} s")
    assert ended.returncode == 0, ended.stderr
    return ended.stdout
