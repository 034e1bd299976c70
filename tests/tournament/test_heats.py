"""Screening, ranking and judging on small made-up fields."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from structnet.actions.base import Proposal
from structnet.errors import UserError
from structnet.training.recipe import Recipe
from tournament.heats import Entrant, Heat, Terms, deal, judge, plan_heats, rank, run_heats, steps_of_round
from tournament.observer import Observer
from tournament.rules.score import POLICIES, bar_for
from tournament.rules.screening import screen
from tournament.workers.fork import ForkReport, Measured
from tournament.workers.pool import Job, Outcome

ENTROPY = 3.32
IMAGES = 400


def proposal(action: str, added: int, predicted: float) -> Proposal:
    return Proposal(action, f"{action} {added}", added, predicted, plan={})


def test_the_best_of_every_action_enters_whatever_its_promise() -> None:
    found = [proposal("patch", 10, 1.0 - index / 100) for index in range(20)] + [
        proposal("insert", 100, 0.01)
    ]
    entering, too_dear = screen(found, (10, 100), balance=100, candidates=3)
    assert [(p.action, p.predicted_gain) for p in entering] == [
        ("patch", 1.0),
        ("insert", 0.01),
        ("patch", 0.99),
    ]
    assert too_dear == []


def test_every_size_class_enters_before_the_rest() -> None:
    found = [proposal("patch", 10, 1.0), proposal("patch", 11, 1.0), proposal("patch", 100, 1.0)]
    entering, _ = screen(found, (10, 100), balance=1000, candidates=2)
    assert [p.parameters_added for p in entering] == [10, 100]


def test_what_the_balance_does_not_cover_is_set_aside() -> None:
    found = [proposal("patch", 10, 0.1), proposal("patch", 100, 9.0), proposal("widen", 101, 1.0)]
    entering, too_dear = screen(found, (10, 100), balance=99, candidates=5)
    assert [p.parameters_added for p in entering] == [10]
    assert {p.site for p in too_dear} == {"patch 100", "widen 101"}


def test_sales_are_always_affordable() -> None:
    entering, _ = screen([proposal("prune", -50, -0.1)], (10,), balance=0, candidates=5)
    assert len(entering) == 1


class Script:
    """A pool whose forks come out as told: the mean log2-likelihood by name, or None for a failure."""

    device, together = "cpu", True

    def __init__(self, outcomes: dict[str, float | None], workers: int = 1, killers: str = "") -> None:
        self.outcomes, self.workers, self.killers = outcomes, workers, killers
        self.noise = np.random.default_rng(0).normal(0, 0.3, IMAGES)
        self.rng = np.random.default_rng(1)
        self.ran: list[list[str]] = []
        self.jobs: list[list[Job[Any]]] = []

    def put(self, value: Any) -> Any:
        return value

    get = put

    def close(self) -> None:
        return None

    def run(self, jobs: Any, on_done: Any = None) -> list[Outcome[Any]]:
        names = [[name.split(":")[0] for name in job.name.split(", ")] for job in jobs]
        self.ran.append([name for batch in names for name in batch])
        self.jobs.append(list(jobs))
        for index in range(len(jobs)):
            if on_done:
                on_done(index)
        return [self._outcome(batch) for batch in names]

    def _outcome(self, batch: list[str]) -> Outcome[Any]:
        if set(batch) & set(self.killers):
            return Outcome(None, [], "worker lost: ActorDiedError")
        return Outcome([self._report(name) for name in batch], [f"{name} trained" for name in batch])

    def _report(self, name: str) -> ForkReport:
        level = self.outcomes[name]
        if level is None:
            return ForkReport(None, 0.1, "worker", "Diverged: nan")
        bits = level + self.noise + self.rng.normal(0, 0.05, IMAGES)
        return ForkReport(Measured(0.5, 1.0, bits), 0.1, "worker")


def play(
    outcomes: dict[str, float | None], sizes: dict[str, int], policy: str = "score", **terms: Any
) -> Any:
    field = [
        Entrant(0, "train", "", None, "state", control=True, stays=True),
        Entrant(1, "rewire", "", proposal("rewire", 0, 0), "state", control=True, stays=True),
    ]
    for name, added in sizes.items():
        field.append(Entrant(len(field), name, "", proposal(name, added, 0.1), "state", draw=added / 1e6))
    agreed = {
        "recipe": Recipe(),
        "rate": 1e-3,
        "bar": bar_for(IMAGES, 1, len(sizes)),
        "policy": POLICIES[policy],
        "estimator": "decoder",
        "price": 0.01,
        "score_floor": 32,
    } | terms
    pool = Script(outcomes)
    *_, last = run_heats(pool, field, [Heat(10, 2), Heat(30, 2)], Terms(**agreed), Observer())
    verdict = judge(last.survivors, Terms(**agreed), ENTROPY, lambda added: added <= 1000)
    return verdict, last.survivors, pool


CONTROLS = {"train": -1.2, "rewire": -1.0}


def test_the_highest_score_wins_not_the_highest_gain() -> None:
    outcomes = CONTROLS | {"small": -0.9, "large": -0.8}
    assert play(outcomes, {"small": 40, "large": 400})[0].winner.action == "small"
    assert play(outcomes, {"small": 40, "large": 400}, policy="gain")[0].winner.action == "large"


def test_forks_are_measured_against_the_better_control() -> None:
    verdict, _, _ = play(CONTROLS | {"between": -1.1}, {"between": 40})
    assert verdict.winner is None
    assert verdict.control.action == "rewire"


def test_a_luckier_but_unproven_fork_does_not_stand_in_the_way() -> None:
    outcomes = CONTROLS | {"tiny": -0.999, "real": -0.8}
    assert play(outcomes, {"tiny": 1, "real": 400})[0].winner.action == "real"


def test_controls_stay_and_the_weak_drop_out() -> None:
    outcomes = CONTROLS | {"a": -0.5, "b": -0.6, "c": -0.7, "d": -0.8}
    _, finalists, pool = play(outcomes, dict.fromkeys("abcd", 100))
    assert pool.ran == [["train", "rewire", "a", "b", "c", "d"], ["train", "rewire", "a", "b"]]
    assert len(finalists) == 4


def test_a_failed_fork_drops_out_and_a_failed_control_leaves_the_other() -> None:
    outcomes: dict[str, float | None] = {"train": -1.2, "rewire": None, "a": None, "b": -0.6}
    verdict, finalists, _ = play(outcomes, {"a": 100, "b": 100})
    assert [entrant.action for entrant in finalists] == ["train", "b"]
    assert verdict.winner.action == "b"
    assert verdict.control.action == "train"


def test_without_any_control_nothing_is_adopted() -> None:
    verdict, _, _ = play({"train": None, "rewire": None, "a": -0.1}, {"a": 100})
    assert verdict.winner is None
    assert verdict.control is None


def test_a_sale_is_adopted_where_no_growth_is_and_its_loss_is_below_the_price() -> None:
    outcomes = CONTROLS | {"prune": -1.0}
    assert play(outcomes, {"prune": -800}, price=0.05)[0].winner.action == "prune"
    assert play(outcomes, {"prune": -800}, price=0.0)[0].winner is None
    assert (
        play(outcomes | {"grow": -0.8}, {"prune": -800, "grow": 100}, price=0.05)[0].winner.action == "grow"
    )


def test_what_cannot_be_paid_cannot_win() -> None:
    assert play(CONTROLS | {"dear": -0.5}, {"dear": 1001})[0].winner is None


def test_the_market_asks_for_more_than_the_price_in_both_directions() -> None:
    outcomes = CONTROLS | {"grow": -0.9, "prune": -1.0}
    buys = play(outcomes, {"grow": 100, "prune": -800}, policy="surplus", price=0.05)[0].winner
    assert buys.action == "grow"  # about .1 − .005 against 0 + .04
    sells = play(outcomes, {"grow": 900, "prune": -800}, policy="surplus", price=0.1)[0].winner
    assert sells.action == "prune"  # about .1 − .09 against 0 + .08
    assert play(outcomes, {"grow": 900}, policy="surplus", price=0.2)[0].winner is None


def test_the_random_policy_adopts_without_proof() -> None:
    assert play(CONTROLS | {"worse": -1.5}, {"worse": 100}, policy="random")[0].winner.action == "worse"


def test_a_fork_that_knows_nothing_is_not_adopted_however_much_better_than_the_control() -> None:
    outcomes = {"train": -6.0, "rewire": -6.0, "less wrong": -4.0}
    assert play(outcomes, {"less wrong": 100})[0].winner is None


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_ranks(policy: str) -> None:
    verdict, _, _ = play(CONTROLS | {"a": -0.5, "b": -0.6}, {"a": 100, "b": 200}, policy=policy)
    assert verdict.control is not None


def test_the_largest_are_dealt_first_in_turns_forwards_and_backwards() -> None:
    assert deal([10, 50, 20, 40, 30], 2) == [[0, 1, 2], [3, 4]]  # 50, 20 and 10, then 40 and 30
    assert deal([0, 0, 5], 3) == [[2], [0], [1]]
    assert deal([7, 7, 7], 1) == [[0, 1, 2]]


LEVELS: dict[str, float | None] = {"train": -1.2, "a": -0.5, "b": -0.6, "c": -0.7, "d": -0.8}


class Counting(Observer):
    """How many forks entered a heat, and how many were told of as done."""

    def __init__(self) -> None:
        self.entered = self.done = 0

    def heat_started(self, heat: int, heats: int, forks: int) -> None:
        self.entered += forks

    def fork_done(self) -> None:
        self.done += 1


def two_heats(pool: Script) -> list[Entrant]:
    """Forks a, b, c and d of 100 parameters that start from one state; returns the field of the first heat."""
    field = [Entrant(0, "train", "", None, "line", control=True, stays=True)]
    field += [
        Entrant(1 + index, name, "", proposal(name, 100, 0.1), "line") for index, name in enumerate("abcd")
    ]
    terms = Terms(Recipe(), 1e-3, bar_for(IMAGES, 1, 3), POLICIES["score"], "decoder", 0.01, 32)
    counting = Counting()
    for heat in run_heats(pool, field, [Heat(10, 2), Heat(30, 2)], terms, counting):
        assert all(entrant.state or entrant.error for entrant in heat.entrants), (
            "gone before it could be copied"
        )
    assert counting.done == counting.entered, "every fork is told of once, whatever became of its batch"
    return field


def test_a_batch_for_every_worker_and_a_state_sent_once() -> None:
    pool = Script(LEVELS, workers=2)
    two_heats(pool)
    assert [len(jobs) for jobs in pool.jobs] == [2, 2]
    for job in pool.jobs[0]:
        assert job.work.makes == len(job.work.forks) == len(job.name.split(", "))
        assert job.states == ("line",)
        assert {which for which, _ in job.work.forks} == {0}
    later = [state for job in pool.jobs[1] for state in job.states]
    assert sorted(later) == ["a trained", "b trained", "train trained"]
    assert [plan for job in pool.jobs[1] for _, plan in job.work.forks] == [None] * 3


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_one_by_one_and_off_the_cpu_the_workers_do_not_count(workers: int) -> None:
    pool = Script(LEVELS, workers)
    pool.together = False
    two_heats(pool)
    assert [len(jobs) for jobs in pool.jobs] == [5, 3]
    pool = Script(LEVELS, workers)
    pool.device = "cuda"
    two_heats(pool)
    assert [len(jobs) for jobs in pool.jobs] == [1, 1]


def test_a_fork_that_kills_its_worker_takes_no_others_with_it() -> None:
    pool = Script(LEVELS, workers=2, killers="b")
    field = two_heats(pool)
    batch = next(job.name for job in pool.jobs[0] if "b:" in job.name).split(", ")
    assert len(batch) > 1
    assert [job.name for job in pool.jobs[1]] == batch, "each again, by itself"
    assert {entrant.action: entrant.error for entrant in field if entrant.error} == {
        "b": "worker lost: ActorDiedError"
    }
    assert [entrant.action for entrant in field if entrant.steps == 40] == ["train", "a", "c"]


def test_who_drops_out_holds_no_state() -> None:
    field = two_heats(Script(LEVELS))
    assert [entrant.state for entrant in field] == ["train trained", "a trained", "b trained", None, None]


def measured(accuracy: float, level: float, tempered: float | None) -> Measured:
    """Bits around these levels, plain and at a fitted temperature, with the same noise."""
    noise = np.random.default_rng(0).normal(0, 0.1, IMAGES)
    return Measured(accuracy, 1.0, level + noise, None, None if tempered is None else tempered + noise)


@pytest.mark.parametrize(
    ("estimator", "decided", "gain"),
    [("decoder", "tempered", 0.05), ("probe", "probe", -0.2)],
)
def test_bits_are_compared_at_the_temperature_of_each(estimator: str, decided: str, gain: float) -> None:
    """A fork that is too sure of itself, but knows more than the controls."""
    terms = Terms(Recipe(), 1e-3, bar_for(IMAGES, 1, 1), POLICIES["score"], estimator, 0.01, 32)
    field = [
        Entrant(
            0, "train", "", None, "state", control=True, stays=True, measured=measured(0.98, -0.3, -0.15)
        ),
        Entrant(1, "rewire", "", None, "state", control=True, stays=True, measured=measured(0.9, -0.5, -0.4)),
        Entrant(2, "fork", "", proposal("fork", 40, 0.1), "state", measured=measured(0.98, -0.5, -0.1)),
    ]
    rank(field, terms)
    assert [entrant.estimator for entrant in field] == [decided] * 3
    assert field[2].gain is not None
    assert field[2].gain.bits == pytest.approx(gain)
    verdict = judge(field, terms, ENTROPY, lambda added: True)
    assert (verdict.winner is field[2]) == (gain > 0)
    assert verdict.control is field[0]


def test_the_random_twin_is_never_adopted_however_good_it_is() -> None:
    terms = Terms(Recipe(), 1e-3, bar_for(IMAGES, 1, 1), POLICIES["score"], "decoder", 0.01, 32)
    field = [
        Entrant(0, "train", "", None, "state", control=True, stays=True, measured=measured(0.9, -0.5, -0.4)),
        Entrant(1, "patch:random", "", proposal("patch:random", 40, 0.1), "state", stays=True),
        Entrant(2, "patch", "", proposal("patch", 40, 0.1), "state", measured=measured(0.9, -0.4, -0.3)),
    ]
    field[1].measured = measured(0.99, -0.2, -0.1)
    rank(field, terms)
    assert judge(field, terms, ENTROPY, lambda added: True).winner is field[2]
    assert judge(field[:2], terms, ENTROPY, lambda added: True).winner is None


# --- how many heats, and how long


def test_sixteen_forks_of_two_hundred_steps() -> None:
    assert plan_heats(16, 200) == [Heat(50, 4), Heat(150, 4)]


def test_a_small_field_runs_one_heat() -> None:
    assert plan_heats(3, 200) == [Heat(200, 3)]
    assert plan_heats(0, 200) == [Heat(200, 0)]


def test_the_steps_of_a_round_by_hand() -> None:
    # 16 forks and the twin for 50 steps, four and the twin for 150; both controls for all of them.
    assert steps_of_round(16, 200) == (50 * 17 + 150 * 5, 400)
    # Two audited, who make up for 150 steps and go on for 400, with both controls.
    assert steps_of_round(16, 200, audits=2, audit_factor=2.0) == (50 * 17 + 150 * 5 + 2 * 550, 400 + 800)
    assert steps_of_round(0, 200) == (200, 400)


@given(st.integers(0, 500), st.integers(1, 5000))
def test_steps_add_up_and_every_heat_trains(forks: int, steps: int) -> None:
    heats = plan_heats(forks, steps)
    assert sum(heat.steps for heat in heats) == steps
    assert all(heat.steps >= 1 for heat in heats)
    assert all(heat.survivors <= max(forks, 3) for heat in heats)


def test_refuses_heats_without_steps() -> None:
    with pytest.raises(UserError, match="heat_steps is 0"):
        plan_heats(4, 0)
