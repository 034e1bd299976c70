"""Contests of shapes: who competes, what is proven, what it costs, and that nothing is lost on the way."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.same_rows import comparable

from structnet import StructNet
from structnet.data.dataset import Dataset, Split
from structnet.data.datasets import load_dataset
from structnet.errors import UserError
from structnet.network.architecture import parameters_dense, sizes_of
from structnet.storage.tables import TableWriter
from structnet.training.recipe import Recipe
from tournament import Tournament
from tournament.allowance import DECIDING
from tournament.contest import why_none
from tournament.coordinator import Result
from tournament.final_phase import planned_cost, rate_of
from tournament.observer import Observer
from tournament.progress import Checkpoint
from tournament.rules.score import Gain
from tournament.rules.shapes import SETTLED, challengers, proves
from tournament.settings import Settings
from tournament.winning_line import WinningLine
from tournament.workers import fork
from tournament.workers.pool import InlinePool

torch.set_num_threads(1)

# --- rules


@pytest.mark.parametrize(
    ("hidden", "last", "expected"),
    [
        ((100,), "", {"wide": (300,), "narrow": (33,)}),
        ((60,), "", {"wide": (180,), "narrow": (20,)}),
        ((16,), "", {"usual": (100,)}),
        ((2000,), "", {"usual": (100,)}),
        ((100, 50), "", {"usual": (100,)}),
        ((), "", {"usual": (100,)}),
        ((300,), "wide", {"wide": (900,)}),
        ((100,), "usual", {"wide": (300,)}),
        ((33,), "narrow", {}),
        ((100,), SETTLED, {}),
    ],
)
def test_who_competes(hidden: tuple[int, ...], last: str, expected: dict[str, tuple[int, ...]]) -> None:
    assert challengers(hidden, last) == expected


@pytest.mark.parametrize(
    ("move", "now", "in_the_end", "proven"),
    [
        ("wide", 0.03, 0.01, True),
        ("wide", 0.01, 0.03, False),
        ("narrow", 0.03, 0.03, True),
        ("narrow", 0.01, 0.03, False),
        ("narrow", 0.03, 0.01, False),
        ("usual", -0.03, -0.01, True),
        ("usual", 0.0, -0.03, False),
    ],
)
def test_a_shape_has_to_be_surely_better_and_the_usual_one_not_surely_worse(
    move: str, now: float, in_the_end: float, proven: bool
) -> None:
    assert proves(move, Gain(now, 0.01), Gain(in_the_end, 0.01), z=2.0) == proven


def test_the_rate_falls_where_the_peak_is_near_the_dense_network(digits: Dataset) -> None:
    seed = StructNet([64, 60, 10], 0.1, rng_seed=0, ensure_paths=True)
    line = WinningLine(seed, digits, settings(), InlinePool(digits))
    dense = 64 * 60 + 60 * 10 + 70
    assert rate_of(line, 100, 150, (60,)) == pytest.approx(0.01 * math.sqrt(dense / 6 / (8 * 150)))
    assert rate_of(line, 100, 50, (60,)) == 0.01  # 400 are less than a sixth
    wider = 64 * 180 + 180 * 10 + 190
    assert rate_of(line, 100, 1000, (180,)) == pytest.approx(0.01 * math.sqrt(wider / 6 / 8000))


# --- runs


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


def settings(**options: Any) -> Settings:
    given: dict[str, Any] = {
        "policy": "shape",
        "rounds": 3,
        "epochs": 40,
        "learning_rate": 0.01,
        "recipe": Recipe(batch_size=32, l1=5e-5),
        "max_parameters": 150,
    }
    return Settings(**{**given, **options})


def grow(
    data: Dataset,
    hidden: tuple[int, ...],
    folder: Path | None = None,
    resume: bool = False,
    observer: Observer | None = None,
    **options: Any,
) -> Result:
    seed = StructNet([64, *hidden, 10], 0.1, rng_seed=0, ensure_paths=True)
    return Tournament(
        seed,
        data,
        settings=settings(**options),
        observer=observer,
        writer=TableWriter(str(folder), "e") if folder else None,
        checkpoint=Checkpoint(str(folder / "snapshots"), data) if folder else None,
    ).run(resume=resume)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("contest")


@pytest.fixture(scope="module")
def grown(digits: Dataset, folder: Path) -> Result:
    """From three hidden units, which cannot tell ten digits apart."""
    return grow(digits, (3,), folder)


def test_a_shape_that_cannot_do_it_is_left(grown: Result) -> None:
    first = grown.rounds[1]
    assert (first["decision"], first["action"], first["site"]) == ("adopted", "usual", "64-100-10")
    assert grown.progress.hidden[0] >= 100
    assert grown.network.parameter_count <= 150
    assert grown.test.accuracy > 0.8
    assert grown.rounds[-1]["decision"] == "final"


def test_every_contender_has_a_row_in_its_heats_and_one_has_won(grown: Result) -> None:
    rows = [row for row in grown.candidates if row["round"] == 1]
    assert [(row["heat"], row["action"], row["control"], row["won"]) for row in rows] == [
        (1, "train", True, False),
        (1, "usual", False, False),
        (2, "train", True, False),
        (2, "usual", False, True),
    ]
    assert all(row["gain"] is not None and row["gain_se"] > 0 for row in rows if not row["control"])
    assert rows[0]["site"] == "64-3-10" and rows[1]["steps"] < rows[3]["steps"]


@pytest.mark.parametrize("hidden", [(3,), (60,), ()])
def test_a_run_costs_the_same_with_and_without_a_contest(digits: Dataset, hidden: tuple[int, ...]) -> None:
    seed = StructNet([64, *hidden, 10], 0.1, rng_seed=0, ensure_paths=True)
    planned = planned_cost(WinningLine(seed, digits, settings(), InlinePool(digits)), 150)
    for rounds in (0, 3):
        result = grow(digits, hidden, rounds=rounds)
        assert result.progress.parameter_steps_all == pytest.approx(planned, rel=0.1)
        share = 1 - result.progress.parameter_steps / result.progress.parameter_steps_all
        assert share == pytest.approx(result.rounds[-1]["share_deciding"])
        assert share == 0 if rounds == 0 else 0 < share <= DECIDING


def test_steps_and_costs_are_those_of_the_line(grown: Result) -> None:
    final, contests = grown.rounds[-1], [row for row in grown.rounds if row["candidates"]]
    assert final["steps"] == grown.progress.step < final["steps_all"]
    for before, after in pairwise(contests):
        assert before["parameter_steps_all"] < after["parameter_steps_all"]
    heats = [row for row in grown.candidates if row["won"]]
    assert contests[0]["steps"] == heats[0]["steps"]


class Stopped(Exception):
    pass


class StopsAfter(Observer):
    def __init__(self, rounds: int) -> None:
        self.rounds = rounds

    def round_done(self, row: dict[str, Any]) -> None:
        if row["round"] == self.rounds:
            raise Stopped


@pytest.mark.parametrize("rounds", [0, 1, 2, 3])
def test_a_resume_gives_the_same_rows_and_bits(
    digits: Dataset, grown: Result, folder: Path, tmp_path: Path, rounds: int
) -> None:
    with pytest.raises(Stopped):
        grow(digits, (3,), tmp_path, observer=StopsAfter(rounds))
    resumed = grow(digits, (3,), tmp_path, resume=True)
    assert torch.equal(resumed.network.values, grown.network.values)
    for table in ("rounds", "candidates"):
        assert comparable(str(tmp_path), table, "e") == comparable(str(folder), table, "e")


def test_a_contender_that_fails_is_a_row_and_the_others_go_on(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    shrink = fork.shrink

    def failing(state: Any, *arguments: Any) -> Any:
        if state["architecture"][1] > 150:
            raise MemoryError("no room")
        return shrink(state, *arguments)

    monkeypatch.setattr(fork, "shrink", failing)
    result = grow(digits, (60,))
    failed = [row for row in result.candidates if row["status"] == "failed"]
    assert [(row["action"], row["error"]) for row in failed] == [("wide", "MemoryError: no room")]
    assert not failed[0]["survived"] and not failed[0]["won"]
    assert result.test.accuracy > 0.7


def test_the_line_is_that_of_the_winner_however_often_it_changes(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tournament.contest.proves", lambda move, now, in_the_end, z: True)
    result = grow(digits, (60,), rounds=2)
    won = {row["round"]: row for row in result.candidates if row["won"]}
    assert len(won) == 2
    for row in result.rounds[1:3]:
        assert row["decision"] == "adopted"
        assert row["steps"] == won[row["round"]]["steps"]
        assert row["parameter_steps"] < row["parameter_steps_all"] / 2


def test_a_shape_that_cannot_be_trained_is_left(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    shrink = fork.shrink

    def failing(state: Any, *arguments: Any) -> Any:
        if state["architecture"][1] == 60:
            raise MemoryError("no room")
        return shrink(state, *arguments)

    monkeypatch.setattr(fork, "shrink", failing)
    result = grow(digits, (60,))
    first = result.rounds[1]
    assert (first["decision"], first["gain"]) == ("adopted", None)
    assert result.progress.hidden != [60]
    assert result.test.accuracy > 0.7


def test_with_a_job_a_path_of_sizes_follows_in_the_shape_that_won(digits: Dataset) -> None:
    result = grow(digits, (3,), target_accuracy=0.8, max_parameters=None)
    assert result.held
    widths = result.progress.grown_architecture
    assert widths == [64, *result.progress.hidden, 10] and widths[1] >= 100
    assert result.front[0]["parameters"] < parameters_dense([64, 3, 10])


@pytest.mark.parametrize(
    ("epochs", "maps", "neurons"),
    [
        (20, "so short a run cannot tell shapes apart", "so short a run cannot tell shapes apart"),
        (40, "so short a run cannot tell shapes apart", ""),
        (400, "", ""),
    ],
)
def test_maps_compete_in_longer_runs_alone(digits: Dataset, epochs: int, maps: str, neurons: str) -> None:
    """In 20, 40 and 400 epochs of 36 steps an entrant has 17, 34 and 345 steps of the first heat."""
    for architecture, expected in (("1@8,6@4,10", maps), ("64,60,10", neurons)):
        seed = StructNet(sizes_of(architecture), 0.3, rng_seed=0, ensure_paths=True)
        line = WinningLine(seed, digits, settings(epochs=epochs), InlinePool(digits))
        assert why_none(line) == expected


def test_a_run_too_short_to_tell_shapes_apart_has_no_contest(digits: Dataset) -> None:
    result = grow(digits, (60,), epochs=20)
    assert result.progress.reason == "so short a run cannot tell shapes apart"
    assert not result.candidates and result.network.parameter_count <= 150


@pytest.mark.parametrize("options", [{"scales": (4, 8)}, {"indefinite": True, "target_accuracy": 0.9}])
def test_what_only_growths_can_do_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="which is for growths: choose score"):
        settings(max_parameters=None, **options)


def test_deciding_takes_a_fifth_of_the_run_at_most_though_every_contest_is_lost(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tournament.contest.proves", lambda move, now, in_the_end, z: True)
    result = grow(digits, (3,), epochs=80)
    assert [row["decision"] for row in result.rounds[1:4]] == ["adopted"] * 3
    assert 0.15 < result.rounds[-1]["share_deciding"] <= DECIDING


def test_leads_go_on_as_they_went(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the end a lead is that after the second heat, and as much again as it changed since the first."""
    asked: list[tuple[Gain, Gain]] = []

    def never(move: str, now: Gain, in_the_end: Gain, z: float) -> bool:
        asked.append((now, in_the_end))
        return False

    monkeypatch.setattr("tournament.contest.proves", never)
    result = grow(digits, (60,))
    # With so few images the same choose and judge, so that the rows have the gains that are judged.
    gains = {(row["heat"], row["action"]): row["gain"] for row in result.candidates if not row["control"]}
    (best,) = (action for heat, action in gains if heat == 2)
    ((now, in_the_end),) = asked
    assert now.bits == pytest.approx(gains[2, best])
    assert in_the_end.bits == pytest.approx(2 * gains[2, best] - gains[1, best])
    assert in_the_end.bits != pytest.approx(now.bits)


def adopts_on_noise(seed: int) -> bool:
    rng = torch.Generator().manual_seed(seed)

    def split(count: int) -> Split:
        return Split(torch.rand(count, 20, generator=rng), torch.randint(0, 3, (count,), generator=rng))

    noise = Dataset("noise", split(300), split(300), split(50), 3, ("a", "b", "c"), {})
    network = StructNet([20, 100, 3], 0.1, rng_seed=seed, ensure_paths=True)
    options = settings(epochs=100, max_parameters=60, recipe=Recipe(batch_size=32, rng_seed=seed))
    result = Tournament(network, noise, settings=options).run()
    assert result.candidates, "a run that is too short has no contest"
    return any(row["decision"] == "adopted" for row in result.rounds)


@pytest.mark.slow
def test_hardly_any_shape_is_adopted_on_random_labels() -> None:
    runs = 12
    adopted = sum(adopts_on_noise(seed) for seed in range(runs))
    assert adopted <= 0.05 * runs + 1.65 * math.sqrt(0.05 * 0.95 * runs)


def test_minutes_bound_a_run_with_a_contest(digits: Dataset) -> None:
    result = grow(digits, (60,), minutes=0.01, epochs=2000)
    assert result.progress.step < 2000 * 34 / 4
    assert result.network.parameter_count <= 150
