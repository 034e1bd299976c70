"""The growth action that docs/ACTIONS.md writes does what every action must, and the page can be followed."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.action_cases import Case, change_of_output, eventful, make
from helpers.pages import DOCS, ROOT, blocks, blocks_of

PAGE = DOCS / "ACTIONS.md"
CODE, LINE = blocks(PAGE, "python")


@pytest.mark.parametrize("case", [make([9, 7, 4], density=0.3), make([9, 5, 5, 3], skips=True), eventful()])
def test_the_example_proposes_what_it_applies_and_keeps_the_output(case: Case) -> None:
    example: dict[str, Any] = {"__name__": "structnet.actions.feed"}
    exec(compile(CODE, "ACTIONS.md", "exec"), example)
    proposals = example["propose"](case.context())
    assert {proposal.action for proposal in proposals} == {"feed"}
    assert len(proposals) >= 2
    for proposal in proposals:
        edit = example["apply"](case.network, proposal)
        assert edit.added == proposal.parameters_added > 0
        assert change_of_output(case, edit) <= 1
        assert proposal.predicted_gain > 0


@pytest.mark.slow
def test_the_page_is_followed_to_the_letter(tmp_path: Path) -> None:
    """In a copy of the sources, with the programs of this environment; `make grow` is what these tests began with."""
    clone = tmp_path / "clone"
    kept = shutil.ignore_patterns("__pycache__", ".*", "results", "build", "*.egg-info")
    shutil.copytree(ROOT, clone, ignore=kept)
    place = re.search(r"Save this as\s+`([^`]+)`", PAGE.read_text(encoding="utf-8"))
    registry = re.search(r"`ACTIONS` of `([^`]+)`", PAGE.read_text(encoding="utf-8"))
    assert place and registry
    (clone / place[1]).write_text(CODE)
    lines = (clone / registry[1]).read_text()
    first = '        Action("patch"),\n'
    assert first in lines
    (clone / registry[1]).write_text(lines.replace(first, f"{first}        {LINE.strip()},\n"))
    programs = Path(sys.executable).parent
    environment = os.environ | {"PYTHONPATH": str(clone), "COLUMNS": "200"}
    said = ""
    for block in blocks_of(PAGE):
        for words in map(shlex.split, block.text.splitlines()) if block.language == "sh" else ():
            if words == ["make", "grow"]:
                continue
            command = [str(programs / Path(words[0]).name), *words[1:]]
            done = subprocess.run(
                command, cwd=clone, env=environment, capture_output=True, text=True, check=False
            )
            said += done.stdout
            assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    competing = [line.split()[2] for line in said.splitlines() if re.match(r"\s*\d+\s+\d+\s+\w", line)]
    assert {"patch", "widen", "feed", "train"} <= set(competing)
