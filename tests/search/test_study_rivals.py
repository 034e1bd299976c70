"""The study of rivals: each has the cost of the tournament, and curves over all sizes are compared."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.chart_cases import rows_drawn, scales_of, series_of

from search.commands.study.studies.rivals import GROWN, RATES, RIVALS, STUDY, gaps, rate_of
from search.commands.study.study import Place, Row, Scale
from structnet.data.datasets import load_dataset


def rows_for(errors: dict[str, float], sizes: tuple[int, ...] = (2000, 4000, 8000)) -> list[Row]:
    """Every method with this error, give or take, at every size with three rng_seeds; those not given with 0.1."""
    rows = []
    for limit in sizes:
        for seed, wobble in enumerate((0.0, 0.001, -0.001)):
            for method in RATES:
                error = errors.get(method, 0.1) + (wobble if method == GROWN else 0.0)
                rows.append(Row(str(limit), seed, f"test_accuracy:{method}", 0, 1 - error))
                rows.append(Row(str(limit), seed, f"parameters:{method}", 0, limit))
                cost = 1e4 if method == "dense" else 2e4
                rows.append(Row(str(limit), seed, f"parameter_steps_all:{method}", 0, cost * limit))
    return rows


@pytest.mark.parametrize(
    ("errors", "holds"),
    [
        ({GROWN: 0.02}, "yes"),
        ({GROWN: 0.02, "rigl": 0.02}, "in part"),
        ({GROWN: 0.02, "rigl": 0.01}, "no"),
        ({GROWN: 0.02, "dense": 0.0295}, "no"),
        # More cost than the tournament's is not held against it.
        ({GROWN: 0.02, "pruning long": 0.01}, "yes"),
    ],
)
def test_growth_has_to_be_ahead_of_all_and_of_dense_by_a_point(errors: dict[str, float], holds: str) -> None:
    assert STUDY.judge(rows_for(errors)).holds == holds


def test_the_area_is_over_the_logarithm_of_the_size() -> None:
    gap = gaps(rows_for({GROWN: 0.02, "set": 0.05}))["set"]
    assert (gap.smallest, gap.largest, gap.rng_seeds) == (pytest.approx(2000), pytest.approx(8000), 3)
    assert gap.area.mean == pytest.approx(2 * 0.03)
    finding = STUDY.judge(rows_for({GROWN: 0.02, "set": 0.05}))
    (dense,) = [sentence for sentence in finding.sentences if sentence.startswith("dense:")]
    assert "50% of the cost" in dense and "+8.00 (" in dense
    assert finding.table[0][1:] == ("2,000", "4,000", "8,000")
    assert finding.table[1] == (GROWN, *[f"98.00 ± 0.10 ({cost})" for cost in (40, 80, 160)])


def test_each_size_has_the_rate_that_was_picked_nearest_to_it() -> None:
    assert [rate_of("rigl", size) for size in (200, 2_000, 2_900, 4_000, 20_000)] == [
        *[RATES["rigl"][0]] * 2,
        *[RATES["rigl"][1]] * 2,
        RATES["rigl"][3],
    ]
    assert rate_of("static", 30_000) == RATES["static"][0]


def test_a_plot_has_a_line_for_each_method() -> None:
    chart = STUDY.draw(rows_for({GROWN: 0.02}))
    assert series_of(chart) == list(RATES)
    assert scales_of(chart) == {"x": "log", "y": "log"}
    grown = {row["x"]: row["error"] for row in rows_drawn(chart) if row.get("name") == GROWN}
    assert grown == pytest.approx({2000: 2.0, 4000: 2.0, 8000: 2.0})


def test_an_error_of_0_has_no_place_on_a_logarithmic_axis() -> None:
    drawn = rows_drawn(STUDY.draw(rows_for({GROWN: 0.02, "dense": 0.0})))
    assert {row["name"] for row in drawn} == {*RATES} - {"dense"}
    # A spread that is wider than the error reaches down to where the others end.
    wide = [
        row._replace(value=0.99 - 0.01 * row.rng_seed) if row.quantity == f"test_accuracy:{GROWN}" else row
        for row in rows_for({"set": 0.005})
    ]
    low = [row["from"] for row in rows_drawn(STUDY.draw(wide))]
    assert min(low) > 0


def test_rivals_cost_what_the_tournament_costs(tmp_path: Path) -> None:
    digits = load_dataset("digits")
    task = STUDY.tasks(digits, Scale((0,), quick=True))[0]
    found = {
        one.quantity: one.value for one in STUDY.measure(task, digits, Place(str(tmp_path), "e", task.name))
    }
    cost = found[f"parameter_steps_all:{GROWN}"]
    for rival in RIVALS:
        assert 0.3 < found[f"test_accuracy:{rival}"] < 1
        assert found[f"parameters:{rival}"] <= (260 if rival == "dense" else 200)
        if not rival.endswith(" long"):
            assert found[f"parameter_steps_all:{rival}"] == pytest.approx(cost, rel=0.1)
    assert found["parameter_steps_all:pruning long"] > cost / 4
