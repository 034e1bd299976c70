"""Forks of a model with attention heads on Ray workers: the same as in this process, and those that fail."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import ray
from helpers.head_cases import stripes

from structnet.data.packing import pack
from structnet.heads.contest import CONTROL, Fork, Heat, run_here
from structnet.heads.training import HeadState, Tuning, train
from structnet.heads.transformer import Form, Transformer
from tournament import head_forks
from tournament.head_forks import RayForks


@pytest.mark.slow
def test_forks_on_ray_are_those_of_this_process(ray_session: None) -> None:
    data = stripes()
    state = HeadState.fresh(Transformer(Form((1, 8, 8), 3, layers=2, heads=4, width=16, patch=4)))
    train(state, data.train, Tuning(20, 0), 5, lambda step: 1e-3)
    heat = Heat(Tuning(20, 0), 3, 1e-3, (0, 5))
    forks = [Fork(CONTROL), Fork("a", ((0, 1),)), Fork("b", ((1, 0), (1, 2)))]
    there = RayForks(ray.put(pack(data)), "cpu", cpus=0.5)(state, forks, heat, data)
    for one, other in zip(there, run_here(state, forks, heat, data)):
        assert one.fork == other.fork and one.freed == other.freed
        assert np.array_equal(one.log2_likelihood, other.log2_likelihood)
        assert one.state is not None and one.state.step == 8


def test_a_fork_whose_worker_fails_is_told(ray_session: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("no luck")

    monkeypatch.setattr(head_forks, "fork_task", broken)
    data = stripes()
    state = HeadState.fresh(Transformer(Form((1, 8, 8), 3, layers=1, heads=2, width=8, patch=4)))
    heat = Heat(Tuning(20, 0), 3, 1e-3, (0, 0))
    (found,) = RayForks(ray.put(pack(data)), "cpu", cpus=0.5)(state, [Fork(CONTROL)], heat, data)
    assert found.state is None and found.error == "RuntimeError: no luck"
