"""Every block of the pages is code that a test runs or reads, or says that it is text; and no page is too long."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.documented_data import write_mnist_of_digits
from helpers.hugging_face_cases import TOKENS, adapted, removed
from helpers.pages import ALL_PAGES, DOCS, FOLLOWED, ROOT, Block, blocks, blocks_of
from sklearn.datasets import load_wine

from structnet import StructNet, load_dataset
from structnet.heads.hugging_face import save_pruned
from structnet.storage.tables import TableWriter
from tournament import Tournament

WORDS = 1500
REFERENCES = ("RESULTS.md",)
# First words of a line of a block in no language, or in sh.
PROGRAMS = {
    *(
        "apt-get",
        "cat",
        "cc",
        "chmod",
        "docker",
        "export",
        "head",
        "kubectl",
        "ls",
        "make",
        "pip",
        "prometheus",
    ),
    *(
        "python",
        "python3",
        "ray",
        "source",
        "structnet",
        "tail",
        "./check",
        ".venv/bin/pip",
        ".venv/bin/pytest",
    ),
    ".venv/bin/structnet",
}
# Where the Python of a page is run, if not here.
PYTHON_ELSEWHERE = {
    "README.md": "system/test_readme.py",
    "EXPORT.md": "search/test_export_command.py",
    "ACTIONS.md": "system/test_docs_actions.py",
    "TABLE_TO_C.md": "system/test_docs_tutorials.py",
    "PICTURES_TO_ONNX.md": "system/test_docs_tutorials.py",
}


def is_a_command(block: Block, page: Path) -> None:
    for line in block.text.splitlines():
        if words := shlex.split(line, comments=True):
            assert words[0] in PROGRAMS, f"{page.name}: {line}"


def is_read_by(read: Callable[[str], Any]) -> Callable[[Block, Path], None]:
    def check(block: Block, page: Path) -> None:
        read(block.text)

    return check


def is_run(block: Block, page: Path) -> None:
    where = PYTHON_ELSEWHERE.get(page.name, "system/test_docs_blocks.py")
    test = (ROOT / "tests" / where).read_text(encoding="utf-8")
    assert page.name in test, f"{where} runs the Python of {page.name}, but does not name it"


def names_pages(block: Block, page: Path) -> None:
    for line in block.text.splitlines():
        if line and not line.startswith((":", "reference/")):
            assert (DOCS / f"{line}.md").exists(), f"{page.name}: {line}"


# What a language stands for, and what is asked of a block in it. C is compiled where the page is followed or exported.
LANGUAGES: dict[str, Callable[[Block, Path], None]] = {
    "": is_a_command,
    "sh": is_a_command,
    "python": is_run,
    "yaml": is_read_by(yaml.safe_load),
    "json": is_read_by(json.loads),
    "c": is_read_by(lambda text: None),
    "text": is_read_by(lambda text: None),
    "{toctree}": names_pages,
}


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: page.name)
def test_every_block_of_a_page_is_of_a_kind_that_is_tested(page: Path) -> None:
    for block in blocks_of(page):
        assert block.language in LANGUAGES, (
            f"{page.name} has a block in '{block.language}': {block.text[:60]}"
        )
        LANGUAGES[block.language](block, page)


def test_every_extra_that_a_page_installs_is_there() -> None:
    texts = "".join(page.read_text(encoding="utf-8") for page in ALL_PAGES)
    named = {
        name for found in re.findall(r"(?:structnet|\.)\[([a-z0-9,]+)\]'", texts) for name in found.split(",")
    }
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {"heads", "onnx"} <= named <= {*extras}


def test_all_c_of_the_pages_is_compiled_by_tests() -> None:
    with_c = {page.name for page in ALL_PAGES if blocks(page, "c")}
    assert with_c == {"EXPORT.md", "TABLE_TO_C.md"}


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_a_page_is_read_in_minutes(page: Path) -> None:
    assert page.name in REFERENCES or len(page.read_text(encoding="utf-8").split()) <= WORDS


def test_numbers_among_the_findings_are_those_of_the_results() -> None:
    """But for counts of what the sentence itself names."""
    results = (DOCS / "RESULTS.md").read_text(encoding="utf-8")
    told = re.sub(r"\]\([^)]*\)", "]", (DOCS / "FINDINGS.md").read_text(encoding="utf-8"))
    numbers = re.findall(r"(?<![\w.-])\d[\d,]*\.?\d+(?![\w-])", told)
    assert len(numbers) > 20
    assert [number for number in numbers if number not in results] == []


# The Python of each page


def run_python(page: str, folder: Path, names: dict[str, Any], patch: pytest.MonkeyPatch) -> dict[str, Any]:
    """All its blocks, one after the other, in this folder."""
    patch.chdir(folder)
    for text in blocks(DOCS / page, "python"):
        exec(compile(text, page, "exec"), names)
    return names


def test_the_python_on_data_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = load_wine(return_X_y=True, as_frame=True)
    names = run_python("DATA.md", tmp_path, {"X": X, "y": y, "X_new": X[:50], "y_new": y[:50]}, monkeypatch)
    assert names["grown"].score(X, y) > 0.8
    assert {path.name for path in tmp_path.iterdir()} == {"species.json", "species.safetensors"}


def test_the_python_on_maps_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mnist_of_digits(tmp_path / "data")
    names = run_python("MAPS.md", tmp_path, {}, monkeypatch)
    assert names["net"].architecture[0] == 1 and names["net"].parameter_count <= 1000


def test_the_python_on_heads_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pruned = removed(adapted("gpt2"), [(0, 1)])
    place = tmp_path / "results/reports/NAME/NETWORK/model/hugging_face"
    place.parent.mkdir(parents=True)
    save_pruned(pruned.module, place)
    names = run_python("SEARCH.md", tmp_path, {"input_ids": TOKENS}, monkeypatch)
    assert names["logits"].shape == (*TOKENS.shape, 50)


def test_the_python_on_tables_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = load_dataset("digits")
    seed = StructNet([64, 12, 10], 0.2, ensure_paths=True)
    told: dict[str, Any] = {"epochs": 2, "rounds": 1, "candidates": 2, "heat_steps": 20, "front": (80, 100)}
    Tournament(seed, data, policy="score", writer=TableWriter(f"{tmp_path}/results", "NAME"), **told).run()
    names = run_python("QUERY.md", tmp_path, {}, monkeypatch)
    assert len(names["best"]) > 2
    assert "NAME" in capsys.readouterr().out


def test_pages_are_the_ones_that_are_followed() -> None:
    assert {page.name for page in ALL_PAGES if page.name in FOLLOWED} == {*FOLLOWED}
    run_here = {page.name for page in ALL_PAGES if blocks(page, "python")} - {*PYTHON_ELSEWHERE}
    assert run_here == {"DATA.md", "MAPS.md", "QUERY.md", "SEARCH.md"}
