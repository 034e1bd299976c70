"""Sweeps: their plans, what is refused, what they cost, and how they run on Ray."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from search import grow, hunt
from search.experiment import Experiment
from search.grids.blocks import Block, Member
from search.options import merged
from search.sweep import command as sweep
from search.sweep.cost import block_cost, tournament_cost
from search.sweep.plans import PLANS, Axis, factorial, fixed_of, lenient, lists_of, scaled, star
from search.sweep.report import (
    Outcome,
    compared,
    mechanism_counts,
    network_outcomes,
    plateaus,
    tournament_outcomes,
)
from search.sweep.settings import Plan, SweepOptions, plan_for
from search.sweep.tournament_work import TournamentWork
from search.tuning import Shared
from structnet.actions import ACTIONS
from structnet.data import Dataset, load_dataset
from structnet.errors import UserError
from structnet.tables import TableWriter, read_table
from tournament.contender import pack
from tournament.coordinator import Tournament

TINY = ("epochs=3", "rounds=2", "round_steps=10", "heat_steps=10", "candidates=2")


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


def planned(data: Dataset, **given: Any) -> Plan:
    return plan_for(merged(SweepOptions, given, {}), data)


# Plans.


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
    assert plan.base.options == planned(digits, of=of).base.options


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
    plan = planned(digits, vary=["epochs=40,10", "l1=0,5e-5,1e-4"], rng_seeds=2, rng_seed=7)
    assert [setting.changes for setting in plan.settings][:2] == [
        {"epochs": 40, "l1": 0.0},
        {"epochs": 40, "l1": 5e-5},
    ]
    assert len(plan.settings) == 6
    assert plan.base.name == "set-001"
    assert [trial.name for trial in plan.base.trials] == ["set-001-seed-0007", "set-001-seed-0008"]
    assert [trial.config["options"]["rng_seed"] for trial in plan.base.trials] == [7, 8]
    assert plan.base.trials[0].config["options"]["round_steps"] == 33


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


@pytest.mark.parametrize("mechanism", [*sorted(ACTIONS.keys() - {"rewire"}), "economy", "plateau"])
def test_every_mechanism_can_be_made_lenient(digits: Dataset, mechanism: str) -> None:
    plan = planned(digits, lenient=mechanism, set=["rounds=7"])
    assert len(plan.settings) == 1
    assert plan.fixed["rounds"] == 7
    options = plan.base.options
    assert isinstance(options, grow.GrowOptions)
    if mechanism in ACTIONS:
        assert options.actions == mechanism
        assert options.opening_credits == 1e6


def test_leniency_gives_way_to_what_is_varied(digits: Dataset) -> None:
    plan = planned(digits, lenient="clone", vary=["score_floor=1,32"])
    assert [setting.options.score_floor for setting in plan.settings] == [1, 32]  # type: ignore[union-attr]
    assert "score_floor" not in plan.fixed


def test_prune_is_offered_at_a_price_that_any_sale_meets(digits: Dataset) -> None:
    defaults = planned(digits).base.options
    assert isinstance(defaults, grow.GrowOptions)
    assert lenient("prune", ACTIONS, defaults)["price"] > 100
    assert lenient("patch", ACTIONS, defaults)["price"] < 1e-3


# Costs.


def test_a_block_costs_its_networks_times_its_steps(digits: Dataset) -> None:
    options = planned(digits, of="hunt", set=["epochs=2", "batch_size=100"]).base.options
    assert isinstance(options, hunt.HuntOptions)
    block = Block("b", (Member((64, 10), 0.1, 0), Member((64, 20, 10), 0.1, 0)))
    cost = block_cost(options, block, images=1000)
    assert cost.steps == 2 * 2 * 10
    assert cost.parameter_steps == pytest.approx(2 * 10 * (64 + 10 + 148 + 30))
    assert cost.seconds > 0


def test_a_tournament_costs_its_line_and_its_forks(digits: Dataset) -> None:
    fixed = ["epochs=10", "batch_size=100", "round_steps=10", "heat_steps=10", "candidates=1"]
    options = planned(digits, set=[*fixed, "policy=control"]).base.options
    assert isinstance(options, grow.GrowOptions)
    seed = grow.seed_network(options, digits, 0)
    # 100 steps of the line; in the 40 of them in which it may grow two rounds fit, each with a survey of 10 steps.
    assert tournament_cost(options, seed, images=1000).steps == 100 + 2 * 10
    growing = options.model_copy(update={"policy": "score"})
    # One fork, two controls and the twin, in one heat.
    assert tournament_cost(growing, seed, images=1000).steps == 100 + 2 * (10 + 4 * 10)


def test_the_estimate_is_near_what_a_tournament_takes(digits: Dataset) -> None:
    options = planned(digits, set=["epochs=6", "candidates=6"]).base.options
    assert isinstance(options, grow.GrowOptions)
    seed = grow.seed_network(options, digits, 0)
    result = Tournament(seed, digits, settings=grow.settings_for(options, 0)).run()
    expected = tournament_cost(options, seed, len(digits.train))
    assert 0.5 < expected.steps / result.progress.steps_all < 2
    assert 0.4 < expected.parameter_steps / result.progress.parameter_steps_all < 2.5


# What comes out.


def test_settings_are_compared_with_the_base_over_the_same_rng_seeds() -> None:
    outcomes = [
        Outcome("set-000", 0, 0.80, 100, 1e6, 0.7),
        Outcome("set-000", 1, 0.90, 200, 3e6, 0.8),
        Outcome("set-001", 0, 0.84, 90, 2e6, 0.6),
        Outcome("set-001", 1, 0.92, 90, 2e6, 0.9),
        Outcome("set-001", 2, 0.88, 90, 2e6, 0.75),
        Outcome("set-002", 0, 0.70, 10, 1e5),
        Outcome("set-002", 1),
        Outcome("set-003", 0),
    ]
    first, base, last = compared(outcomes, "set-000")
    assert (first.setting, base.setting, last.setting) == ("set-001", "set-000", "set-002")
    assert first.accuracy == pytest.approx(0.88)
    assert first.spread == pytest.approx(0.04)
    assert first.test == pytest.approx((0.75, 0.15))
    # Differences 0.04 and 0.02: mean 0.03, standard error 0.01, and t with one degree of freedom is 12.706.
    assert first.difference == pytest.approx(0.03)
    assert first.interval == pytest.approx((0.03 - 0.12706, 0.03 + 0.12706), abs=1e-5)
    assert (base.difference, base.interval) == (None, None)
    assert (base.parameters, base.parameter_steps) == (150, 2e6)
    assert (last.rng_seeds, last.failed, last.interval) == (1, 1, None)
    assert last.difference == pytest.approx(-0.1)


def test_outcomes_are_read_from_rows() -> None:
    numbers = {"accuracy": 0.5, "parameters": 10, "parameter_steps_all": 100, "test_accuracy": 0.4}
    rows = [
        ("a", {"status": status, "rng_seed": 3, **numbers}) for status in ("finished", "failed", "running")
    ]
    assert tournament_outcomes(rows) == [Outcome("a", 3, 0.5, 10, 100, 0.4), Outcome("a", 3)]

    def network(seed: int, accuracy: float | None, parameters: int) -> tuple[str, dict[str, Any], int]:
        row = {"rng_seed": seed, "accuracy": accuracy, "parameters": parameters, "epochs": 2}
        return "a", row, 10

    found = network_outcomes([network(0, 0.5, 100), network(0, 0.7, 300), network(1, None, 100)], images=50)
    assert found == [Outcome("a", 0, pytest.approx(0.6), 200, 2 * 5 * 400), Outcome("a", 1)]


def test_mechanisms_are_counted_by_how_far_they_got() -> None:
    def row(action: str, heat: int, **changed: Any) -> dict[str, Any]:
        plain = {"control": False, "affordable": True, "eligible": False, "won": False}
        plain |= {"gain": None, "gain_se": None}
        return {"trial": "t", "round": 1, "heat": heat, "action": action, **plain, **changed}

    rows = [
        row("train", 1, control=True),
        row("patch", 1),
        row("patch", 1),
        row("patch", 2, eligible=True, won=True, gain=0.3, gain_se=0.1),
        row("clone", 1),
        row("clone", 1, affordable=False),
    ]
    counts = mechanism_counts(rows)
    assert counts["patch"] == {
        "proposed": 2,
        "affordable": 2,
        "last heat": 1,
        "ahead": 1,
        "eligible": 1,
        "won": 1,
    }
    assert counts["clone"] == {"proposed": 2, "affordable": 1, "eligible": 0, "won": 0}
    assert "train" not in counts


def test_a_plateau_fired_where_the_line_did_not_train_for_its_longest() -> None:
    rows = [{"steps": 100}, {"steps": 100 + 20 + 30}, {"steps": 150 + 100 + 30}]
    assert plateaus(rows, round_steps=10, heat_steps=30) == (1, 2)


# One tournament as a trial.


def trial_of(data: Dataset, folder: Path, **options: Any) -> tuple[dict[str, Any], Shared]:
    """A trial in this process, without Ray, of a sweep that has begun."""
    given = {"set": TINY, "workers_each": 0, "results": str(folder), "name": "s", **options}
    asked = merged(SweepOptions, given, {})
    Experiment("sweep", asked, asked.model_dump(mode="json")).start("", 0)
    about = {name: getattr(data, name) for name in ("name", "classes", "class_names", "preprocessing")}
    shared = Shared(pack(data), about, str(folder), "s", asked.model_dump(mode="json"))
    return plan_for(asked, data).trials[0].config, shared


def rows_of(folder: Path, table: str, experiment: str) -> list[dict[str, Any]]:
    rows = read_table(str(folder), table, experiment).to_pylist()
    passing = ("experiment", "seconds", "worker", "snapshot")
    return [{name: value for name, value in row.items() if name not in passing} for row in rows]


def test_a_trial_that_dies_goes_on_after_its_last_round(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    config, shared = trial_of(digits, whole)
    told = TournamentWork(config, shared).step()
    assert told["done"]
    assert told["status"] == "finished"

    config, shared = trial_of(digits, cut)
    as_it_is = Tournament._round

    def dies_in_round_two(self: Tournament) -> None:
        if self.line.progress.round == 1:
            raise RuntimeError("power cut")
        as_it_is(self)

    with monkeypatch.context() as patch:
        patch.setattr(Tournament, "_round", dies_in_round_two)
        with pytest.raises(RuntimeError):
            TournamentWork(config, shared).step()
    assert [row["status"] for row in rows_of(cut, "experiments", "s")] == ["running", "failed"]
    again = TournamentWork(config, shared)
    again.step()
    for table in ("rounds", "candidates"):
        assert rows_of(cut, table, "s") == rows_of(whole, table, "s")
    row = rows_of(cut, "experiments", "s")[1]
    assert row["status"] == "finished"
    assert row["trial"] == "set-000-seed-0000"
    assert json.loads(row["config"])["heat_steps"] == 10

    folder = tmp_path / "checkpoint"
    folder.mkdir()
    again.save(folder)
    restored = TournamentWork(config, shared)
    restored.load(folder)
    assert restored.step() == again.step()


def test_a_tournament_that_diverges_is_a_failed_row_and_no_failed_trial(
    digits: Dataset, tmp_path: Path
) -> None:
    config, shared = trial_of(digits, tmp_path, vary=["learning_rate=1e38"])
    told = TournamentWork(config, shared).step()
    assert (told["done"], told["status"]) == (True, "failed")
    assert "Diverged" in rows_of(tmp_path, "experiments", "s")[1]["error"]


# On Ray.


@pytest.fixture
def two_cpus_left(ray_session: None) -> Iterator[None]:
    """A Ray with two of its four CPUs taken."""
    import ray
    from ray.util import placement_group, remove_placement_group

    taken = placement_group([{"CPU": 2}])
    ray.get(taken.ready())
    yield
    remove_placement_group(taken)


@pytest.mark.parametrize(
    ("workers_each", "seeds"), [(2, [1]), pytest.param(1, [0, 1], marks=pytest.mark.slow)]
)
def test_tournaments_with_actors_of_their_own_fit_in_two_cpus(
    digits: Dataset,
    two_cpus_left: None,
    tmp_path: Path,
    workers_each: int,
    seeds: list[int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A group of two actors holds both CPUs that are left, so an actor outside of it would never start."""
    given = {"vary": ["l1=5e-5,1e-3"], "set": TINY, "workers": 2, "workers_each": workers_each}
    given |= {"rng_seeds": len(seeds), "rng_seed": seeds[0]}
    sweep.run({**given, "results": str(tmp_path), "name": "s"})
    rows = {row["trial"]: row for row in read_table(str(tmp_path), "experiments", "s").to_pylist()}
    trials = [f"set-{setting:03d}-seed-{seed:04d}" for setting in (0, 1) for seed in seeds]
    assert sorted(rows) == ["", *trials]
    assert {row["status"] for row in rows.values()} == {"finished"}
    assert json.loads(rows["set-001-seed-0001"]["config"])["l1"] == 1e-3

    options = planned(digits, set=[*TINY, "l1=1e-3"]).base.options
    assert isinstance(options, grow.GrowOptions)
    seed = grow.seed_network(options, digits, 1)
    alone = Tournament(seed, digits, settings=grow.settings_for(options, 1)).run()
    assert rows["set-001-seed-0001"]["accuracy"] == alone.measured.accuracy
    assert rows["set-001-seed-0001"]["parameter_steps_all"] == alone.progress.parameter_steps_all
    workers = {row["worker"] for row in read_table(str(tmp_path), "candidates", "s").to_pylist()}
    assert workers == {f"contender-{number}" for number in range(workers_each)}

    said = capsys.readouterr().out
    assert f"{len(trials)} of {len(trials)} trials" in said
    assert re.search(r"Chosen on validation: set-00\d.*on test: ", said)


def test_a_sweep_that_was_cut_goes_on_where_it_was(
    two_cpus_left: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"set": TINY, "lenient": "patch", "rng_seeds": 1, "workers_each": 0, "results": str(tmp_path)}
    sweep.run({**given, "name": "s"})
    said = capsys.readouterr().out
    assert re.search(r"patch +\d+ +\d+ ", said)
    assert "Made lenient, patch" in said
    first = read_table(str(tmp_path), "experiments", "s").to_pylist()
    with pytest.raises(UserError, match="already exists"):
        sweep.run({**given, "name": "s"})

    # As if the driver had died after the last trial: its own row says that it runs.
    row = {name: value for name, value in first[0].items() if name != "experiment"}
    TableWriter(str(tmp_path), "s").write("experiments", "run", [{**row, "status": "running"}])
    sweep.run({**given, "name": "s", "resume": True})
    again = read_table(str(tmp_path), "experiments", "s").to_pylist()
    assert again[1] == first[1]
    assert again[0]["status"] == "finished"
    assert again[0]["accuracy"] == again[1]["accuracy"]
    sweep.run({**given, "name": "s", "resume": True})
    assert "finished already" in capsys.readouterr().out


def test_each_block_of_a_hunt_has_the_options_of_its_setting(
    two_cpus_left: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = ["architectures=input-8-classes", "densities=0.2"]
    given = {"of": "hunt", "vary": ["epochs=1,3"], "set": grid, "rng_seeds": 2}
    sweep.run({**given, "results": str(tmp_path), "name": "s"})
    rows = read_table(str(tmp_path), "networks", "s").to_pylist()
    assert {(row["trial"], row["epochs"]) for row in rows} == {
        ("set-000-block-0000", 1),
        ("set-001-block-0000", 3),
    }
    assert len(rows) == 4
    assert not [row for row in rows if row["snapshot"] or row["test_accuracy"]]
    best = read_table(str(tmp_path), "experiments", "s").to_pylist()[0]["accuracy"]
    right = [row["accuracy"] for row in rows if row["epochs"] == 3]
    assert best == pytest.approx(sum(right) / 2)
    assert "set-001" in capsys.readouterr().out


def test_snapshots_of_another_sweep_are_not_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / "snapshots" / "s" / "set-000-seed-0000").mkdir(parents=True)
    with pytest.raises(UserError, match="snapshots of another 's'"):
        sweep.run({"set": TINY, "vary": ["l1=0"], "results": str(tmp_path), "name": "s"})


def test_more_workers_each_than_there_are_is_refused() -> None:
    with pytest.raises(UserError, match="workers_each is 3, but there are 2 workers"):
        sweep.run({"vary": ["l1=0"], "workers_each": 3})


# On the command line.


def test_a_preview_shows_every_setting_and_the_total_and_runs_nothing(tmp_path: Path) -> None:
    from search.cli import app

    arguments = [
        "sweep",
        "--vary",
        "epochs=10,20",
        "--set",
        "l1=0",
        "--preview",
        "--results",
        str(tmp_path / "r"),
    ]
    done = CliRunner().invoke(app, [*arguments, "--rng-seeds", "2"])
    assert done.exit_code == 0, done.exception
    said = " ".join(done.output.split())
    assert "set-000 epochs=10 (base)" in said
    assert "set-001 epochs=20" in said
    assert "2 settings, 4 trials, 4 tournaments: about" in said
    assert "minutes on 2 cores" in said
    assert not (tmp_path / "r").exists()


def test_a_list_in_the_config_file_holds_where_none_is_on_the_line(tmp_path: Path) -> None:
    from search.cli import app

    (tmp_path / "sweep.yaml").write_text("vary: ['epochs=10,20']\nof: hunt\nset: ['densities=0.1']\n")
    done = CliRunner().invoke(app, ["sweep", "--config", str(tmp_path / "sweep.yaml"), "--preview"])
    assert done.exit_code == 0, done.exception
    assert "epochs=20" in done.output
    assert "30 networks" in done.output


def test_the_help_names_every_option() -> None:
    from search.cli import app

    page = CliRunner().invoke(app, ["sweep", "--help"], env={"COLUMNS": "400"}).output
    for name in SweepOptions.model_fields:
        assert "--" + name.replace("_", "-") in page
