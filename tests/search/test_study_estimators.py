"""The study of estimators: halves are kept apart, regret is read on images that did not choose, rises come from other
networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.chart_cases import panels_of, rows_drawn

from search.commands.study.studies import estimators
from search.commands.study.studies.estimators import (
    END,
    Fork,
    correlation,
    forks_of,
    learned_from,
    regret,
    stretches,
)
from search.commands.study.study import VERDICTS, Place, Row, Scale
from structnet.data.datasets import load_dataset

HEAT = "decoder 200"


def fork(action: str, added: int, short: tuple[float, float], end: tuple[float, float]) -> Fork:
    gains = {(HEAT, half): short[half] for half in (0, 1)} | {(END, half): end[half] for half in (0, 1)}
    return Fork(action, added, gains, dict.fromkeys(gains, 0.01))


def test_the_heat_on_one_half_is_held_against_the_end_on_the_other() -> None:
    """Within each half the orders are opposite; across them they agree."""
    forks = [fork("patch", 100, short=(low, 1 - low), end=(1 - low, low)) for low in (0.1, 0.2, 0.3, 0.4)]
    assert correlation(forks, HEAT) == pytest.approx(1.0)


def test_regret_is_the_share_of_the_best_score_that_is_missed() -> None:
    small = fork("patch", 100, (0.2, 0.2), (0.2, 0.2))
    best = fork("widen", 100, (0.1, 0.1), (0.5, 0.5))
    assert regret([small, best], HEAT) == pytest.approx(0.6)
    # Per parameter: 0.5 bits for 500 parameters are half of what 0.2 bits for 100 are.
    dear = fork("widen", 500, (0.1, 0.1), (0.5, 0.5))
    assert regret([small, dear], HEAT) == pytest.approx(0.0)


def test_what_is_not_proven_in_the_heat_is_not_chosen_and_sales_are_left_out() -> None:
    lucky = fork("patch", 1, (0.019, 0.019), (0.0, 0.0))  # below two errors of 0.01
    real = fork("patch", 100, (0.03, 0.03), (0.4, 0.4))
    sale = fork("prune", -100, (0.9, 0.9), (0.9, 0.9))
    assert regret([lucky, real, sale], HEAT) == pytest.approx(0.0)
    assert regret([lucky, fork("patch", 100, (0.0, 0.0), (0.4, 0.4))], HEAT) == pytest.approx(1.0)


def test_the_best_in_hindsight_is_valued_where_it_was_not_found() -> None:
    """Luck on one half is worth nothing on the other."""
    lucky = [fork("patch", 100, (0.1, 0.1), ends) for ends in ((0.9, 0.1), (0.1, 0.9))]
    steady = fork("patch", 100, (0.2, 0.2), (0.3, 0.3))
    # Found: 0.9 on each half; valued: 0.1. The steady one is valued at 0.3, three times as much.
    assert regret([*lucky, steady], HEAT) == pytest.approx(-2.0)


def test_rises_from_other_networks_repair_a_choice_and_a_rank() -> None:
    network = [fork("patch", 100, (0.2, 0.2), (0.2, 0.2)), fork("widen", 100, (0.1, 0.1), (0.8, 0.8))]
    others = [[fork("patch", 50, (0.1, 0.1), (0.1, 0.1)), fork("widen", 50, (0.1, 0.1), (0.8, 0.8))] * 5]
    assert regret(network, HEAT) == pytest.approx(0.75)
    assert correlation(network, HEAT) == pytest.approx(-1.0)
    known = learned_from(others, HEAT)
    assert regret(network, HEAT, known) == pytest.approx(0.0)
    assert correlation(network, HEAT, known) == pytest.approx(1.0)


def test_the_stretches_anneal_to_the_end() -> None:
    found = stretches(2200, 0.01)
    assert sum(length for length, _ in found) == 2200
    rates = [rate for _, rate in found]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] < 0.01
    assert rates[-1] > 0
    assert np.mean(rates) == pytest.approx(0.005)


def made_up(accuracy_of_heats: float) -> list[Row]:
    """Five networks of forks whose heats tell the end, but for noise of this share."""
    rng = np.random.default_rng(0)
    rows = []
    for seed in range(5):
        for item in range(40):
            worth = 0.1 + 0.01 * item
            rows.append(Row("forks", seed, f"action:{'widen' if item % 2 else 'patch'}", item, 1.0))
            rows.append(Row("forks", seed, "parameters_added", item, 100.0))
            for half in (0, 1):
                rows.append(Row("forks", seed, f"gain:{END}:{half}", item, worth))
                rows.append(Row("forks", seed, f"error:{END}:{half}", item, 0.01))
                for name in (f"{e} {s}" for e in estimators.ESTIMATORS for s in estimators.HEATS):
                    seen = accuracy_of_heats * worth + (1 - accuracy_of_heats) * rng.normal()
                    rows.append(Row("forks", seed, f"gain:{name}:{half}", item, float(seen)))
                    rows.append(Row("forks", seed, f"error:{name}:{half}", item, 0.01))
    return rows


@pytest.mark.parametrize(("accuracy", "holds"), [(1.0, "yes"), (0.0, "no")])
def test_the_claim_holds_where_heats_tell_the_end(accuracy: float, holds: str) -> None:
    rows = made_up(accuracy)
    finding = estimators.STUDY.judge(rows)
    assert finding.holds == holds
    assert len(finding.table) == 1 + len(estimators.ESTIMATORS) * len(estimators.HEATS)
    assert finding.sentences[0].startswith("200 forks of 5 networks")
    chart = estimators.STUDY.draw(rows)
    assert panels_of(chart) == ["ranks", "choices"]
    assert [row["at"] for row in rows_drawn(chart) if row.get("name") == "wanted"] == [
        estimators.ENOUGH,
        estimators.TOLERATED,
    ]


def test_in_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimators, "HEATS", (5, 10, 20))
    monkeypatch.setattr(estimators, "DEFAULT", "decoder 10")
    digits = load_dataset("digits")
    rows = []
    for task in estimators.STUDY.tasks(digits, Scale((0,), quick=True)):
        task.options["steps"] = 40
        found = estimators.STUDY.measure(task, digits, Place(str(tmp_path), "e", task.name))
        rows += [Row(task.arm, task.rng_seed, one.quantity, one.item, float(one.value)) for one in found]
    for forks in forks_of(rows).values():
        assert len(forks) >= 40
        actions = {one.action for one in forks}
        assert {"patch", "patch:random", "widen", "insert_layer", "prune"} <= actions
        assert all(len(one.gains) == 2 * (2 * 3 + 1) for one in forks)
    assert estimators.STUDY.judge(rows).holds in VERDICTS
