"""A stated job: growth ends with a path of sizes, of which the network is returned that does it."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from structnet import StructNet
from structnet.data.dataset import Dataset
from structnet.data.datasets import load_dataset
from structnet.errors import UserError, WorkFailed
from structnet.measure.size import stored_bytes
from structnet.network.state import TrainState
from structnet.storage.tables import TableWriter, read_table
from structnet.training.evaluation import evaluate
from structnet.training.recipe import Recipe
from structnet.training.shrinking import Shrinking
from tournament import Economy, Tournament, coordinator, descent
from tournament.coordinator import Result
from tournament.progress import Checkpoint
from tournament.settings import Settings
from tournament.winning_line import WinningLine
from tournament.workers import fork
from tournament.workers.pool import InlinePool, RayPool


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


def settings(**options: Any) -> Settings:
    given: dict[str, Any] = {
        "epochs": 10,
        "rounds": 1,
        "round_steps": 15,
        "heat_steps": 10,
        "candidates": 3,
        "recipe": Recipe(batch_size=32),
        "economy": Economy(fork_price=0.0),
    }
    return Settings(**{**given, **options})


def grow(
    data: Dataset,
    folder: Path | None = None,
    *,
    resume: bool = False,
    pool: RayPool | None = None,
    **options: Any,
) -> Result:
    seed = StructNet([64, 16, 10], 0.1, rng_seed=0, ensure_paths=True)
    return Tournament(
        seed,
        data,
        settings=settings(**options),
        pool=pool,
        writer=TableWriter(str(folder), "e") if folder else None,
        checkpoint=Checkpoint(str(folder / "snapshots"), data) if folder else None,
    ).run(resume=resume)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("descent")


@pytest.fixture(scope="module")
def grown(digits: Dataset, folder: Path) -> Result:
    return grow(digits, folder, target_accuracy=0.8)


def rows_of(folder: Path, table: str) -> list[dict[str, Any]]:
    """In their order, without the clock and the place of the snapshots."""
    rows = read_table(str(folder), table, "e").to_pylist()
    dropped = {"seconds", "snapshot", "worker"}
    return sorted(
        ({name: value for name, value in row.items() if name not in dropped} for row in rows),
        key=lambda row: row["round"],
    )


# --- a target


def test_it_ends_with_the_smallest_that_holds(grown: Result, digits: Dataset) -> None:
    holding = [row for row in grown.progress.front if row["holds"]]
    assert grown.held
    assert grown.network.parameter_count == min(row["parameters"] for row in holding)
    assert grown.network.parameter_count < max(row["parameters"] for row in grown.progress.front) / 1.5
    assert evaluate(grown.network, digits.validation).accuracy == grown.measured.accuracy >= 0.8
    assert evaluate(grown.network, digits.test).accuracy == grown.test.accuracy
    assert any(not row["holds"] for row in grown.progress.front)


def test_every_size_is_a_row_and_a_network(grown: Result, folder: Path) -> None:
    rows = read_table(str(folder), "fronts", "e").to_pylist()
    assert len(rows) == len(grown.progress.front) > 3
    for row in rows:
        network = StructNet.load(row["snapshot"])
        assert network.parameter_count == row["parameters"] <= row["size"]
        assert row["bytes"] == stored_bytes(network.topology) > 4 * row["parameters"]
        assert row["holds"] == (row["accuracy"] >= 0.8) == (row["error"] <= 1)
    final = [row for row in rows_of(folder, "rounds") if row["decision"] == "final"]
    assert [row["parameters"] for row in final] == [row["parameters"] for row in grown.progress.front]


def test_test_images_are_read_for_what_is_returned_only(grown: Result, folder: Path) -> None:
    rows = read_table(str(folder), "fronts", "e").to_pylist()
    (chosen,) = [row for row in rows if row["chosen"]]
    assert chosen["parameters"] == grown.network.parameter_count
    assert chosen["test_accuracy"] == grown.test.accuracy
    assert [row["test_accuracy"] for row in rows if not row["chosen"]] == [None] * (len(rows) - 1)
    assert grown.snapshot == chosen["snapshot"]


def test_the_front_is_in_order_and_undominated(grown: Result) -> None:
    front = [row for row in grown.front if not row["chosen"]]
    assert len(front) in (len(grown.front), len(grown.front) - 1)
    for smaller, larger in pairwise(front):
        assert smaller["parameters"] < larger["parameters"]
        assert smaller["information"] < larger["information"]
    assert sum(row["chosen"] for row in grown.front) == 1


def test_its_cost_is_in_its_rows(grown: Result) -> None:
    rows = grown.progress.front
    for before, after in pairwise(rows):
        spent = after["parameter_steps_all"] - before["parameter_steps_all"]
        assert spent == after["parameter_steps"] > after["steps"] * after["parameters"] * 0.9


def test_credits_add_up(grown: Result) -> None:
    for before, after in pairwise(grown.rounds):
        change = after["credits_earned"] + after["credits_refunded"] - after["credits_spent"]
        assert after["balance"] == pytest.approx(before["balance"] + change)
        assert after["balance"] >= 0
    assert grown.rounds[0]["balance"] == 64 * 16 + 16 * 10 + 26


def test_credits_that_are_given_bound_the_exploration(digits: Dataset) -> None:
    result = grow(digits, rounds=0, front=(150,), economy=Economy(income=0, opening_credits=30))
    assert max(row["credits_spent"] for row in result.rounds) <= 30


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 1.0])
def test_a_resume_gives_the_same_front(
    digits: Dataset, folder: Path, grown: Result, tmp_path: Path, share: float
) -> None:
    """From the seed, from within growth, from within the path and from its end."""
    grow(digits, tmp_path, target_accuracy=0.8)
    last = round(share * grown.progress.round)
    for path in (tmp_path / "snapshots").iterdir():
        if int(path.name[6:10]) > last:
            path.unlink()
    resumed = grow(digits, tmp_path, resume=True, target_accuracy=0.8)
    assert torch.equal(resumed.network.values, grown.network.values)
    assert resumed.choice == grown.choice
    assert rows_of(tmp_path, "fronts") == rows_of(folder, "fronts")
    assert rows_of(tmp_path, "rounds") == rows_of(folder, "rounds")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
def test_any_number_of_workers_gives_the_same_front(
    digits: Dataset, folder: Path, grown: Result, tmp_path: Path, ray_session: None, workers: int
) -> None:
    pool = RayPool(digits, workers)
    try:
        grow(digits, tmp_path, pool=pool, target_accuracy=0.8)
    finally:
        pool.close()
    assert rows_of(tmp_path, "fronts") == rows_of(folder, "fronts")


def test_what_cannot_be_reached_is_said_with_the_best_and_what_it_would_take(digits: Dataset) -> None:
    result = grow(digits, target_accuracy=0.9, max_parameters=60)
    assert not result.held
    assert result.network.parameter_count <= 60
    assert result.measured.accuracy == max(row["accuracy"] for row in result.progress.front)
    assert result.choice is not None and result.choice.would_take is not None
    assert result.choice.would_take > 60
    assert {row["size"] for row in result.progress.front} == {60, 30}


def test_a_target_that_is_missed_by_little_gets_a_long_phase_and_the_path_goes_on(digits: Dataset) -> None:
    result = grow(digits, target_accuracy=0.88, max_parameters=150)
    path = [(row["size"], row["holds"], row["steps"]) for row in result.progress.front]
    (long,) = (number for number, (_, _, steps) in enumerate(path) if steps == 330)  # all ten epochs
    assert not any(holds for _, holds, _ in path[:long])
    assert path[long][:2] == (150, True)
    assert result.held and result.network.parameter_count < 110


def test_a_phase_that_begins_elsewhere_leaves_the_network_before_it_as_it_is(
    digits: Dataset, tmp_path: Path
) -> None:
    """Every size of the front is the network of its snapshot, and a resume goes the same way."""
    result = grow(digits, tmp_path, target_accuracy=0.88, max_parameters=150)
    assert result.progress.insisted
    checkpoint = Checkpoint(str(tmp_path / "snapshots"), digits)
    for row in result.progress.front:
        state = TrainState.from_arrays(checkpoint.arrays_after(row["round"]))
        assert state.network.parameter_count == row["parameters"]
        assert evaluate(state.network, digits.validation).accuracy == row["accuracy"]
    long = next(row["round"] for row in result.progress.front if row["steps"] == 330)
    cut = tmp_path / "cut"
    shutil.copytree(tmp_path, cut, ignore=shutil.ignore_patterns("cut"))
    for file in (cut / "snapshots").iterdir():
        if int(file.name.split("-")[1].split(".")[0]) >= long:
            file.unlink()
    resumed = grow(digits, cut, resume=True, target_accuracy=0.88, max_parameters=150)
    assert [row["accuracy"] for row in resumed.progress.front] == [
        row["accuracy"] for row in result.progress.front
    ]


def test_a_long_phase_that_is_not_enough_is_the_last(digits: Dataset) -> None:
    result = grow(digits, target_accuracy=0.9, max_parameters=150)
    assert not result.held
    assert [row["steps"] for row in result.progress.front][-1] == 330
    far = grow(digits, target_accuracy=0.97, max_parameters=150)
    assert not far.held and not far.progress.insisted


def test_everything_right_can_be_asked_for(digits: Dataset, tmp_path: Path) -> None:
    result = grow(digits, tmp_path, target_accuracy=1.0, max_parameters=60)
    assert not result.held
    assert all(row["error"] < float("inf") for row in rows_of(tmp_path, "fronts"))


@pytest.mark.parametrize(
    ("options", "figure"),
    [({"target_loss": 0.8}, "loss"), ({"target_balanced_accuracy": 0.8}, "balanced_accuracy")],
)
def test_other_figures_can_be_the_target(digits: Dataset, options: dict[str, float], figure: str) -> None:
    result = grow(digits, **options)
    (chosen,) = [row for row in result.progress.front if row["chosen"]]
    assert chosen["found"] == pytest.approx(chosen[figure])
    assert result.held


def test_to_be_sure_takes_more_than_to_hope(digits: Dataset, grown: Result) -> None:
    sure = grow(digits, target_accuracy=0.8, confident=True)
    assert sure.held
    assert sure.measured.accuracy > 0.82
    assert sure.network.parameter_count > grown.network.parameter_count


def test_what_has_not_held_is_trained_for_longer(digits: Dataset) -> None:
    """Steps of the first size, of its second try where it missed, and where it held."""
    missed = grow(digits, target_accuracy=0.999, max_parameters=60).progress.front
    assert [row["steps"] for row in missed[:3]] == [99, 165, 165]
    held = grow(digits, target_accuracy=0.5).progress.front
    assert [row["steps"] for row in held[:2]] == [99, 82]


def test_units_that_were_folded_away_come_back_where_they_are_needed(digits: Dataset) -> None:
    """From 4 units with room for 296 connections to a peak of 600, and down to 300 parameters."""
    narrow = TrainState.fresh(StructNet([64, 4, 10], 0.5, rng_seed=0, ensure_paths=True)).to_arrays()
    shrinking = Shrinking(start=0, stop=100, size=162, peak=600, limit=300)

    def shrunk(widths: tuple[int, ...]) -> tuple[int, int]:
        report, state = fork.shrink(
            narrow, digits.train, digits.validation, Recipe(32), shrinking, 100, 0.01, widths, False
        )
        return report.largest, state["architecture"][1]

    largest, width = shrunk((64, 16, 10))
    assert largest == 600 and width > 8
    assert shrunk(()) == (310, 4)


def test_what_lost_a_group_begins_again_from_what_held(digits: Dataset) -> None:
    """At the step of the line, so that batches and rates are those of now."""
    held = StructNet([64, 16, 10], 0.2, rng_seed=0, ensure_paths=True)
    line = WinningLine(held, digits, settings(target_accuracy=0.8), InlinePool(digits))
    line.set_state(line.workers.put(TrainState.fresh(StructNet([64, 10], 0.1)).to_arrays()))
    line.progress.grown_architecture, line.progress.step = [64, 16, 10], 500
    line.progress.front = [
        {"round": number, "size": size, "parameters": size, "information": 1.0, "error": error}
        for number, size, error in [(2, 200, 0.5), (3, 100, 1.5)]
    ]
    assert descent.go_on(line, 0.0)
    assert line.arrays()["architecture"] == (64, 10)  # what was reached is written as it is
    descent.begin_phase(line, {2: TrainState.fresh(held).to_arrays()}.__getitem__)
    assert line.progress.final_size == line.parameters == held.parameter_count
    assert line.arrays()["architecture"] == (64, 16, 10)
    assert line.arrays()["step"] == line.progress.final_start == 500
    assert line.progress.final_limit == 141


def test_a_size_that_diverges_ends_the_path_with_what_was_reached(
    digits: Dataset, grown: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = coordinator.final_stretch

    def diverging(line: WinningLine) -> None:
        if len(line.progress.front) == 2:
            raise WorkFailed("shrink failed in round 3: Diverged: training diverged")
        real(line)

    monkeypatch.setattr(coordinator, "final_stretch", diverging)
    result = grow(digits, target_accuracy=0.8)
    assert len(result.progress.front) == 2
    assert result.rounds[-1]["decision"] == "stopped"
    assert "diverged" in result.progress.reason
    assert result.network.parameter_count == grown.progress.front[1]["parameters"]


# --- named sizes and the knee


def test_named_sizes_are_all_there_and_tested(digits: Dataset, tmp_path: Path) -> None:
    result = grow(digits, tmp_path, front=(60, 120, 240))
    assert [row["size"] for row in result.progress.front] == [240, 240, 120, 60]
    rows = read_table(str(tmp_path), "fronts", "e").to_pylist()
    assert {row["size"] for row in rows if row["test_accuracy"] is not None} == {60, 120, 240}
    assert sum(row["test_accuracy"] is not None for row in rows) == 3
    assert sum(row["chosen"] for row in rows) == 1


def test_a_target_goes_on_from_the_named_sizes(digits: Dataset) -> None:
    result = grow(digits, front=(100, 200), target_accuracy=0.8)
    assert [row["size"] for row in result.progress.front[:3]] == [200, 200, 100]
    assert len(result.progress.front) > 3
    assert result.held


def test_the_knee_is_where_a_doubling_stops_paying(digits: Dataset) -> None:
    result = grow(digits, knee=0.05)
    assert result.choice is not None and result.choice.bits == pytest.approx(0.05 * 3.32, abs=0.01)
    by_size: dict[int, float] = {}
    for row in result.progress.front:
        by_size[row["size"]] = max(row["information"], by_size.get(row["size"], 0.0))
    (chosen,) = [row for row in result.progress.front if row["chosen"]]
    half = max(size for size in by_size if size < chosen["size"])
    assert by_size[chosen["size"]] - by_size[half] >= result.choice.bits
    double = min((size for size in by_size if size > chosen["size"]), default=None)
    assert double is None or by_size[double] - by_size[chosen["size"]] < result.choice.bits


# --- what is refused


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"target_accuracy": float("nan")}, "target_accuracy is nan"),
        ({"target_accuracy": 0.0}, r"must be in \(0, 1\]"),
        ({"target_loss": float("inf")}, "target_loss is inf"),
        ({"target_loss": -1.0}, "must be above 0"),
        ({"target_accuracy": 0.9, "target_loss": 0.1}, "2 targets, but must be at most one"),
        ({"confident": True}, "give a target"),
        ({"knee": 1.5}, r"knee is 1.5, but must be in \(0, 1\)"),
    ],
)
def test_jobs_that_make_no_sense_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        settings(**options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"target_accuracy": 0.1}, "the same answer to everything has"),
        ({"front": (5, 100)}, "front is 5, but must be at least 11"),
        ({"front": (50, 100), "max_parameters": 60}, "front has 100, but must be within max_parameters, 60"),
    ],
)
def test_jobs_that_do_not_fit_the_data_are_refused(
    digits: Dataset, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        grow(digits, **options)
