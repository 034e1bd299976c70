"""Screening by Thompson sampling: it finds the best arm, keeps the first turn, and goes on after a resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from structnet import StructNet
from structnet.actions.base import Proposal
from structnet.data.dataset import Dataset
from structnet.data.datasets import load_dataset
from structnet.seeds import stream
from structnet.training.recipe import Recipe
from tournament import Settings, Tournament
from tournament.observer import Observer
from tournament.progress import Checkpoint
from tournament.rules.screening import Bandit, Score, arm_of, by_turns, screen

SIZES = (10, 100)
WORTH = {("patch", 0): 0.2, ("patch", 1): 0.3, ("widen", 0): 0.1, ("widen", 1): 0.8, ("clone", 0): 0.0}
PER_ARM, PLACES, ROUNDS = 6, 8, 12


def proposals() -> list[Proposal]:
    """Of every arm several; the best arm has the least promise."""
    return [
        Proposal(action, f"{action} {size} {number}", SIZES[size], (1 - worth) * SIZES[size])
        for (action, size), worth in WORTH.items()
        for number in range(PER_ARM)
    ]


def played(rng_seed: int) -> list[list[tuple[str, int]]]:
    """The arms that entered in every round, where scores are the worth of the arm with noise."""
    noise = np.random.default_rng(rng_seed)
    scores: list[Score] = []
    rounds = []
    for number in range(1, ROUNDS + 1):
        bandit = Bandit(tuple(scores), stream(rng_seed, "thompson", number))
        entering, _ = screen(proposals(), SIZES, 1000, PLACES, bandit)
        arms = [arm_of(proposal, SIZES) for proposal in entering]
        scores += [(*arm, WORTH[arm] + noise.normal(0, 0.2)) for arm in arms]
        rounds.append(arms)
    return rounds


def test_the_best_arm_is_found() -> None:
    first, last = [], []
    for seed in range(5):
        rounds = played(seed)
        assert all(len(arms) == PLACES for arms in rounds)
        first.append(rounds[0][3:].count(("widen", 1)))
        last += [arms[3:].count(("widen", 1)) for arms in rounds[-3:]]
    free = PLACES - 3  # what the first turn leaves
    assert np.mean(first) < 0.5 * free
    assert np.mean(last) > 0.8 * free


def test_the_best_site_of_every_action_still_enters_first() -> None:
    scores = tuple((*arm, worth) for arm, worth in WORTH.items() for _ in range(50))
    entering, _ = screen(proposals(), SIZES, 1000, PLACES, Bandit(scores, stream(0, "thompson", 1)))
    assert {proposal.action for proposal in entering[:3]} == {"patch", "widen", "clone"}
    assert len({id(proposal) for proposal in entering}) == PLACES
    dear, too_dear = screen(proposals(), SIZES, 50, PLACES, Bandit(scores, stream(0, "thompson", 1)))
    assert all(proposal.parameters_added <= 50 for proposal in dear)
    assert {proposal.action for proposal in too_dear} == {"patch", "widen"}


def test_room_for_fewer_than_the_first_turn_and_nothing_to_enter() -> None:
    bandit = Bandit((), stream(0, "thompson", 1))
    assert len(screen(proposals(), SIZES, 1000, 2, bandit)[0]) == 2
    assert screen([], SIZES, 1000, 2, bandit) == ([], [])


def test_draws_are_wide_where_little_is_known_and_narrow_around_what_is() -> None:
    scores: list[Score] = [("patch", 0, 0.5 + 0.1 * (-1) ** number) for number in range(200)]
    scores += [("widen", 0, 2.0)]
    draws = Bandit(tuple(scores), stream(0, "thompson", 1)).draws(
        [("patch", 0), ("widen", 0), ("new", 0)], 4000
    )
    assert np.mean(draws["patch", 0]) == pytest.approx(0.5, abs=0.01)
    assert np.std(draws["patch", 0]) < 0.02
    # One score of 2 and a prior of one score at the mean of all, 0.507.
    assert np.mean(draws["widen", 0]) == pytest.approx((2.0 + 0.507) / 2, abs=0.03)
    assert np.std(draws["new", 0]) > 3 * np.std(draws["patch", 0])


def test_turns_go_around_all_arms() -> None:
    arms = [arm_of(proposal, SIZES) for proposal in by_turns(proposals(), SIZES)]
    assert len(arms) == len(WORTH) * PER_ARM
    for turn in range(PER_ARM):
        assert {*arms[turn * len(WORTH) : (turn + 1) * len(WORTH)]} == {*WORTH}


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


class Stop(Observer):
    def round_started(self, number: int) -> None:
        if number == 2:
            raise KeyboardInterrupt


def tournament(data: Dataset, folder: Path, observer: Observer | None = None) -> Tournament:
    settings = Settings(
        epochs=12,
        rounds=3,
        round_steps=20,
        heat_steps=20,
        candidates=14,
        screening="thompson",
        growth_share=0.5,
        recipe=Recipe(batch_size=32),
    )
    seed = StructNet([64, 16, 10], 0.1, ensure_paths=True)
    return Tournament(
        seed, data, settings=settings, checkpoint=Checkpoint(str(folder), data), observer=observer
    )


def test_a_resumed_run_remembers_the_scores(digits: Dataset, tmp_path: Path) -> None:
    whole = tournament(digits, tmp_path / "whole").run()
    with pytest.raises(KeyboardInterrupt):
        tournament(digits, tmp_path / "cut", Stop()).run()
    resumed = tournament(digits, tmp_path / "cut").run(resume=True)

    def timeless(row: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in row.items() if name not in ("seconds", "worker")}

    later = [timeless(row) for row in whole.candidates if row["round"] > 1]
    assert [timeless(row) for row in resumed.candidates] == later
    assert resumed.progress.scores == whole.progress.scores
    first = [row for row in whole.candidates if row["round"] == 1 and row["heat"] == 1 and row["affordable"]]
    forks = [row for row in first if not row["control"] and row["action"] != "patch:random"]
    assert [score[0] for score in whole.progress.scores[: len(forks)]] == [row["action"] for row in forks]
