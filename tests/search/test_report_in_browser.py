"""Reports in a browser: large, with hostile names, used by someone, and read by who does not see them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.browser import chromium, look_at_all, opened
from helpers.report_cases import NASTY, write_grown
from helpers.story_cases import CASES

from search.report.blocks import Chart, Page, Section, Table
from search.report.charts import Axis, beside, points
from search.report.folder import write_folder
from search.report.page import html_of
from search.report.reports import write_report

ROUNDS, FORKS = 50, 200
CLASSES = [NASTY, 'a "quoted" name', "it's", "&amp;", "plain"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A large experiment, and one whose name is as long as a name may be, both with hostile names of classes."""
    folder = tmp_path_factory.mktemp("results")
    write_grown(folder, "large", rounds=ROUNDS, forks=FORKS, names=CLASSES)
    write_grown(folder, "n" * 100, rounds=2, forks=4, names=CLASSES)
    return folder


@pytest.fixture(scope="module")
def large(results: Path) -> Path:
    return Path(write_report(str(results), "large"))


def url(path: Path) -> str:
    return path.absolute().as_uri()


def test_a_large_report_is_no_large_file(large: Path) -> None:
    assert large.stat().st_size < 3_000_000


def test_nothing_is_loaded_and_nothing_goes_wrong(browser: Any, large: Path) -> None:
    with opened(browser, url(large)) as seen:
        look_at_all(seen.page)
        seen.page.wait_for_selector("[data-chart=forks] .vega-embed svg")
        drawn = seen.page.eval_on_selector_all(
            "[data-chart]", "found => found.filter(e => 'done' in e.dataset).length"
        )
        assert drawn == 5  # accuracy, parameters, forks, idle, credits
        assert seen.said == []
        assert [place for place in seen.loaded if not place.startswith(("data:", "blob:"))] == [url(large)]


def test_the_slider_shows_one_round_after_another(browser: Any, large: Path) -> None:
    with opened(browser, url(large)) as seen:
        page = seen.page

        def shown() -> list[str]:
            return page.eval_on_selector_all(
                ".steps > .step:not([hidden])", "found => found.map(e => e.dataset.label)"
            )

        assert shown() == ["Round 50: 200 parameters, 91.67%"]
        page.click(".slider button[data-by='-1']")
        assert shown() == ["Round 49: 199 parameters, 90.83%"]
        page.fill(".slider input", "3")
        assert shown() == ["Round 3: 153 parameters, 52.50%"]
        assert page.inner_text(".slider output") == "Round 3: 153 parameters, 52.50%"
        page.reload()
        page.wait_for_selector("body[data-ready]")
        assert shown() == ["Round 3: 153 parameters, 52.50%"]


def test_tables_are_sorted_and_filtered(browser: Any, large: Path) -> None:
    with opened(browser, url(large)) as seen:
        page = seen.page
        box = page.locator(".table", has=page.get_by_text("Every fork, in the last heat"))
        assert box.locator("tbody tr").count() == Table.AT_ONCE
        box.get_by_role("button", name="gain, bits").click()
        assert [float(cells[4]) for cells in shown(box)] == [0.0198] * ROUNDS + [0.0197] * ROUNDS + [
            0.0196
        ] * ROUNDS + [0.0195] * (200 - 3 * ROUNDS)
        box.get_by_role("button", name="gain, bits").click()
        assert shown(box)[0][4] == "+0.0001"
        box.locator("input[type=search]").fill("Clone 5")
        holding = int(box.locator(".count").inner_text().removesuffix(f" of {ROUNDS * FORKS}"))
        assert 200 < holding < ROUNDS * FORKS // 3
        box.get_by_role("button", name=f"Show all {holding:,} rows").click()
        found = shown(box)
        assert len(found) == holding
        assert all("clone" in " ".join(cells) and "5" in " ".join(cells) for cells in found)
        gains = [float(cells[4]) for cells in found]
        assert gains == sorted(gains)
        box.locator("input[type=search]").fill("train 50")
        assert [cells[:2] for cells in shown(box)] == [["50", "train"]]


def shown(box: Any) -> list[list[str]]:
    """The cells of the rows of a table that are on the page."""
    cells = "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))"
    return box.locator("tbody tr").evaluate_all(cells)


def test_commands_are_copied(browser: Any, large: Path) -> None:
    with opened(browser, url(large)) as seen:
        item = seen.page.locator(".commands li").first
        item.get_by_role("button").click()
        item.get_by_text("Copied").wait_for()
        assert seen.page.evaluate("navigator.clipboard.readText()") == item.locator("code").inner_text()


def test_names_are_texts(browser: Any, results: Path) -> None:
    name = "n" * 100
    path = Path(write_report(str(results), name))
    with opened(browser, url(path), width=390) as seen:
        seen.page.on("dialog", lambda dialog: pytest.fail(f"a name ran: {dialog.message}"))
        look_at_all(seen.page)
        assert seen.page.inner_text("h1") == name
        assert seen.page.locator("th", has_text=NASTY).count() >= 1
        assert seen.page.locator("figcaption", has_text='a "quoted" name').count() >= 1
        assert seen.said == []


LOOKS = [(390, True), (1440, False)]  # width, and whether the ground is dark


@pytest.mark.parametrize(("width", "dark"), [LOOKS[0], pytest.param(*LOOKS[1], marks=pytest.mark.slow)])
def test_it_can_be_read_by_everyone(browser: Any, results: Path, width: int, dark: bool) -> None:
    for path in (write_report(str(results), "n" * 100), write_folder(str(results))):
        assert_readable(browser, Path(path), width, dark)


@pytest.mark.slow
@pytest.mark.parametrize(("width", "dark"), LOOKS)
def test_large_it_can_too(browser: Any, large: Path, width: int, dark: bool) -> None:
    assert_readable(browser, large, width, dark)


@pytest.mark.slow
@pytest.mark.parametrize(("width", "dark"), LOOKS)
@pytest.mark.parametrize("command", CASES)
def test_every_story_can_be_read_by_everyone(
    browser: Any, tmp_path: Path, command: str, width: int, dark: bool
) -> None:
    CASES[command]().write(tmp_path)
    path = Path(write_report(str(tmp_path), "first"))
    for page in path.parent.glob("*.html"):
        assert_readable(browser, page, width, dark)


def assert_readable(browser: Any, path: Path, width: int, dark: bool) -> None:
    """Nothing is wrong with a page, axe has nothing serious against it, and it is no wider than the screen."""
    from axe_playwright_python.sync_playwright import Axe

    with opened(browser, url(path), width=width, dark=dark) as seen:
        look_at_all(seen.page)
        found = Axe().run(seen.page).response["violations"]
        serious = [
            f"{each['id']}: {each['nodes'][0]['html']}"
            for each in found
            if each["impact"] in ("serious", "critical")
        ]
        assert serious == [] and seen.said == []
        wide = seen.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width  # what is wider scrolls by itself
        assert charts_beyond_the_page(seen.page) == []


def charts_beyond_the_page(page: Any) -> list[str]:
    beyond = "found => found.filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.dataset.chart)"
    return page.eval_on_selector_all("[data-chart]", beyond)


@pytest.mark.parametrize(("width", "rows"), [(390, 3), (1024, 1)])
def test_charts_side_by_side_stand_below_each_other_on_a_phone(
    browser: Any, tmp_path: Path, width: int, rows: int
) -> None:
    rows_of = [{"x": place, "y": place} for place in range(5)]
    chart = beside({name: points(rows_of, Axis("x"), Axis("y")) for name in "abc"})
    path = tmp_path / "index.html"
    path.write_text(html_of(Page("one", "", [Section("all", [Chart(chart, "chart", "Three")])])))
    with opened(browser, url(path), width=width) as seen:
        seen.page.wait_for_selector("[data-chart] .vega-embed svg")
        assert charts_beyond_the_page(seen.page) == [] and seen.said == []
        tops = "found => new Set(found.map(e => Math.round(e.getBoundingClientRect().top))).size"
        assert seen.page.eval_on_selector_all(".vega-embed .role-title-text", tops) == rows


def test_a_page_without_scripts_shows_its_charts(browser: Any, large: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(url(large))
    assert page.locator("[data-chart] > svg").count() == 5
    assert page.locator("[data-chart=accuracy] > svg").bounding_box()["height"] > 100
    context.close()
