"""Sweeps on Ray: trials that die, go on, and fit."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from search.commands.grow import fitting
from search.commands.grow.command import GrowOptions
from search.commands.sweep import COMMAND
from search.commands.sweep.command import SweepOptions
from search.commands.sweep.settings import Plan, plan_for
from search.commands.sweep.tournament_work import TournamentWork
from search.session.experiment import Experiment
from structnet.data.dataset import Dataset
from structnet.data.datasets import load_dataset
from structnet.data.packing import description, pack
from structnet.errors import UserError
from structnet.storage.tables import TableWriter, read_table
from structnet.trials.work import Shared
from tournament.coordinator import Tournament

TINY = (
    "policy=score",
    "epochs=3",
    "rounds=2",
    "round_steps=10",
    "heat_steps=10",
    "candidates=2",
    "fork_price=0",
)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


def planned(data: Dataset, **given: Any) -> Plan:
    return plan_for(COMMAND.parse(given), data)


def trial_of(data: Dataset, folder: Path, **options: Any) -> tuple[dict[str, Any], Shared]:
    """A trial in this process, without Ray, of a sweep that has begun."""
    given = {"set": TINY, "workers_each": 0, "results": str(folder), "name": "s", **options}
    asked = COMMAND.parse(given)
    Experiment("sweep", asked, asked.model_dump(mode="json")).start("", 0)
    shared = Shared(pack(data), description(data), str(folder), "s", asked.model_dump(mode="json"))
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
    for table in ("rounds", "candidates", "confusions", "mistakes"):
        assert rows_of(cut, table, "s") == rows_of(whole, table, "s")
    assert sum(row["images"] for row in rows_of(cut, "confusions", "s")) == len(digits.validation)
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


@pytest.mark.slow
@pytest.mark.parametrize(("workers_each", "seeds"), [(2, [1]), (1, [0, 1])])
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
    COMMAND.run({**given, "results": str(tmp_path), "name": "s"})
    rows = {row["trial"]: row for row in read_table(str(tmp_path), "experiments", "s").to_pylist()}
    trials = [f"set-{setting:03d}-seed-{seed:04d}" for setting in (0, 1) for seed in seeds]
    assert sorted(rows) == ["", *trials]
    assert {row["status"] for row in rows.values()} == {"finished"}
    assert json.loads(rows["set-001-seed-0001"]["config"])["l1"] == 1e-3

    options = planned(digits, set=[*TINY, "l1=1e-3"]).base.options
    assert isinstance(options, GrowOptions)
    seed = fitting.seed_network(options, digits, 1)
    alone = Tournament(seed, digits, settings=fitting.settings_for(options, 1)).run()
    assert rows["set-001-seed-0001"]["accuracy"] == alone.measured.accuracy
    assert rows["set-001-seed-0001"]["parameter_steps_all"] == alone.progress.parameter_steps_all
    workers = {row["worker"] for row in read_table(str(tmp_path), "candidates", "s").to_pylist()}
    assert workers == {f"contender-{number}" for number in range(workers_each)}

    said = capsys.readouterr().out
    assert f"{len(trials)} of {len(trials)} trials" in said
    assert re.search(r"Chosen on validation: set-00\d.*on test: ", said)


@pytest.mark.slow
def test_a_sweep_that_was_cut_goes_on_where_it_was(
    two_cpus_left: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {
        "set": TINY,
        "lenient": "patch",
        "rng_seeds": 1,
        "workers_each": 0,
        "results": str(tmp_path),
        "workers": 1,
    }
    COMMAND.run({**given, "name": "s"})
    said = capsys.readouterr().out
    assert re.search(r"patch +\d+ +\d+ ", said)
    assert "Made lenient, patch" in said
    first = read_table(str(tmp_path), "experiments", "s").to_pylist()
    with pytest.raises(UserError, match="already exists"):
        COMMAND.run({**given, "name": "s"})

    # As if the driver had died after the last trial: its own row says that it runs.
    row = {name: value for name, value in first[0].items() if name != "experiment"}
    TableWriter(str(tmp_path), "s").write("experiments", "run", [{**row, "status": "running"}])
    COMMAND.run({**given, "name": "s", "resume": True})
    again = read_table(str(tmp_path), "experiments", "s").to_pylist()
    assert again[1] == first[1]
    assert again[0]["status"] == "finished"
    assert again[0]["accuracy"] == again[1]["accuracy"]
    COMMAND.run({**given, "name": "s", "resume": True})
    assert "finished already" in capsys.readouterr().out


@pytest.mark.slow
def test_each_block_of_a_hunt_has_the_options_of_its_setting(
    two_cpus_left: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = ["architectures=input-8-classes", "densities=0.2"]
    given = {"of": "hunt", "vary": ["epochs=1,3"], "set": grid, "rng_seeds": 2}
    COMMAND.run({**given, "results": str(tmp_path), "name": "s"})
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
        COMMAND.run({"set": TINY, "vary": ["l1=0"], "results": str(tmp_path), "name": "s"})


def test_more_workers_each_than_there_are_is_refused() -> None:
    with pytest.raises(UserError, match="workers_each is 3, but there are 2 workers"):
        COMMAND.run({"vary": ["l1=0"], "workers_each": 3})


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
    for name, field in SweepOptions.model_fields.items():
        assert ("--" + name.replace("_", "-") in page) is bool(field.description)
