"""The site of the pages: its reference has all that there is, it builds without a warning, and loads nothing else."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote, urlsplit

import pytest
from helpers.pages import DOCS, ROOT

from search.command import Command, Group
from search.commands.query.questions import QUESTIONS
from search.commands.registry import COMMANDS
from search.commands.study.registry import STUDIES
from search.line import fields_on_line
from structnet.actions import ACTIONS
from structnet.storage.schemas import SCHEMAS


@pytest.fixture
def reference(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """What makes the pages of docs/reference."""
    monkeypatch.syspath_prepend(str(DOCS))
    return importlib.import_module("reference")


def sections(page: str, level: int = 2) -> dict[str, str]:
    """The text below each heading of this level, down to the next of it or a higher one."""
    parts = re.split(rf"^(#{{1,{level}}}) (.*)$", page, flags=re.MULTILINE)
    return {
        name: text for marks, name, text in zip(parts[1::3], parts[2::3], parts[3::3]) if len(marks) == level
    }


def commands() -> dict[str, Command]:
    """Every command by its whole name."""
    found = {}
    for name, each in COMMANDS.items():
        if isinstance(each, Group):
            found |= {f"structnet {name} {one.name}": one for one in each.commands}
        else:
            found[f"structnet {name}"] = each
    return found


def test_the_reference_has_every_option_of_every_command(reference: ModuleType) -> None:
    page = reference.command_reference()
    told = sections(page) | sections(page, 3)
    for name, command in commands().items():
        text = told[name]
        assert command.help in text
        options = {
            f"`--{field.replace('_', '-')}`"
            for field, told_of in fields_on_line(command.model).items()
            if not (isinstance(told_of.json_schema_extra, dict) and told_of.json_schema_extra.get("argument"))
        }
        assert options <= set(re.findall(r"`--[a-z0-9-]+`", text)), name
    assert "| `--rounds` | whole number |" in told["structnet grow"]
    assert "| `SNAPSHOT` | text | " in told["structnet predict"]


def test_the_reference_has_every_column_of_every_table(reference: ModuleType) -> None:
    told = sections(reference.table_reference())
    assert list(told) == list(SCHEMAS)
    for table, schema in SCHEMAS.items():
        rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \|$", told[table], re.MULTILINE)
        assert [name for name, _, _ in rows] == schema.names
        assert all(len(text) > 5 for _, _, text in rows)
    assert "| `architecture` | list of whole numbers |" in told["rounds"]
    assert "Key: `experiment`, `trial`, `round`." in told["rounds"]


def test_the_reference_has_every_question_action_and_study(reference: ModuleType) -> None:
    assert list(sections(reference.question_reference())) == list(QUESTIONS)
    told = sections(reference.action_reference())
    assert list(told) == list(ACTIONS)
    assert "*growth, keeps the output*" in told["patch"] and "GradMax" not in told["patch"]
    page = reference.study_reference()
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == set(STUDIES)


def test_what_a_program_may_count_on_is_there_and_says_what_it_is(reference: ModuleType) -> None:
    for module, names in reference.PUBLIC.items():
        for name in names:
            assert getattr(importlib.import_module(module), name).__doc__, f"{module}.{name}"


def test_our_docstrings_become_restructured_text(reference: ModuleType) -> None:
    lines = ["`a_b` is w * v_ of |x|, as `--c`."]
    assert reference.docstring_as_rst(lines) == [r"``a_b`` is w \* v\_ of \|x\|, as ``--c``."]


def test_a_page_of_the_root_has_its_links_from_where_it_is_put(reference: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "PAGE.md").write_text(
        "[a](docs/DATA.md#tables) [b](CHANGELOG.md) [c](LICENSE) [d](https://e.org/x) [e](#here) [f](README.md)"
    )
    assert reference.page_of_the_root(tmp_path / "PAGE.md") == (
        "[a](../DATA.md#tables) [b](changelog.md) [c](../../LICENSE) [d](https://e.org/x) [e](#here) [f](../index.md)"
    )


def test_bars_in_a_cell_do_not_end_it(reference: ModuleType) -> None:
    assert reference.markdown_table(("a", "b"), [("1|2", "3")]) == "| a | b |\n| --- | --- |\n| 1\\|2 | 3 |"


# The site as it is built


class Page(HTMLParser):
    """What a page of the site loads, where its links lead, and the names that links may have."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.names: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        told = {name: value for name, value in attributes if value}
        self.names |= {told[name] for name in ("id", "name") if name in told}
        if "src" in told:
            self.loaded.append(told["src"])
        if "href" in told:
            (self.loaded if tag == "link" and told.get("rel") != "search" else self.links).append(
                told["href"]
            )


def copy_of_the_sources(folder: Path) -> Path:
    """The pages and what they are made of, and nothing that an earlier build has left."""
    shutil.copytree(DOCS, folder / "docs", ignore=shutil.ignore_patterns("reference", "__pycache__"))
    for name in ("CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "cluster.yaml"):
        shutil.copy(ROOT / name, folder)
    return folder / "docs"


def build(docs: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """As `make docs` does."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipe = re.search(
        r"^docs: install\n\t\$\(BIN\)/sphinx-build (.*) docs build/docs$", makefile, re.MULTILINE
    )
    assert recipe
    command = [sys.executable, "-m", "sphinx", *recipe[1].split(), str(docs), str(site)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_site_builds_and_every_link_in_it_leads_somewhere(tmp_path: Path) -> None:
    site = tmp_path / "site"
    done = build(copy_of_the_sources(tmp_path), site)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {path: Page(path) for path in site.rglob("*.html")}
    assert {path.stem for path in pages} >= {path.stem for path in DOCS.glob("*.md")} | {
        "commands",
        "tables",
        "python",
    }
    for path, page in pages.items():
        for target in [*page.loaded, *page.links]:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                assert target not in page.loaded, f"{path.name} loads {target}"
                continue
            place = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert place.exists(), f"{path.name}: {target}"
            if parts.fragment and place in pages:
                assert unquote(parts.fragment) in pages[place].names, f"{path.name}: {target}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mistake", "warning"),
    [
        ("[nowhere](NOWHERE.md)", "NOWHERE"),
        ("[nothing](DATA.md#no-such-heading)", "no-such-heading"),
        ("{py:func}`structnet.x` {doc}`elsewhere`", "elsewhere"),
    ],
)
def test_a_link_that_leads_nowhere_ends_the_build(tmp_path: Path, mistake: str, warning: str) -> None:
    docs = copy_of_the_sources(tmp_path)
    with (docs / "FAQ.md").open("a") as page:
        page.write(f"\n{mistake}\n")
    done = build(docs, tmp_path / "site")
    assert done.returncode != 0 and warning in done.stderr
