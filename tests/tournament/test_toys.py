"""An action, a policy and a trigger of one's own: a line of a registry each, and a tournament has them too."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import pytest
from helpers import toy_action
from helpers.action_cases import make
from helpers.toy_action import TOY
from typer.testing import CliRunner

from search.cli import app
from structnet import StructNet
from structnet.actions import ACTIONS, Action, action_of, growing, offered
from structnet.data.datasets import load_dataset
from structnet.experiments.rescue import RescuePlan
from structnet.growth.triggers import TRIGGERS, Series, Watches
from structnet.storage.tables import read_table
from structnet.training.recipe import Recipe
from tournament import Economy, Settings, Tournament
from tournament.coordinator import Result
from tournament.rules.score import POLICIES, Policy
from tournament.workers.pool import InlinePool


class Twice:
    """A trigger that fires when it has been asked about two intervals."""

    watches: ClassVar[Watches] = "loss"

    def __init__(self, interval: int) -> None:
        self.steps = 2 * interval

    @classmethod
    def fitted(cls, interval: int) -> Twice:
        """For a run that asks it so often."""
        return cls(interval)

    def fires(self, losses: Series) -> bool:
        """Whether two intervals have passed."""
        return len(losses) >= self.steps


# Takes growth of fewer than 60 parameters, whatever it has gained.
SMALLEST = Policy(lambda standing: -abs(standing.score), lambda gain, added, price, z: 0 < added < 60)


@pytest.fixture()
def toy(monkeypatch: pytest.MonkeyPatch) -> Action:
    monkeypatch.setitem(ACTIONS, "toy", TOY)
    return TOY


def grown(**options: Any) -> Result:
    settings = Settings(
        epochs=6,
        rounds=2,
        round_steps=20,
        heat_steps=40,
        growth_share=1.0,
        recipe=Recipe(batch_size=32),
        economy=Economy(income=0.5, fork_price=0.0),
        **options,
    )
    seed = StructNet([64, 16, 10], 0.1, ensure_paths=True)
    return Tournament(seed, load_dataset("digits"), settings=settings).run()


def test_a_tournament_grows_by_an_action_of_ones_own(toy: Action) -> None:
    first = [row for row in grown(actions=("toy",)).candidates if row["heat"] == 1]
    ran = Counter(row["action"] for row in first if row["status"] == "finished")
    # The controls and the random twin run beside it once in a round.
    assert ran["train"] == ran["toy:random"] == 2
    assert ran["toy"] >= 2
    assert {*ran} == {"train", "toy", "toy:random"} | {
        name for name, action in ACTIONS.items() if action.role == "control"
    }


def test_it_is_offered_and_tested_as_its_role_says(toy: Action, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "toy" in Settings().actions and "toy" in growing()
    assert RescuePlan((64, 16, 10), 0.1, "toy", 20).mechanism == "toy"
    case = make([12, 8, 4])
    proposal = toy.propose(case.context())[0]
    twin = toy.twin(case.context(), proposal)
    assert twin is not None and action_of(twin.action) is toy
    assert toy.apply(case.network, twin).added == proposal.parameters_added
    monkeypatch.setitem(ACTIONS, "toy", Action("toy", role="control", module=toy_action.__name__))
    assert "toy" not in offered() and "toy" not in growing()
    rows = grown(actions=("patch",)).candidates
    assert all(row["control"] for row in rows if row["action"] == "toy")
    assert any(row["action"] == "toy" for row in rows)


def test_a_tournament_decides_by_a_policy_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(POLICIES, "smallest", SMALLEST)
    won = [row for row in grown(policy="smallest").candidates if row["won"]]
    assert won
    assert all(0 < row["parameters_added"] < 60 for row in won)


def test_the_names_of_both_cost_no_torch() -> None:
    """A command line offers them, and shows its help at once."""
    code = (
        "import sys; from structnet.actions import ACTIONS; from tournament.rules.score import POLICIES; "
        "from tournament.rules.screening import SCREENINGS; "
        "assert ACTIONS and POLICIES and SCREENINGS and not {'torch', 'ray', 'scipy'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.usefixtures("toy", "ray_session")
def test_the_command_takes_all_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its workers are in this process, where the registries have the toys."""
    monkeypatch.setitem(POLICIES, "smallest", SMALLEST)
    monkeypatch.setitem(TRIGGERS, "twice", Twice)
    monkeypatch.setattr("tournament.workers.pool.RayPool", lambda data, *_, **__: InlinePool(data))
    line = (
        "grow --actions toy --policy smallest --trigger twice --epochs 6 --rounds 2 --round-steps 10 --candidates 3 "
        "--workers 1 --fork-price 0 --name toys"
    )
    done = CliRunner().invoke(app, [*line.split(), "--results", str(tmp_path)])
    assert done.exit_code == 0, done.output
    rows = read_table(str(tmp_path), "candidates", "toys").to_pylist()
    assert {"toy", "toy:random"} <= {row["action"] for row in rows}
    assert any(row["won"] for row in rows)
    first, second = read_table(str(tmp_path), "rounds", "toys").to_pylist()[:2]
    # Two intervals from the first answer on, and the steps of the heats, which the winner has trained.
    assert second["steps"] - first["steps"] == 2 * 10 + 2 * 10
