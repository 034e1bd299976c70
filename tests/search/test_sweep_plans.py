"""Sweeps: their plans, what is refused, and what they cost."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from search.commands.grow import fitting
from search.commands.grow.command import GrowOptions
from search.commands.hunt.command import HuntOptions
from search.commands.sweep import COMMAND
from search.commands.sweep.plans import (
    NEEDED,
    PLANS,
    Axis,
    factorial,
    fixed_of,
    lenient,
    lists_of,
    scaled,
    star,
)
from search.commands.sweep.settings import Plan, plan_for
from structnet.actions import ACTIONS, offered
from structnet.data.dataset import Dataset
from structnet.data.datasets import load_dataset
from structnet.errors import UserError
from structnet.trials.grid import Block, Member
from tournament.coordinator import Tournament
from tournament.cost import block_cost, tournament_cost
from tournament.rules.ledger import Economy


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


def planned(data: Dataset, **given: Any) -> Plan:
    return plan_for(COMMAND.parse(given), data)


def test_multiples_of_a_default_keep_its_kind() -> None:
    assert scaled("epochs", 5, 0.5) == 2
    assert scaled("rounds", 1, 0.2) == 1
    assert scaled("learning_rate", 0.012, 2.0) == 0.024
    assert scaled("density", 0.4, 4.0) == 1.0
    assert scaled("densities", "0.2,0.5 0.8", 2.0) == "0.4,1"
    assert scaled("architecture", "784,100,50,10", 2.0) == "784,200,100,10"
    assert scaled("architecture", "input-3-classes", 0.1) == "input-1-classes"
    assert (
        scaled("architectures", "64-16-10,input-4-2-classes 64-10", 0.5) == "64-8-10,input-2-1-classes 64-10"
    )


def test_an_axis_tries_every_value_once() -> None:
    assert Axis("rounds", factors=(0.5, 1.0, 2.0)).choices(1) == [1, 2]
    assert Axis("refund", (0.25, 0.5)).choices(0.9) == [0.25, 0.5]


def test_a_factorial_has_every_combination_and_a_star_one_change_at_a_time() -> None:
    choices = {"a": [1, 2], "b": [3, 4, 5]}
    assert factorial(choices) == [{"a": a, "b": b} for a in (1, 2) for b in (3, 4, 5)]
    assert star(choices, {"a": 1, "b": 4}) == [{}, {"a": 2}, {"b": 3}, {"b": 5}]


def test_lists_and_fixed_values_are_read() -> None:
    assert lists_of(["learning-rate = 0.1, 0.2", "actions=patch,widen;prune;"]) == {
        "learning_rate": ["0.1", "0.2"],
        "actions": ["patch,widen", "prune"],
    }
    assert fixed_of(["actions=patch,widen"]) == {"actions": "patch,widen"}


@pytest.mark.parametrize(("of", "focus"), [(of, focus) for of, plans in PLANS.items() for focus in plans])
def test_a_focused_plan_crosses_three_options_around_the_defaults(
    digits: Dataset, of: str, focus: str
) -> None:
    plan = planned(digits, of=of, focus=focus)
    assert {len(setting.changes) for setting in plan.settings} == {3}
    varied = {name: {setting.changes[name] for setting in plan.settings} for name in plan.base.changes}
    assert all(2 <= len(values) <= 3 for values in varied.values())
    assert len(plan.settings) == len(list(factorial({name: list(values) for name, values in varied.items()})))
    needed = [f"{name}={value}" for name, value in NEEDED.get(focus, {}).items()]
    assert plan.base.options == planned(digits, of=of, set=needed).base.options


@pytest.mark.parametrize("of", PLANS)
def test_a_broad_plan_is_a_star_with_the_base_once(digits: Dataset, of: str) -> None:
    plan = planned(digits, of=of)
    assert [setting for setting in plan.settings if not setting.changes] == [plan.base]
    assert all(len(setting.changes) == 1 for setting in plan.settings[1:])
    changed = {name for setting in plan.settings for name in setting.changes}
    assert changed == {axis.option for axes in PLANS[of].values() for axis in axes}


def test_what_is_fixed_is_not_varied_by_a_plan(digits: Dataset) -> None:
    plan = planned(digits, focus="growth", set=["heat_steps=20", "epochs=5"])
    assert list(plan.base.changes) == ["policy", "round_steps", "candidates"]
    assert {setting.options.epochs for setting in plan.settings} == {5}
    assert plan.fixed == {"heat_steps": 20, "epochs": 5}


def test_shifts_are_only_for_images() -> None:
    plan = planned(load_dataset("teacher"), dataset="teacher")
    assert not [setting for setting in plan.settings if "shift" in setting.changes]


def test_listed_values_make_a_factorial_with_a_trial_per_rng_seed(digits: Dataset) -> None:
    plan = planned(digits, vary=["epochs=152,10", "l1=0,5e-5,1e-4"], rng_seeds=2, rng_seed=7)
    assert [setting.changes for setting in plan.settings][:2] == [
        {"epochs": 152, "l1": 0.0},
        {"epochs": 152, "l1": 5e-5},
    ]
    assert len(plan.settings) == 6
    assert plan.base.name == "set-001"
    assert [trial.name for trial in plan.base.trials] == ["set-001-seed-0007", "set-001-seed-0008"]
    assert [trial.config["options"]["rng_seed"] for trial in plan.base.trials] == [7, 8]
    assert plan.base.trials[0].config["options"]["round_steps"] == 100


def test_without_the_defaults_the_first_setting_is_the_base(digits: Dataset) -> None:
    assert planned(digits, vary=["max_parameters=300,200"]).base.changes == {"max_parameters": 300}
    assert planned(digits, vary=["max_parameters=300,none"]).base.changes == {"max_parameters": None}


def test_a_setting_of_a_hunt_is_its_grid_in_blocks(digits: Dataset) -> None:
    plan = planned(digits, of="hunt", vary=["l1=0,1e-4"], set=["densities=0.1,0.2"], rng_seeds=2)
    names = [trial.name for trial in plan.settings[1].trials]
    assert names[0] == "set-001-block-0000"
    members = [
        member for trial in plan.settings[1].trials for member in Block.from_config(trial.config).members
    ]
    assert len(members) == 5 * 2 * 2
    assert {trial.config["options"]["l1"] for trial in plan.settings[1].trials} == {1e-4}


BAD = [
    ({"vary": ["learnin_rate=1"]}, "no option 'learnin_rate'"),
    ({"vary": ["learning_rate=0.1,fast"]}, "learning_rate is 'fast'"),
    ({"vary": ["learning_rate=nan"]}, "learning_rate is nan"),
    ({"vary": ["epochs=10,0"]}, "epochs is 0"),
    ({"vary": ["policy=score,luck"]}, "luck"),
    ({"vary": ["density=0.1,1.5"]}, "density is 1.5"),
    ({"vary": ["actions=patch,teleport"]}, "teleport"),
    ({"vary": ["epochs"]}, "vary is 'epochs'"),
    ({"vary": ["epochs=,"]}, "vary is 'epochs=,'"),
    ({"vary": ["epochs=1,2", "epochs=3"]}, "epochs is there twice"),
    ({"vary": ["epochs=10,10"]}, "epochs=10 twice"),
    ({"vary": ["batch_size=32,none"]}, "batch_size=32 twice"),
    ({"vary": ["epochs=1,2"], "set": ["epochs=3"]}, "both varied and set"),
    ({"vary": ["epochs=1,2"], "focus": "growth"}, "vary and focus"),
    ({"vary": ["rng_seed=1,2"]}, "rng_seed cannot be varied"),
    ({"set": ["dataset=mnist"]}, "dataset cannot be varied or set"),
    ({"set": ["repeats=2"]}, "repeats cannot be varied or set"),
    ({"set": ["epochs=3", "epochs=3"]}, "epochs is there twice"),
    ({"focus": "luck"}, "focus is 'luck'"),
    ({"focus": "economy", "of": "hunt"}, "hunt has only architecture, optimisation"),
    ({"of": "train"}, "of is 'train'"),
    ({"of": "hunt", "vary": ["densities=0.1,2"]}, "density is 2"),
    ({"of": "hunt", "lenient": "patch"}, "hunt has no mechanisms"),
    ({"lenient": "rewire"}, "lenient is 'rewire'"),
    ({"rng_seeds": 0}, "rng_seeds is 0"),
    ({"vary": ["epochs=1,2,3"], "rng_seeds": 2, "limit": 5}, "the plan has 6 trials, but limit is 5"),
    ({"vary": ["epochs=" + ",".join(map(str, range(1, 60))), "rounds=1,2,3,4"]}, "the plan has 236 settings"),
]


@pytest.mark.parametrize(("given", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_options_are_refused_in_one_line(digits: Dataset, given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        planned(digits, **given)
    assert "\n" not in str(caught.value)


# Leniency.


@pytest.mark.parametrize("mechanism", [*offered(), "economy", "plateau"])
def test_every_mechanism_can_be_made_lenient(digits: Dataset, mechanism: str) -> None:
    plan = planned(digits, lenient=mechanism, set=["rounds=7"])
    assert len(plan.settings) == 1
    assert plan.fixed["rounds"] == 7
    options = plan.base.options
    assert isinstance(options, GrowOptions)
    if mechanism in ACTIONS:
        assert options.actions == mechanism
        assert options.opening_credits == 1e6


def test_leniency_gives_way_to_what_is_varied(digits: Dataset) -> None:
    plan = planned(digits, lenient="clone", vary=["score_floor=1,32"])
    assert [setting.options.score_floor for setting in plan.settings] == [1, 32]  # type: ignore[union-attr]
    assert "score_floor" not in plan.fixed


def test_prune_is_offered_at_a_price_that_any_sale_meets(digits: Dataset) -> None:
    defaults = planned(digits).base.options
    assert isinstance(defaults, GrowOptions)
    assert lenient("prune", defaults)["price"] > 100
    assert lenient("patch", defaults)["price"] < 1e-3


# Costs.


def test_a_block_costs_its_networks_times_its_steps(digits: Dataset) -> None:
    options = planned(digits, of="hunt", set=["epochs=2", "batch_size=100"]).base.options
    assert isinstance(options, HuntOptions)
    block = Block("b", (Member((64, 10), 0.1, 0), Member((64, 20, 10), 0.1, 0)))
    cost = block_cost(block, options.epochs, options.batch_size or 0, images=1000)
    assert cost.steps == 2 * 2 * 10
    assert cost.parameter_steps == pytest.approx(2 * 10 * (64 + 10 + 148 + 30))
    assert cost.seconds > 0


def test_a_tournament_costs_its_line_and_its_forks(digits: Dataset) -> None:
    fixed = ["epochs=10", "batch_size=100", "round_steps=10", "heat_steps=10", "candidates=1"]
    options = planned(digits, set=[*fixed, "policy=control"]).base.options
    assert isinstance(options, GrowOptions)
    seed = fitting.seed_network(options, digits, 0)
    # 100 steps of the line; in the 40 of them in which it may grow two rounds fit, each with a survey of 10 steps.
    settings = fitting.settings_for(options, 0)
    assert tournament_cost(settings, seed, images=1000).steps == 100 + 2 * 10
    growing = replace(settings, policy="score", economy=Economy(fork_price=0.0))
    # One fork, two controls and the twin, in one heat.
    assert tournament_cost(growing, seed, images=1000).steps == 100 + 2 * (10 + 4 * 10)


def test_the_estimate_is_near_what_a_tournament_takes(digits: Dataset) -> None:
    options = planned(digits, set=["epochs=6", "candidates=6"]).base.options
    assert isinstance(options, GrowOptions)
    seed = fitting.seed_network(options, digits, 0)
    settings = fitting.settings_for(options, 0)
    result = Tournament(seed, digits, settings=settings).run()
    expected = tournament_cost(settings, seed, len(digits.train))
    assert 0.5 < expected.steps / result.progress.steps_all < 2
    assert 0.4 < expected.parameter_steps / result.progress.parameter_steps_all < 2.5
