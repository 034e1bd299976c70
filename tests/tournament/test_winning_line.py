"""The winning line: how long it waits for its trigger, what the trigger sees, and rates only while it grows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from helpers.training_cases import image_split

from structnet import StructNet
from structnet.data.dataset import Dataset
from structnet.errors import UserError
from structnet.growth.triggers import TRIGGERS, Series, Watches
from structnet.network.state import TrainState
from structnet.training.loop import train_steps
from structnet.training.rates import AgeRates
from structnet.training.recipe import Recipe
from structnet.training.schedules import constant
from tournament import Economy, Tournament
from tournament import winning_line as line
from tournament.opponents import train_dense_baseline
from tournament.progress import Checkpoint
from tournament.settings import Settings
from tournament.winning_line import LONGEST_WAIT, WinningLine
from tournament.workers.contender import Contender
from tournament.workers.pool import InlinePool

RECIPE = Recipe(batch_size=20, rng_seed=3)


def data() -> Dataset:
    splits = [image_split(images, seed) for seed, images in enumerate((400, 300, 50))]
    return Dataset("small", *splits, 3, ("a", "b", "c"), {})


def seed() -> StructNet:
    return StructNet([16, 6, 3], 0.3, rng_seed=0, ensure_paths=True)


def settings(**options: Any) -> Settings:
    given = {
        "epochs": 20,
        "rounds": 2,
        "round_steps": 10,
        "heat_steps": 20,
        "candidates": 4,
        "recipe": RECIPE,
    }
    return Settings(**{**given, **options})


@dataclass
class Scripted:
    """Fires when it has seen so many steps; keeps what it was shown."""

    steps: int
    watches: str
    seen: list[list[float]]

    def fires(self, losses: Sequence[float]) -> bool:
        self.seen.append(list(losses))
        return len(losses) >= self.steps


def started(
    monkeypatch: pytest.MonkeyPatch, steps: int, watches: str = "loss", **options: Any
) -> WinningLine:
    monkeypatch.setattr(line, "fitted_trigger", lambda name, interval: Scripted(steps, watches, []))
    own = data()
    found = WinningLine(seed(), own, settings(**options), InlinePool(own))
    found.start(seed())
    return found


@pytest.mark.parametrize("name", TRIGGERS)
def test_the_seed_trains_for_one_interval_whatever_the_trigger(name: str) -> None:
    own = data()
    found = WinningLine(seed(), own, settings(trigger=name), InlinePool(own))
    found.start(seed())
    assert found.progress.step == 10
    assert type(found.trigger) is TRIGGERS[name]


def test_the_line_trains_until_its_trigger_fires(monkeypatch: pytest.MonkeyPatch) -> None:
    found = started(monkeypatch, steps=25, trigger="plateau")
    assert found.train() == "plateau"
    assert found.progress.step == 10 + 30
    found.train()  # the history begins anew
    assert found.progress.step == 10 + 30 + 30
    assert [len(seen) for seen in found.trigger.seen] == [10, 20, 30, 10, 20, 30]


def test_growth_happens_anyway_after_the_longest_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    found = started(monkeypatch, steps=10**9)
    assert found.train() == "clock"
    assert found.progress.step == 10 + LONGEST_WAIT * 10


def test_the_line_waits_no_longer_than_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    found = started(monkeypatch, steps=10**9, epochs=2, round_steps=16)
    assert found.train() == "end"
    assert found.progress.step == found.total_steps == 40
    found.train()
    assert found.progress.step == 40
    assert [len(seen) for seen in found.trigger.seen] == [16]


@pytest.mark.parametrize("watches", ["loss", "gradient_norm"])
def test_a_trigger_sees_what_it_watches(monkeypatch: pytest.MonkeyPatch, watches: str) -> None:
    found = started(monkeypatch, steps=20, watches=watches)
    found.train()
    alone = TrainState.fresh(seed())
    train_steps(alone, data().train, RECIPE, 10, constant(0.012))
    norms = torch.empty(20)
    losses = train_steps(alone, data().train, RECIPE, 20, constant(0.012), norms=norms)
    expected = norms if watches == "gradient_norm" else losses
    assert found.trigger.seen[-1] == expected.tolist()


@dataclass(frozen=True)
class AskedThrice:
    """A trigger of this module alone, which fires when it is asked for the third time."""

    interval: int
    watches: ClassVar[Watches] = "loss"

    @classmethod
    def fitted(cls, interval: int) -> AskedThrice:
        return cls(interval)

    def fires(self, losses: Series) -> bool:
        return len(losses) >= 3 * self.interval


def test_a_trigger_is_one_class_and_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TRIGGERS, "asked_thrice", AskedThrice)

    def first_growth(trigger: str) -> int:
        own = data()
        result = Tournament(
            seed(), own, settings=settings(trigger=trigger, rounds=1), pool=InlinePool(own)
        ).run()
        opened, first = result.rounds[:2]
        return first["steps"] - opened["steps"]

    assert first_growth("asked_thrice") - first_growth("interval") == 20
    with pytest.raises(UserError, match=r"must be one of .*gradient_variance, asked_thrice"):
        settings(trigger="unknown")


# --- rates

RATES = AgeRates(matures_after=5, freezes_after=15)


def recipes_of(monkeypatch: pytest.MonkeyPatch, recipe: Recipe) -> dict[str, set[Recipe]]:
    """Name of a kind of work -> the recipes it was given in a whole tournament."""
    given: dict[str, set[Recipe]] = {}
    do = Contender.do

    def noted(self: Contender, work: Any, states: Any) -> Any:
        if hasattr(work, "recipe"):
            given.setdefault(work.name, set()).add(work.recipe)
        return do(self, work, states)

    monkeypatch.setattr(Contender, "do", noted)
    options = settings(recipe=recipe, economy=Economy(opening_credits=100))
    own = data()
    pool = InlinePool(own)
    tournament = Tournament(seed(), own, settings=options, pool=pool)
    train_dense_baseline(tournament.run(), tournament.settings, pool)
    pool.close()
    return given


def test_rates_are_for_growing_and_the_same_for_forks_and_controls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Line, survey, forks and controls have one recipe; the final phase and the dense baseline have one rate."""
    recipe = replace(RECIPE, rates=RATES, weight_decay=0.1)
    given = recipes_of(monkeypatch, recipe)
    final = {"shrink", "train_dense"}
    assert final < given.keys()
    for name, found in given.items():
        assert found == {replace(recipe, rates=None) if name in final else recipe}, name


def test_a_frozen_line_moves_again_in_the_final_phase() -> None:
    own = data()
    found = WinningLine(seed(), own, settings(recipe=replace(RECIPE, rates=RATES)), InlinePool(own))
    found.start(seed())
    found.train()
    before = found.arrays()["values"].copy()
    found.train()
    assert np.array_equal(found.arrays()["values"], before)
    found.progress.phase = "final"
    found.train()
    assert (found.arrays()["values"] != before).mean() > 0.9


# --- resuming


@pytest.mark.parametrize("name", ["plateau", "gradient_variance"])
def test_a_resumed_line_decides_the_same(name: str, tmp_path: Path) -> None:
    """All that a trigger sees is from its own round, so the round after a resume is the same to the bit."""
    own = replace(RECIPE, rates=AgeRates(0.5))
    options = settings(trigger=name, epochs=13, heat_steps=10, candidates=2, growth_share=1.0, recipe=own)

    def run(folder: str, resume: bool = False) -> list[dict[str, Any]]:
        checkpoint = Checkpoint(str(tmp_path / folder), data())
        result = Tournament(seed(), data(), settings=options, checkpoint=checkpoint).run(resume=resume)
        return [{**row, "seconds": 0, "snapshot": ""} for row in result.rounds]

    whole = run("whole")
    assert run("cut") == whole
    for path in (tmp_path / "cut").iterdir():
        if not path.name.startswith(("round-0000", "round-0001.")):
            path.unlink()
    assert run("cut", resume=True) == whole[2:]
