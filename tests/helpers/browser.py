"""A browser for tests of pages: Chromium as the system has it, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")


@dataclass
class Opened:
    """A page in a browser. said: what its scripts wrote to the console or died of. loaded: what was fetched for it."""

    page: Any
    said: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser without a window. Where there is none, the test is skipped; not where CI has to have one."""
    found = next((path for path in map(shutil.which, NAMES) if path), None)
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("there is no Chromium: make browser installs it")
        pytest.skip("there is no Chromium: make browser installs it")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=[*QUIET])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(browser: Any, place: str, *, width: int = 1024, dark: bool = False) -> Iterator[Opened]:
    """A page by its URL, when its script has run."""
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if dark else "light",
        permissions=["clipboard-read", "clipboard-write"],
    )
    try:
        seen = Opened(context.new_page())
        seen.page.on("console", lambda message: seen.said.append(f"{message.type}: {message.text}"))
        seen.page.on("pageerror", lambda error: seen.said.append(f"error: {error}"))
        seen.page.on("request", lambda request: seen.loaded.append(request.url))
        seen.page.goto(place)
        seen.page.wait_for_selector("body[data-ready]")
        yield seen
    finally:
        context.close()


def look_at_all(page: Any) -> None:
    """Scrolls to the end, so that everything is drawn that waits to be seen."""
    height = page.evaluate("document.documentElement.scrollHeight")
    for place in range(0, height, 600):
        page.evaluate(f"scrollTo(0, {place})")
        page.wait_for_timeout(50)
