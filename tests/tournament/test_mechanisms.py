"""How far mechanisms got: counted by hand."""

from __future__ import annotations

from typing import Any

from tournament.mechanisms import mechanism_counts, plateaus


def test_mechanisms_are_counted_by_how_far_they_got() -> None:
    def row(action: str, heat: int, **changed: Any) -> dict[str, Any]:
        plain = {"control": False, "affordable": True, "eligible": False, "won": False}
        plain |= {"gain": None, "gain_se": None}
        return {"trial": "t", "round": 1, "heat": heat, "action": action, **plain, **changed}

    rows = [
        row("train", 1, control=True),
        row("patch", 1),
        row("patch", 1),
        row("patch", 2, eligible=True, won=True, gain=0.3, gain_se=0.1),
        row("clone", 1),
        row("clone", 1, affordable=False),
    ]
    counts = mechanism_counts(rows)
    assert counts["patch"] == {
        "proposed": 2,
        "affordable": 2,
        "last heat": 1,
        "ahead": 1,
        "eligible": 1,
        "won": 1,
    }
    assert counts["clone"] == {"proposed": 2, "affordable": 1, "eligible": 0, "won": 0}
    assert "train" not in counts


def test_plateaus_are_counted_among_the_rounds_that_waited_for_one() -> None:
    rows = [{"triggered_by": by} for by in (None, "plateau", "clock", "plateau", "end", None)]
    assert plateaus(rows) == (2, 4)
