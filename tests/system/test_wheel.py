"""The wheel has every module and what goes with them, and nothing else; `make wheel` runs what it installs."""

from __future__ import annotations

import shutil
import subprocess
import sys
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
