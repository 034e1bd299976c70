"""Audit forks: who is drawn, what they cost, what is learned from them, and that nothing else changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from structnet import StructNet
from structnet.actions.base import Proposal
from structnet.data.dataset import Dataset
from structnet.data.datasets import load_dataset
from structnet.storage.tables import TableWriter, read_table
from structnet.training.recipe import Recipe
from tournament import Economy, Settings, Tournament
from tournament.audits import Audit, draw_audited, learn
from tournament.heats import Entrant, FinishedHeat, Terms, is_eligible, rank
from tournament.observer import Observer
from tournament.progress import Checkpoint
from tournament.rules.score import POLICIES, Standing, bar_for
from tournament.workers.fork import Measured

AUDITS = 2


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


class Stop(Observer):
    """Interrupts in the audit of the second round."""

    def __init__(self) -> None:
        self.round = 0

    def round_started(self, number: int) -> None:
        self.round = number

    def heat_started(self, heat: int, heats: int, forks: int) -> None:
        if self.round == 2 and heat == 3:
            raise KeyboardInterrupt


def tournament(
    data: Dataset, folder: Path | None = None, observer: Observer | None = None, **options: Any
) -> Tournament:
    given = {
        "epochs": 20,
        "rounds": 3,
        "round_steps": 20,
        "heat_steps": 24,
        "candidates": 8,
        "growth_share": 0.5,
        "audits": AUDITS,
        "economy": Economy(fork_price=0.0),
        "audit_factor": 2.0,
        "recipe": Recipe(batch_size=32),
    }
    return Tournament(
        StructNet([64, 16, 10], 0.1, ensure_paths=True),
        data,
        settings=Settings(**{**given, **options}),
        checkpoint=Checkpoint(str(folder / "snapshots"), data) if folder else None,
        writer=TableWriter(str(folder), "e") if folder else None,
        observer=observer,
    )


@pytest.fixture(scope="module")
def audited(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    folder = tmp_path_factory.mktemp("whole")
    return tournament(digits, folder).run(), folder


def test_losers_are_left_running_beside_both_controls(audited: tuple[Any, Path]) -> None:
    result, _ = audited
    for number in (1, 2, 3):
        rows = [row for row in result.candidates if row["round"] == number]
        heat = [row for row in rows if row["audit"]]
        assert {row["heat"] for row in heat} == {3}
        assert [row["action"] for row in heat if row["control"]] == ["train", "rewire"]
        forks = [row for row in heat if not row["control"]]
        assert len(forks) == AUDITS
        assert {row["steps"] for row in heat} == {24 + 48}
        assert not any(row["won"] or row["eligible"] or row["survived"] for row in heat)
        last = {row["candidate"] for row in rows if row["heat"] == 2}
        assert all(row["candidate"] not in last and row["parameters_added"] > 0 for row in forks)


def test_their_steps_are_counted(audited: tuple[Any, Path]) -> None:
    result, _ = audited
    before, after = result.rounds[0], result.rounds[1]
    rows = [row for row in result.candidates if row["round"] == 1 and row["status"] == "finished"]
    trained = {1: 6, 2: 18}
    steps = sum(trained.get(row["heat"], 48 if row["control"] else 18 + 48) for row in rows)
    size = lambda row: row["parameters_before"] + row["parameters_added"]  # noqa: E731
    spent = sum(trained.get(row["heat"], 48 if row["control"] else 66) * size(row) for row in rows)
    survey = -(-len(load_dataset("digits").train) // 32)
    assert after["steps_all"] - before["steps_all"] == 20 + survey + steps
    seed = before["parameters"]
    assert after["parameter_steps_all"] - before["parameter_steps_all"] == (20 + survey) * seed + spent


def test_every_audit_is_a_gain_after_each_heat_and_in_the_end(audited: tuple[Any, Path]) -> None:
    result, _ = audited
    audits = [Audit(*row) for row in result.progress.audits]
    assert len(audits) == 3 * AUDITS * 2
    assert {audit.steps for audit in audits} == {6, 24}
    # Of one fork the end is one.
    assert all(one.long == two.long for one, two in zip(audits[::2], audits[1::2]))


def test_forks_are_ranked_by_rises_learned_in_the_rounds_before(audited: tuple[Any, Path]) -> None:
    result, _ = audited
    known = learn(Audit(*row) for row in result.progress.audits[: 2 * AUDITS])
    rows = [row for row in result.candidates if row.get("gain") is not None and not row["audit"]]
    assert all(row["maturity"] == 0.0 for row in rows if row["round"] == 1)
    of_second = [row for row in rows if row["round"] == 2]
    assert all(row["maturity"] == known.rise(row["action"], row["steps"]) for row in of_second)
    assert any(row["maturity"] != 0.0 for row in of_second)


def test_an_audit_changes_nothing_in_its_own_round(audited: tuple[Any, Path], digits: Dataset) -> None:
    result, _ = audited
    without = tournament(digits, audits=0, rounds=1).run()
    names = ("candidate", "heat", "action", "gain", "survived", "won")
    first = [
        {name: row[name] for name in names}
        for row in result.candidates
        if row["round"] == 1 and not row["audit"]
    ]
    assert first == [{name: row[name] for name in names} for row in without.candidates]


def test_a_resumed_run_ends_with_the_same_tables(
    audited: tuple[Any, Path], digits: Dataset, tmp_path: Path
) -> None:
    whole, folder = audited
    with pytest.raises(KeyboardInterrupt):
        tournament(digits, tmp_path, Stop()).run()
    resumed = tournament(digits, tmp_path).run(resume=True)
    assert resumed.progress.audits == whole.progress.audits

    def timeless(place: Path, table: str) -> list[dict[str, Any]]:
        rows = read_table(str(place), table, "e").to_pylist()
        rows.sort(key=lambda row: (row["round"], row.get("heat"), row.get("candidate")))
        without = ("seconds", "snapshot", "worker")
        return [{name: value for name, value in row.items() if name not in without} for row in rows]

    for table in ("candidates", "rounds"):
        assert timeless(tmp_path, table) == timeless(folder, table)


def entrant(number: int, action: str, added: int, **options: Any) -> Entrant:
    proposal = Proposal(action, "", added, 0.1)
    one = Entrant(number, action, "", proposal, f"state {number}", **options)
    one.standing = Standing(0.1, 0.1, 0.1, 0.5)
    return one


def test_the_draw_is_among_growing_forks_that_drop_out() -> None:
    field = [
        entrant(0, "rewire", 0, control=True, stays=True),
        entrant(1, "patch:random", 10, stays=True),
        *(entrant(number, "widen", 10) for number in range(2, 8)),
        entrant(8, "prune", -10),
    ]
    heat = FinishedHeat(1, 10, field, field[:4], is_last=False)
    chosen = draw_audited(heat, 3, np.random.default_rng(0))
    numbers = [one.candidate for one in chosen]
    assert len(numbers) == 3
    assert {*numbers} <= {4, 5, 6, 7}
    field[numbers[0]].state = None
    assert chosen[0].state == f"state {numbers[0]}"
    with pytest.raises(ValueError, match="heat 2 is not the first"):
        draw_audited(FinishedHeat(2, 10, field[:4], field[:4], is_last=True), 3, np.random.default_rng(0))


def test_where_there_is_one_heat_all_forks_may_be_drawn() -> None:
    field = [entrant(number, "widen", 10) for number in range(3)]
    chosen = draw_audited(FinishedHeat(1, 10, field, field, is_last=True), 5, np.random.default_rng(0))
    assert [one.candidate for one in chosen] == [0, 1, 2]


def test_a_rise_ranks_and_does_not_prove() -> None:
    images = 400
    noise = np.random.default_rng(0).normal(0, 0.3, images)
    control = Entrant(0, "train", "", None, "s", control=True, stays=True)
    control.measured = Measured(0.5, 1.0, -1.0 + noise)
    fork = entrant(1, "widen", 100)
    fork.measured = Measured(0.5, 1.0, -0.9 + noise)
    fork.steps = 50
    known = learn([Audit("widen", 100, 50, 0.1, 0.5)], prior=0)
    terms = Terms(Recipe(), 1e-3, bar_for(images, 1, 1), POLICIES["score"], "decoder", 0.01, 32, known.rise)
    rank([control, fork], terms)
    assert fork.gain is not None and fork.standing is not None
    assert fork.maturity == pytest.approx(4.0)
    assert fork.gain.bits == pytest.approx(0.1)
    assert fork.standing.gain == pytest.approx(0.1 + 0.4)
    assert fork.standing.score == pytest.approx(1000 * 0.5 / 100)
    fork.measured = Measured(0.5, 1.0, -1.1 + noise)
    rank([control, fork], terms)
    assert fork.standing.gain == pytest.approx(-0.1 + 0.4)
    assert not is_eligible(fork, terms, lambda added: True), "what it may become is no proof"
