"""Heats: steps add up, survivors shrink, small fields run once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from structnet.errors import UserError
from tournament.bracket import Heat, plan_heats


def test_sixteen_forks_of_two_hundred_steps() -> None:
    assert plan_heats(16, 200) == [Heat(50, 4), Heat(150, 4)]


def test_a_small_field_runs_one_heat() -> None:
    assert plan_heats(3, 200) == [Heat(200, 3)]
    assert plan_heats(0, 200) == [Heat(200, 0)]


@given(st.integers(0, 500), st.integers(1, 5000))
def test_steps_add_up_and_every_heat_trains(forks: int, steps: int) -> None:
    heats = plan_heats(forks, steps)
    assert sum(heat.steps for heat in heats) == steps
    assert all(heat.steps >= 1 for heat in heats)
    assert all(heat.survivors <= max(forks, 3) for heat in heats)


def test_refuses_heats_without_steps() -> None:
    with pytest.raises(UserError, match="heat_steps is 0"):
        plan_heats(4, 0)
