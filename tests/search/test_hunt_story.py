"""What the report of a hunt says."""

from __future__ import annotations

from pathlib import Path

from helpers.story_cases import (
    CHANCE,
    Case,
    hunted,
    network,
    said,
    tables_of,
    values_of,
)

from search.commands.hunt.story import front_of
from search.grid.telling import MOST_POINTS


def test_a_hunt_tells_its_champions_and_why_networks_failed(tmp_path: Path) -> None:
    found = said(hunted(), tmp_path)
    assert found.story.lead == (
        "Of 6 networks (4 finished, 1 culled, 1 failed) the most accurate is big: 90.0% on validation with 300 "
        "parameters. Most for each parameter has lean: 50.0% with 10."
    )
    for text in ("88.0% on test", "4,000.0 points", "training diverged in epoch 1", "chance"):
        assert text in found.text
    (best,) = (table for table in tables_of(found) if table.headed[0].heading == "best by")
    of_all = {row[0]: row[2] for row in best.rows if row[1] == "all"}
    assert of_all == {"most accurate": "big", "most efficient": "lean", "patchable": "weak"}
    assert {best.rows[number][2] for number in best.marked} == {"big", "lean", "weak"}
    assert set(values_of(found.charts["hunt"], "best")) == {"most accurate", "most efficient", "patchable"}
    assert CHANCE in values_of(found.charts["hunt"], "at")
    # Neither what was culled on the way nor what failed is compared with what was trained to its end.
    assert not {"gone", "wild"} & set(values_of(found.charts["hunt"], "network"))


def test_nothing_smaller_is_as_accurate_as_what_is_on_the_front() -> None:
    rows = [
        network(str(number), accuracy, size)
        for number, (size, accuracy) in enumerate(
            [(10, 0.5), (10, 0.4), (20, 0.5), (30, 0.6), (40, 0.55), (50, 0.9)]
        )
    ]
    assert [(row["parameters"], row["accuracy"]) for row in front_of(rows)] == [
        (10, 0.5),
        (30, 0.6),
        (50, 0.9),
    ]


def test_thousands_of_networks_are_thinned_but_for_champions(tmp_path: Path) -> None:
    rows = [network(f"n{number}", 0.3 + number % 7 / 100, 100 + number % 900) for number in range(4000)]
    rows[2] |= {"network": "best", "accuracy": 0.9}
    found = said(Case("hunt", {}, {"networks": rows}), tmp_path, drawn=False)
    names = set(values_of(found.charts["hunt"], "network"))
    assert MOST_POINTS <= len(names) <= MOST_POINTS + 20 and "best" in names
    (chart,) = found.page.charts
    assert "Of 4,000 networks 3,0" in chart.caption
    assert max(len(table.rows) for table in tables_of(found)) == 4000


def test_with_more_densities_than_shapes_of_points_hidden_groups_are_told_apart(tmp_path: Path) -> None:
    rows = [network(f"n{number}", 0.5, density=number / 100) for number in range(1, 12)]
    found = said(Case("hunt", {}, {"networks": rows}), tmp_path, drawn=False)
    assert set(values_of(found.charts["hunt"], "groups")) == {"1 hidden groups"}
