"""The tutorials are followed to the letter: what they say to save is saved, what they show to run is run, in order.

And what they show as output is what comes out, but for numbers, which another machine rounds otherwise.
"""

from __future__ import annotations

import csv
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.pages import DOCS, blocks_of, prose_of

from structnet.storage.snapshot import load_snapshot

NUMBER = r"\d[\d.,@xe+-]*"


def pattern(line: str) -> str:
    """A line of a page as a regular expression: any number for a number, anything for …, any space for spaces."""
    parts = re.split(r"(…|\s+|\d[\d.,@x+-]*\d|\d)", line.strip())
    made = {"…": ".*"}
    return "".join(
        made.get(part) or (r"\s+" if part.isspace() else NUMBER if part[:1].isdigit() else re.escape(part))
        for part in parts
        if part
    )


def check_output(expected: str, found: str) -> None:
    """Every line that the page shows is there, in this order."""
    left = found.splitlines()
    for line in expected.splitlines():
        if line.strip() == "…":
            continue
        at = next((at for at, each in enumerate(left) if re.fullmatch(pattern(line), each.strip())), None)
        assert at is not None, f"{line}\nis not in\n{found}"
        left = left[at + 1 :]


class Reader:
    """Somebody who does what a page says, in an empty folder."""

    def __init__(self, page: str, folder: Path) -> None:
        self.page, self.folder = DOCS / page, folder
        self.snapshot = self.said = ""

    def follow(self) -> None:
        for block in blocks_of(self.page):
            saved = re.search(r"[Ss]ave this as\s+`([^`]+)`", block.before)
            if saved:
                (self.folder / saved[1]).write_text(block.text)
            elif block.language == "sh":
                self.said = self.run(block.text)
            else:
                assert block.language == "text", f"nothing is said of what to do with\n{block.text}"
                check_output(block.text, self.said)

    def run(self, text: str) -> str:
        """As a shell does, with the programs of this environment; it ends where one of them fails."""
        if self.snapshot:  # "take the one that yours did"
            text = re.sub(r"results/snapshots/\S+", self.snapshot, text)
        programs = str(Path(sys.executable).parent)
        environment = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"}
        command = ["bash", "-euo", "pipefail", "-c", text]
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        if "structnet grow" in text and (
            named := re.search(r"^Snapshot: (\S+)\.safetensors$", done.stdout, re.M)
        ):
            self.snapshot = named[1]
        return done.stdout

    def run_what_is_said_in_passing(self) -> None:
        for span in re.findall(r"`(structnet [^`]+)`", prose_of(self.page)):
            self.run(shlex.join([*shlex.split(span), *(["--epochs", "5"] if "grow" in span else [])]))


def predictions(path: Path) -> list[str]:
    with path.open(newline="") as file:
        return [row["prediction"] for row in csv.DictReader(file)]


@pytest.mark.slow
def test_from_a_csv_to_a_c_header(tmp_path: Path) -> None:
    reader = Reader("TABLE_TO_C.md", tmp_path)
    reader.follow()
    network = load_snapshot(str(tmp_path / reader.snapshot)).state.network
    assert network.parameter_count < 40  # the page says some ten
    # The last thing that is run is the program in C.
    assert reader.said.split() == predictions(tmp_path / "said.csv") == ["setosa", "versicolor", "virginica"]
    page = (tmp_path / "results/reports/flowers/index.html").read_text(encoding="utf-8")
    assert "virginica" in page
    reader.run_what_is_said_in_passing()


@pytest.mark.slow
def test_from_a_folder_of_pictures_to_onnx(tmp_path: Path) -> None:
    reader = Reader("PICTURES_TO_ONNX.md", tmp_path)
    reader.follow()
    network = load_snapshot(str(tmp_path / reader.snapshot)).state.network
    assert network.parameter_count < 500 and network.topology.architecture.has_maps
    assert reader.said.split() == predictions(tmp_path / "sevens.csv")[:1] == ["7"]
    assert (tmp_path / "results/reports/pictures/index.html").exists()
    reader.run_what_is_said_in_passing()


@pytest.mark.parametrize(
    ("expected", "found", "is_there"),
    [
        ("Grown: 4-3: 5 parameters, 25 bytes", "Grown: 4-12-3: 31 parameters, 1,025 bytes", True),
        ("a 1\n…\nb 2", "a 3\nx\nb 4\n", True),
        ("b 2\na 1", "a 3\nb 4", False),
        ("accuracy 93.33%, test …", "accuracy 90.00%, test 88.00% of 30", True),
        ("accuracy 93.33%", "accuracies 93.33%", False),
    ],
)
def test_output_is_compared_but_for_its_numbers(expected: str, found: str, is_there: bool) -> None:
    if is_there:
        check_output(expected, found)
    else:
        with pytest.raises(AssertionError):
            check_output(expected, found)
