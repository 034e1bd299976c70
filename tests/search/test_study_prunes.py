"""The study of prunes: rankings by hand, what a phase does, and what counts as paying."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.chart_cases import panels_of

from search.commands.study.studies import prunes
from search.commands.study.studies.prunes import (
    BASE,
    BEST,
    LONGER,
    STUDY,
    WAYS,
    Way,
    by_layer,
    by_unit,
    information_of,
    over_sizes,
    schedule,
)
from search.commands.study.studies.prunes import (
    Path as Walk,
)
from search.commands.study.study import Place, Row, Scale
from structnet import StructNet
from structnet.data.dataset import Dataset
from structnet.data.datasets import load_dataset
from structnet.network.state import TrainState
from structnet.network.topology import Topology
from tournament.settings import fitted_settings

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


def state_of(sizes: list[int], connections: dict[tuple[int, int], float]) -> TrainState:
    """A network of these connections, (source, target) -> worth: before the first step worth is the square."""
    source, target = zip(*connections)
    topology, order = Topology.sorted(sizes, np.array(source), np.array(target))
    values = np.sqrt(np.array([*connections.values()]))[order]
    flat = torch.from_numpy(np.concatenate([values, np.zeros(topology.bias_count)]))
    return TrainState.fresh(StructNet.from_parts(topology, flat))


def by_connection(state: TrainState, ranks: np.ndarray) -> dict[tuple[int, int], float]:
    topology = state.network.topology
    return dict(zip(zip(topology.source.tolist(), topology.target.tolist()), ranks.tolist()))


# Inputs 0 to 2, hidden units 3 and 4, output 5.
SMALL = {(0, 3): 9.0, (1, 3): 0.1, (2, 4): 2.0, (0, 4): 1.0, (3, 5): 50.0, (4, 5): 3.0}


def test_by_layer_every_link_loses_the_same_share() -> None:
    state = state_of([3, 2, 1], SMALL)
    ranks = by_connection(state, by_layer(state))
    assert ranks == pytest.approx(
        {(1, 3): 0.125, (0, 4): 0.375, (2, 4): 0.625, (0, 3): 0.875, (4, 5): 0.25, (3, 5): 0.75}
    )


def test_by_unit_all_of_the_weakest_unit_goes_before_the_least_of_the_others() -> None:
    state = state_of([3, 2, 1], SMALL)
    places = by_connection(state, by_unit(state))
    assert sorted(places, key=lambda pair: places[pair]) == [(0, 4), (2, 4), (4, 5), (1, 3), (0, 3), (3, 5)]


def test_by_unit_of_two_hidden_ends_the_weaker_counts_and_a_skip_stands_for_itself() -> None:
    # Input 0, hidden units 1 and 2 of their own groups, output 3; mean worth of 1: 2.5, of 2: 4.5.
    state = state_of([1, 1, 1, 1], {(0, 1): 4.0, (1, 2): 1.0, (2, 3): 8.0, (0, 3): 3.0})
    places = by_connection(state, by_unit(state))
    assert places == {(1, 2): 0, (0, 1): 1, (0, 3): 2, (2, 3): 3}


def test_a_phase_is_as_that_of_a_path_of_sizes() -> None:
    state = TrainState.fresh(StructNet([64, 32, 10], 0.05))
    shrinking, rate = schedule(state, 60, 500, 2410, 0.0)
    assert (shrinking.start, shrinking.stop, shrinking.limit, shrinking.move_share) == (0, 500, 60, 0.0)
    assert (shrinking.size, shrinking.peak) == (state.network.parameter_count, 180)
    assert rate == pytest.approx(math.sqrt(2410 / 6 / 180))
    shrinking, rate = schedule(state, 2000, 500, 2410, 0.0)
    assert (shrinking.peak, rate) == (2410, 1.0)  # no more than there is


def test_the_way_of_most_information_goes_on_and_all_are_paid_for(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = TrainState.fresh(StructNet([64, 16, 10], 0.2, ensure_paths=True))
    settings = fitted_settings(len(digits.train), epochs=2)
    monkeypatch.setitem(WAYS, "worst first", Way(lambda state: -WAYS[BASE].ranked(state)))
    alone = {}
    for way in (BASE, "worst first"):
        path = Walk(digits, settings, start, 1210)
        path.walk([way], 80, 2)
        assert path.state.network.parameter_count <= 80
        alone[way] = path
    both = Walk(digits, settings, start, 1210)
    both.walk(["worst first", BASE], 80, 2)
    assert both.chosen == [BASE]
    assert both.spent == sum(path.spent for path in alone.values())
    assert torch.equal(both.state.network.values, alone[BASE].state.network.values)
    bits = {way: information_of(path.state.network, digits) for way, path in alone.items()}
    assert bits[BASE] > bits["worst first"]
    assert start.step == 0


def rows_for(bits: dict[str, float], costs: dict[str, float]) -> list[Row]:
    """Two sizes, three rng_seeds; the arms that are not given are as the base."""
    rows = []
    for arm in (*WAYS, BEST, LONGER):
        for seed, wobble in enumerate((0.0, 0.001, -0.001)):
            lead = bits.get(arm, 0.0) + (wobble if arm == BEST else 0.0)
            for size in (100, 200):
                rows.append(Row(arm, seed, "information", size, 2 + size / 1000 + seed / 10 + lead))
                rows.append(Row(arm, seed, "test_accuracy", size, 0.9))
            rows.append(Row(arm, seed, "parameter_steps_all", 0, 1e6 * (1 + seed) * costs.get(arm, 1)))
            if arm == BEST:
                rows += [Row(arm, seed, f"chosen:{way}", 0, 1) for way in WAYS]
    return rows


COSTS = {BEST: 4.0, LONGER: 2.0}


@pytest.mark.parametrize(
    ("bits", "holds"),
    [
        ({BEST: 0.05, LONGER: 0.02}, "yes"),
        ({BEST: 0.05, LONGER: 0.05}, "no"),
        ({BEST: 0.0505, LONGER: 0.05}, "no"),  # not surely
        ({BEST: 0.05, LONGER: 0.08}, "no"),
    ],
)
def test_competing_pays_only_if_it_is_surely_ahead_of_training_for_longer(
    bits: dict[str, float], holds: str
) -> None:
    assert STUDY.judge(rows_for(bits, COSTS)).holds == holds


def test_leads_are_over_the_sizes_and_costs_are_shares_of_the_base() -> None:
    rows = rows_for({"no regrowth": -0.01, BEST: 0.05, LONGER: 0.02}, COSTS)
    assert [row.value for row in over_sizes(rows, "information")[:3]] == pytest.approx([2.15, 2.25, 2.35])
    finding = STUDY.judge(rows)
    assert finding.sentences[0].startswith("no regrowth: -0.0100 (")
    assert "+0.0500 (" in finding.sentences[3] and "at 400% of its cost" in finding.sentences[3]
    assert "+0.0300 (" in finding.sentences[5] and "at 200% of its cost" in finding.sentences[5]
    assert "saliency 3 times" in finding.sentences[6]
    assert len(finding.table) == 7
    assert panels_of(STUDY.draw(rows)) == ["what is reached", "what it costs"]


def test_measures_every_size_of_every_arm_and_longer_costs_twice_as_much(
    digits: Dataset, tmp_path: Path
) -> None:
    cost, sizes = {}, prunes.FEW_SIZES
    for task in STUDY.tasks(digits, Scale((0,), quick=True)):
        if task.arm not in (BASE, BEST, LONGER):
            continue
        short = replace(task, options={**task.options, "epochs": 8})
        found = STUDY.measure(short, digits, Place(str(tmp_path), "e", task.name))
        for quantity in ("information", "accuracy", "test_accuracy", "parameters"):
            assert [one.item for one in found if one.quantity == quantity] == list(sizes)
        parameters = {one.item: one.value for one in found if one.quantity == "parameters"}
        assert all(value <= size for size, value in parameters.items())
        assert sum(one.value for one in found if one.quantity.startswith("chosen:")) == len(sizes) + 1
        cost[task.arm] = found[-1].value
    assert cost[LONGER] == pytest.approx(2 * cost[BASE], rel=0.1)
    assert cost[BEST] == pytest.approx(4 * cost[BASE], rel=0.1)
