"""Every link between the pages leads to a file and a heading that are there, and every page can be found."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from helpers.pages import ALL_PAGES, ROOT, prose_of

PAGES = [*ALL_PAGES, ROOT / "CHANGELOG.md"]


def links(page: Path) -> list[str]:
    """The targets of a page's links and pictures that are not on the web."""
    targets = re.findall(r"\]\(([^)\s]+)\)", prose_of(page))
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", prose_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{page.name}: {link}"
        assert not anchor or anchor in anchors(target), f"{page.name}: {link}"


def test_every_page_of_the_documentation_can_be_reached_from_the_readme() -> None:
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        reached.add(page)
        named = {(page.parent / link.partition("#")[0]).resolve() for link in links(page)}
        waiting += [each for each in named if each.suffix == ".md" and each not in reached]
    assert reached >= set(PAGES)
