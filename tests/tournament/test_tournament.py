"""Tournaments in this process: the rules hold in the rows, and nothing is adopted that should not be."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
import torch

from structnet import StructNet
from structnet.data.dataset import Dataset
from structnet.data.datasets import load_dataset
from structnet.training.recipe import Recipe
from tournament import Economy, Tournament
from tournament.coordinator import Result
from tournament.workers.pool import InlinePool

SETTINGS = {
    "epochs": 10,
    "rounds": 4,
    "round_steps": 20,
    "heat_steps": 40,
    "candidates": 8,
    "learning_rate": 1e-2,
}


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


def grow(data: Dataset, policy: str = "score", seed: int = 0, **options: Any) -> Result:
    network = StructNet([64, 16, 10], 0.1, rng_seed=seed, ensure_paths=True)
    recipe = Recipe(batch_size=32, rng_seed=seed)
    economy = options.pop("economy", Economy(income=0.5, fork_price=0.0))
    return Tournament(
        network, data, economy=economy, policy=policy, recipe=recipe, **{**SETTINGS, **options}
    ).run()


@pytest.fixture(scope="module")
def grown(digits: Dataset) -> Result:
    return grow(digits)


def heats(result: Result) -> dict[tuple[int, int], list[dict[str, Any]]]:
    groups: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
    for row in result.candidates:
        groups[row["round"], row["heat"]].append(row)
    return groups


def test_grows_and_learns(grown: Result) -> None:
    assert any(row["decision"] == "adopted" for row in grown.rounds)
    assert grown.network.parameter_count > grown.rounds[0]["parameters"]
    assert grown.test.accuracy > 0.8
    assert grown.rounds[-1]["decision"] == "final"


def test_score_is_what_it_says(grown: Result) -> None:
    scored = [row for row in grown.candidates + grown.rounds[1:] if row.get("gain") is not None]
    assert scored
    by_round = {row["round"]: row for row in grown.candidates if row["won"]}
    for row in scored:
        added = row.get("parameters_added", by_round.get(row["round"], {}).get("parameters_added"))
        per = -added if added < 0 else max(added, 32)
        assert row["score"] == pytest.approx(1000 * row["gain"] / per)


def test_both_controls_and_a_twin_run_in_every_heat(grown: Result) -> None:
    for rows in heats(grown).values():
        controls = [row for row in rows if row["control"]]
        assert sorted(row["action"] for row in controls) == ["rewire", "train"]
        assert all(row["survived"] and not row["won"] for row in controls)
        patches = [row for row in rows if row["action"] == "patch"]
        assert not patches or any(row["action"] == "patch:random" for row in rows)


def test_every_fork_of_a_heat_trains_for_the_same_steps(grown: Result) -> None:
    for rows in heats(grown).values():
        assert len({row["steps"] for row in rows if row["status"] != "unaffordable"}) == 1


def test_parameters_change_by_exactly_what_the_winner_added(grown: Result) -> None:
    won = {row["round"]: row["parameters_added"] for row in grown.candidates if row["won"]}
    for before, after in zip(grown.rounds, grown.rounds[1:]):
        if after["decision"] != "final":
            assert after["parameters"] - before["parameters"] == won.get(after["round"], 0)
            assert (after["decision"] == "adopted") == (after["round"] in won)


def test_the_ledger_adds_up_from_round_zero(grown: Result) -> None:
    assert grown.rounds[0]["balance"] == grown.rounds[0]["parameters"]
    for before, after in zip(grown.rounds, grown.rounds[1:]):
        change = after["credits_earned"] + after["credits_refunded"] - after["credits_spent"]
        assert before["balance"] + change == pytest.approx(after["balance"])
        assert after["balance"] >= 0


def test_a_winner_has_proven_itself(grown: Result) -> None:
    for row in grown.rounds:
        if row["decision"] == "adopted" and row["gain"] > 0:
            finalists = [
                c
                for c in grown.candidates
                if c["round"] == row["round"] and c["heat"] == 2 and not c["control"]
            ]
            assert row["gain"] / row["gain_se"] > 1.64, finalists


def test_steps_and_parameter_steps_are_accounted_for(grown: Result) -> None:
    last = grown.rounds[-1]
    assert last["steps"] == 10 * (len(load_dataset("digits").train) // 32)
    assert last["steps_all"] > last["steps"]
    assert (
        last["parameter_steps_all"] > last["parameter_steps"] >= last["steps"] * grown.rounds[0]["parameters"]
    )


def test_the_same_seed_gives_the_same_rows(digits: Dataset, grown: Result) -> None:
    again = grow(digits)
    timeless = [{k: v for k, v in row.items() if k not in ("seconds", "worker")} for row in grown.candidates]
    assert timeless == [
        {k: v for k, v in row.items() if k not in ("seconds", "worker")} for row in again.candidates
    ]
    assert torch.equal(grown.network.values, again.network.values)


def test_ends_within_max_parameters(digits: Dataset) -> None:
    result = grow(digits, max_parameters=220)
    assert result.network.parameter_count <= 220
    assert "limit of 220" in result.progress.reason or "growth" in result.progress.reason


def test_without_rounds_it_only_finishes(digits: Dataset) -> None:
    result = grow(digits, rounds=0)
    assert [row["decision"] for row in result.rounds] == ["opened", "final"]
    assert result.candidates == []


def test_stops_at_the_target_and_says_so(digits: Dataset) -> None:
    assert "target" in grow(digits, target_accuracy=0.3).progress.reason


def test_a_poor_network_saves_up(digits: Dataset) -> None:
    result = grow(digits, economy=Economy(income=0.0, opening_credits=5.0, fork_price=0.0))
    decisions = {row["decision"] for row in result.rounds}
    assert "unaffordable" in decisions
    assert any(row["status"] == "unaffordable" and not row["affordable"] for row in result.candidates)
    assert all(row["parameters"] <= result.rounds[0]["parameters"] for row in result.rounds)


def test_the_control_policy_never_grows(digits: Dataset) -> None:
    result = grow(digits, policy="control")
    assert {row["parameters"] for row in result.rounds[:-1]} == {result.rounds[0]["parameters"]}
    assert all(row["control"] for row in result.candidates)


@pytest.mark.parametrize("policy", ["surplus", "gain", "random"])
def test_other_policies_run_to_the_end(digits: Dataset, policy: str) -> None:
    assert grow(digits, policy=policy, rounds=2).rounds[-1]["decision"] == "final"


def test_the_probe_can_decide(digits: Dataset) -> None:
    result = grow(digits, information="probe", rounds=2)
    scored = [row for row in result.candidates if row.get("gain") is not None]
    assert scored
    assert all(row["gain"] == row["gain_probe"] for row in scored)
    finished = [row for row in result.candidates if row["status"] == "finished"]
    assert all(row["information"] == row["information_probe"] for row in finished)
    assert len({row["information_before"] for row in finished if row["round"] == 1}) == 1


def test_a_fork_that_raises_is_a_failed_row(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    from tournament.workers import fork_cohorts

    start = fork_cohorts.start_fork

    def broken(state: Any, proposal: Any, device: Any) -> Any:
        if proposal is not None and proposal.action == "widen":
            raise MemoryError("no room")
        return start(state, proposal, device)

    monkeypatch.setattr(fork_cohorts, "start_fork", broken)
    result = grow(digits, rounds=1)
    failed = [row for row in result.candidates if row["status"] == "failed"]
    assert failed
    assert all(row["action"] == "widen" and row["error"] == "MemoryError: no room" for row in failed)
    assert not any(row["survived"] or row["won"] for row in failed)


def test_the_pool_gives_its_threads_back(digits: Dataset) -> None:
    before = torch.get_num_threads()
    pool = InlinePool(digits)
    assert torch.get_num_threads() == 1
    pool.close()
    assert torch.get_num_threads() == before
