"""Sweeps: how settings are compared."""

from __future__ import annotations

from typing import Any

import pytest

from structnet.trials.outcomes import (
    SettingOutcome,
    compared,
    network_outcomes,
    tournament_outcomes,
)


def test_settings_are_compared_with_the_base_over_the_same_rng_seeds() -> None:
    outcomes = [
        SettingOutcome("set-000", 0, 0.80, 100, 1e6, 0.7),
        SettingOutcome("set-000", 1, 0.90, 200, 3e6, 0.8),
        SettingOutcome("set-001", 0, 0.84, 90, 2e6, 0.6),
        SettingOutcome("set-001", 1, 0.92, 90, 2e6, 0.9),
        SettingOutcome("set-001", 2, 0.88, 90, 2e6, 0.75),
        SettingOutcome("set-002", 0, 0.70, 10, 1e5),
        SettingOutcome("set-002", 1),
        SettingOutcome("set-003", 0),
    ]
    first, base, last = compared(outcomes, "set-000")
    assert (first.setting, base.setting, last.setting) == ("set-001", "set-000", "set-002")
    assert first.accuracy == pytest.approx(0.88)
    assert first.spread == pytest.approx(0.04)
    assert first.test == pytest.approx((0.75, 0.15))
    # Differences 0.04 and 0.02: mean 0.03, standard error 0.01, and t with one degree of freedom is 12.706.
    assert first.lead == pytest.approx((0.03, 0.03 - 0.12706, 0.03 + 0.12706), abs=1e-5)
    assert base.lead is None
    assert (base.parameters, base.parameter_steps) == (150, 2e6)
    assert (last.rng_seeds, last.failed, last.has_interval) == (1, 1, False)
    assert last.lead is not None and last.lead.mean == pytest.approx(-0.1)


def test_outcomes_are_read_from_rows() -> None:
    numbers = {"accuracy": 0.5, "parameters": 10, "parameter_steps_all": 100, "test_accuracy": 0.4}
    rows = [
        ("a", {"status": status, "rng_seed": 3, **numbers}) for status in ("finished", "failed", "running")
    ]
    assert tournament_outcomes(rows) == [SettingOutcome("a", 3, 0.5, 10, 100, 0.4), SettingOutcome("a", 3)]

    def network(seed: int, accuracy: float | None, parameters: int) -> tuple[str, dict[str, Any], int]:
        row = {"rng_seed": seed, "accuracy": accuracy, "parameters": parameters, "epochs": 2}
        return "a", row, 10

    found = network_outcomes([network(0, 0.5, 100), network(0, 0.7, 300), network(1, None, 100)], images=50)
    assert found == [SettingOutcome("a", 0, pytest.approx(0.6), 200, 2 * 5 * 400), SettingOutcome("a", 1)]
