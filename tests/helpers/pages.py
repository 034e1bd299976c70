"""The pages of the documentation, and the blocks of code in them, as tests read them."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
# What shows commands, and what only people who change the code read.
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
ALL_PAGES = [*PAGES, ROOT / "CONTRIBUTING.md"]
# Followed to the letter, each from its first line to its last: test_docs_tutorials.py and test_docs_actions.py.
FOLLOWED = ("TABLE_TO_C.md", "PICTURES_TO_ONNX.md", "ACTIONS.md")

_FENCED = re.compile(r"^( *)```(\S*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    """A fenced block: its language, "" where it has none, its text, and the paragraph that stands before it."""

    language: str
    text: str
    before: str


def blocks_of(page: Path) -> list[Block]:
    """In their order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(found[2], dedent(found[3]), text[: found.start()].rstrip().rpartition("\n\n")[2])
        for found in _FENCED.finditer(text)
    ]


def prose_of(page: Path) -> str:
    """The page without its blocks."""
    return _FENCED.sub("", page.read_text(encoding="utf-8"))


def blocks(page: Path, language: str) -> list[str]:
    """The texts of its blocks in this language."""
    return [block.text for block in blocks_of(page) if block.language == language]
