"""Growth without a last round: what ends it, how long the line is then - and how long it may be by the clock."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from search.commands.grow.command import GrowOptions
from search.commands.grow.fitting import fitted_to, settings_for
from structnet import StructNet
from structnet.data.dataset import Dataset
from structnet.data.datasets import load_dataset
from structnet.errors import UserError
from structnet.training.recipe import Recipe
from tournament import Economy, Tournament, coordinator
from tournament.coordinator import PLATEAU_ROUNDS, Result
from tournament.final_phase import start_final_phase
from tournament.progress import Checkpoint
from tournament.settings import Settings
from tournament.winning_line import WinningLine
from tournament.workers.pool import InlinePool

PER_EPOCH = 33


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


def seed() -> StructNet:
    return StructNet([64, 16, 10], 0.1, rng_seed=0, ensure_paths=True)


def settings(**options: Any) -> Settings:
    """Without `indefinite` growth would end after a round, or after 13 steps."""
    given: dict[str, Any] = {
        "epochs": 1,
        "rounds": 1,
        "round_steps": 15,
        "heat_steps": 10,
        "candidates": 3,
        "indefinite": True,
        "target_accuracy": 1.0,
        "learning_rate": 1e-2,
        "recipe": Recipe(batch_size=32),
        "economy": Economy(income=1.0, opening_credits=400, fork_price=0.0),
    }
    return Settings(**{**given, **options})


def grow(data: Dataset, folder: Path | None = None, resume: bool = False, **options: Any) -> Result:
    checkpoint = Checkpoint(str(folder), data) if folder else None
    return Tournament(seed(), data, settings=settings(**options), checkpoint=checkpoint).run(resume=resume)


def growth_of(result: Result) -> list[dict[str, Any]]:
    """The rows of its rounds until growth ended."""
    return [row for row in result.rounds if row["decision"] != "final"]


@pytest.fixture(scope="module")
def grown(digits: Dataset) -> Result:
    return grow(digits, target_accuracy=0.85)


def test_it_grows_until_the_target(grown: Result) -> None:
    accuracies = [row["accuracy"] for row in growth_of(grown)]
    assert len(accuracies) > 3
    assert max(accuracies[:-1]) < 0.85 <= accuracies[-1]
    assert "the target, accuracy 85.00%, is reached" in grown.progress.reason


def test_a_path_of_sizes_follows_growth(grown: Result) -> None:
    last, first = growth_of(grown)[-1], grown.progress.front[0]
    assert last["steps"] > PER_EPOCH
    assert first["steps"] == PER_EPOCH
    assert grown.rounds[first["round"]]["steps"] == last["steps"] + PER_EPOCH


def test_it_grows_until_the_limit(digits: Dataset) -> None:
    result = grow(digits, max_parameters=300, policy="random")
    assert "limit of 300" in result.progress.reason
    assert max(row["parameters"] for row in result.rounds) >= 300 >= result.network.parameter_count


def test_it_ends_when_nothing_significant_is_left(digits: Dataset) -> None:
    """A heat of one step tells nobody apart; for as long as training alone helps, growth goes on all the same."""
    result = grow(digits, heat_steps=1, actions=("skip",), learning_rate=3e-3)
    growth = growth_of(result)
    assert [row["decision"] for row in growth[-3:]] == ["nothing_significant"] * 3
    assert "nothing significant" in result.progress.reason
    last = growth[-1]["round"]
    assert last - result.progress.best_round >= 3
    assert last > 4


def test_it_ends_when_the_accuracy_stays_where_it_is(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control policy never grows, and so never runs out of growth; nor is a network without credits quiet."""
    monkeypatch.setattr(coordinator, "PLATEAU_ROUNDS", 3)
    result = grow(digits, policy="control", heat_steps=1, learning_rate=1e-6)
    last = growth_of(result)[-1]["round"]
    assert last - result.progress.best_round == 3
    assert "not risen in 3 rounds" in result.progress.reason
    best = max(range(1, last + 1), key=lambda number: result.rounds[number]["accuracy"])
    assert result.progress.best_round == best
    assert PLATEAU_ROUNDS == 10


@pytest.mark.parametrize("newest", [1, 3])
def test_a_resume_goes_on_to_the_same_bit(
    digits: Dataset, tmp_path: Path, grown: Result, newest: int
) -> None:
    grow(digits, tmp_path, target_accuracy=0.85)
    for path in tmp_path.iterdir():
        if int(path.name[6:10]) > newest or "-step-" in path.name:
            path.unlink()
    resumed = grow(digits, tmp_path, resume=True, target_accuracy=0.85)
    assert torch.equal(resumed.network.values, grown.network.values)
    timeless = [{**row, "seconds": 0, "snapshot": ""} for row in resumed.rounds]
    assert timeless == [{**row, "seconds": 0, "snapshot": ""} for row in grown.rounds[newest + 1 :]]


def test_a_line_is_as_long_as_growth_and_its_epochs(digits: Dataset) -> None:
    line = WinningLine(seed(), digits, settings(epochs=2), InlinePool(digits))
    line.progress.step = 500
    assert line.total_steps == 500 + 2 * PER_EPOCH
    line.parameters = 200
    start_final_phase(line, "enough", 1.0)
    line.progress.step = 530
    assert (line.total_steps, line.progress.final_stop) == (500 + 2 * PER_EPOCH, 500 + 2 * PER_EPOCH)
    assert line.growth_stop == round(0.4 * 2 * PER_EPOCH)


def test_without_an_end_it_is_refused() -> None:
    with pytest.raises(UserError, match="give target_accuracy"):
        settings(target_accuracy=None)


def test_the_command_passes_it_on(digits: Dataset) -> None:
    options = GrowOptions(architecture="input,8,classes", epochs=4, indefinite=True, target_accuracy=0.9)
    assert settings_for(fitted_to(options, digits), 0).indefinite


# --- minutes


def ticking(*seconds: float) -> Callable[[], float]:
    """A clock whose readings are so many seconds apart."""
    return itertools.accumulate((0.0, *seconds)).__next__


def timed(data: Dataset, clock: Callable[[], float]) -> WinningLine:
    return WinningLine(
        seed(), data, settings(indefinite=False, epochs=20, minutes=1.0), InlinePool(data), clock
    )


def test_the_line_is_timed_with_the_newest_interval_at_half_the_weight(digits: Dataset) -> None:
    """Intervals of 15 steps that take 30 and 60 seconds: 2 seconds a step, then (2 + 4) / 2."""
    line = timed(digits, ticking(30.0, 7.0, 60.0))
    line.start(seed())
    assert line.progress.seconds_per_step == pytest.approx(2.0)
    line.train()
    assert line.progress.seconds_per_step == pytest.approx(3.0)


def test_the_final_phase_fits_the_minutes_whatever_forks_and_workers_did(digits: Dataset) -> None:
    """35 of 60 seconds are left at half a second a step: 70 steps, however many steps the forks took."""
    line = timed(digits, ticking())
    line.parameters, line.progress.step = 200, 60
    line.progress.seconds_per_step, line.progress.steps_all = 0.5, 10**6
    line.workers.workers = 16
    start_final_phase(line, "enough", 25.0)
    assert line.progress.final_stop - line.progress.final_start == 70


@pytest.mark.parametrize(("spent", "steps"), [(59.0, PER_EPOCH), (-(10.0**6), 20 * PER_EPOCH - 60)])
def test_it_has_an_epoch_at_least_and_the_line_at_most(digits: Dataset, spent: float, steps: int) -> None:
    line = timed(digits, ticking())
    line.parameters, line.progress.step, line.progress.seconds_per_step = 200, 60, 0.5
    start_final_phase(line, "enough", spent)
    assert line.progress.final_stop - line.progress.final_start == steps
