"""The study of fronts: its verdict from rows whose truth is known, and that both arms cost what they should."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.chart_cases import rows_drawn, scales_of, series_of

from search.commands.study.studies import front
from search.commands.study.study import Place, Row, Scale
from structnet.data.datasets import load_dataset


def rows(leads: dict[int, list[float]]) -> list[Row]:
    """Leads of the front over networks alone in points, by size and rng_seed."""
    return [
        Row(arm, seed, "test_accuracy", size, 0.9 + (lead / 100 if arm == "front" else 0.0))
        for size, of_seeds in leads.items()
        for seed, lead in enumerate(of_seeds)
        for arm in ("front", "alone")
    ]


@pytest.mark.parametrize(
    ("worst", "holds"), [([0.1, 0.2, 0.3], "yes"), ([-0.1, -0.1, -0.3], "yes"), ([-0.3, -0.2, -0.2], "no")]
)
def test_it_holds_where_no_size_is_behind(worst: list[float], holds: str) -> None:
    finding = front.judge(rows({100: worst, 200: [1.0, 1.1, 1.2]}))
    assert finding.holds == holds
    assert [line[0] for line in finding.table] == ["parameters", "100", "200"]


def test_errors_are_drawn_over_the_size() -> None:
    chart = front.draw(rows({100: [0.0, 0.0, 0.0], 200: [1.0, 2.0, 3.0]}))
    assert series_of(chart) == ["front", "alone"]
    assert scales_of(chart) == {"x": "log", "y": "log"}
    drawn = {(row["name"], row["x"]): (row["error"], row["spread"]) for row in rows_drawn(chart)}
    assert drawn["front", 200] == pytest.approx((8.0, 1.0)) and drawn["alone", 200] == pytest.approx(
        (10.0, 0.0)
    )


def test_networks_alone_cost_half_of_the_run_each(tmp_path: Path) -> None:
    digits = load_dataset("digits")
    place = Place(str(tmp_path), "e", "t")
    both = {
        task.arm: front.measure(task, digits, place) for task in front.tasks(digits, Scale((0,), quick=True))
    }
    (whole,) = [found.value for found in both["front"] if found.quantity == "parameter_steps_all"]
    alone = [found.value for found in both["alone"] if found.quantity == "parameter_steps_all"]
    assert alone == pytest.approx([whole / 2] * 2, rel=0.1)
    sizes = [found.item for found in both["front"] if found.quantity == "test_accuracy"]
    assert sizes == [found.item for found in both["alone"] if found.quantity == "test_accuracy"][::-1]
