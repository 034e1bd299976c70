"""`structnet rescue`: what it states beforehand, what its arms and verdicts hold, and that a resume ends the same."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext, redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from helpers.training_cases import Untouchable

from search.cli import main
from search.commands.rescue import COMMAND, results
from search.commands.rescue import run as command
from search.commands.rescue.command import RescueOptions
from search.session.console import Console
from structnet.data.datasets import load_dataset
from structnet.data.packing import description, pack
from structnet.errors import UserError
from structnet.experiments.rescue import ARMS, Rescue
from structnet.experiments.rescue import rescue as all_arms
from structnet.experiments.verdict import judge
from structnet.measure.statistics import mean_and_spread
from structnet.storage.snapshot import load_snapshot
from structnet.storage.tables import read_table
from structnet.training.evaluation import evaluate
from structnet.training.recipe import Recipe
from structnet.trials.rescue import RescueWork, finds_a_site, plan_of
from structnet.trials.work import Shared

TINY: dict[str, Any] = {
    "architecture": "input-16-classes",
    "density": 0.05,
    "budget": 60,
    "growths": 2,
    "rng_seeds": 2,
    "epochs": 4,
    "batch_size": 64,
    "learning_rate": 0.03,
}
CHANCE = 44 / 359


def options_of(**more: Any) -> RescueOptions:
    return RescueOptions(**{**TINY, **more})


def fitted_options(**more: Any) -> RescueOptions:
    return command.fitted_to(options_of(**more), load_dataset("digits"))


# Options


def test_what_follows_from_the_data() -> None:
    """64 · 16 + 16 · 10 connections are possible; a twentieth of them is the default budget."""
    options = fitted_options(budget=None, batch_size=None)
    assert (options.architecture, options.budget, options.batch_size) == ("64-16-10", 59, 32)
    assert fitted_options().budget == 60


def test_the_defaults_are_those_of_the_dataset(tmp_path: Path) -> None:
    config = tmp_path / "mnist.yaml"
    config.write_text("dataset: mnist\n")
    for given, expected in (
        ({}, ("input-64-classes", 0.02, 20)),
        ({"dataset": "mnist"}, ("input-256-classes", 0.001, 5)),
        ({"config": config}, ("input-256-classes", 0.001, 5)),
    ):
        options = COMMAND.parse(given)
        assert (options.architecture, options.density, options.epochs) == expected
        assert (options.mechanism, options.rng_seeds, options.budget) == ("patch", 5, None)


BAD = [
    (["--mechanism", "prune"], "mechanism is 'prune', but must be one of patch"),
    (["--density", "0"], "density is 0.0, but must be in (0, 1]"),
    (["--density", "0.1"], "density is 0.1, but must be below 0.1"),
    (["--density", "nan"], "density is nan"),
    (["--density", "1.5", "--plateau", "0.9"], "density is 1.5, but must be in (0, 1]"),
    (["--plateau", "0.2"], "plateau is 0.2, but must be an accuracy from 0.2226"),
    (["--plateau", "97"], "plateau is 97"),
    (["--architecture", "63,16,10"], "64 inputs"),
    (["--architecture", "64;10"], "must be sizes"),
    (["--budget", "0"], "budget is 0"),
    (["--budget", "5000"], "budget is 5000, but 95 of 4736 connections exist already"),
    (["--budget", "2", "--mechanism", "widen"], "budget is 2, but widen finds nothing to add"),
    (["--architecture", "64,10", "--mechanism", "widen"], "give the architecture hidden units"),
    (["--growths", "0"], "growths is 0"),
    (["--rng-seeds", "1"], "rng_seeds is 1"),
    (["--rng-seeds", "5", "--limit", "14"], "the grid has 15 networks"),
    (["--allocation", "fair"], "allocation is 'fair'"),
    (["--epochs", "0"], "epochs is 0"),
    (["--learning-rate", "0"], "learning_rate is 0"),
    (["--config", "cull.yaml"], "cull is true"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[" ".join(arguments) for arguments, _ in BAD])
def test_bad_input_gets_one_line_and_exit_code_2(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("cull.yaml").write_text("cull: true\n")
    monkeypatch.setattr(sys, "argv", ["structnet", "rescue", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr()
    assert end.value.code == 2, said.out
    assert len(said.err.strip().splitlines()) == 1
    assert message in said.err
    assert not Path("results/tables").exists()


def test_one_rng_seed_with_a_place_to_grow_is_enough() -> None:
    data = load_dataset("digits")
    options = fitted_options(mechanism="clone", budget=5, batch_size=32, rng_seeds=5)
    plain = options.model_dump(mode="json")
    # A clone costs its unit's connections, so in some starts even the cheapest is too dear.
    found = [finds_a_site(Rescue(data, plan_of(plain, rng_seed))) for rng_seed in range(5)]
    assert found == [True, False, False, False, True]
    with pytest.raises(UserError, match="budget is 5, but clone finds nothing to add to 64-16-10 at density"):
        fitted_options(mechanism="clone", budget=5, rng_seed=1, rng_seeds=3)


# The plateau and the verdict, from rows


def row(network: str, rng_seed: int, accuracy: float | None, **more: Any) -> dict[str, Any]:
    status = "failed" if accuracy is None else "finished"
    found = {"network": network, "rng_seed": rng_seed, "status": status, "accuracy": accuracy}
    return {**found, "loss": accuracy, "parameters": 10, "snapshot": None, "density_real": 0.1, **more}


def test_a_plateau_is_the_mean_of_three_densities() -> None:
    rows = [
        row(f"d{density}", seed, 0.5 + 0.1 * density + 0.01 * seed)
        for seed in (0, 1)
        for density in (0, 1, 2)
    ]
    assert results.plateaus_of(rows) == pytest.approx([0.6, 0.61])
    # One that diverged takes its rng_seed along: two densities are no plateau.
    assert results.plateaus_of([*rows[:5], row("d2", 1, None)]) == pytest.approx([0.6])


def test_without_a_plateau_there_is_no_verdict() -> None:
    assert results.no_plateau([0.3, 0.31], 0.2) is None
    assert "the plateau is 0.2950, not 0.1 above chance, 0.2000" in str(results.no_plateau([0.28, 0.31], 0.2))
    assert "diverged with every rng_seed" in str(results.no_plateau([], 0.2))


def test_arms_are_paired_by_rng_seed_and_a_failed_one_takes_its_seed_along() -> None:
    means = {"static": 0.2, "growth": 0.7, "random": 0.5, "rewire": 0.6}
    rows = [row(arm, seed, mean + 0.01 * seed) for seed in (2, 0, 1) for arm, mean in means.items()]
    broken = [row(arm, 3, None if arm == "rewire" else 0.0) for arm in ARMS]
    verdict = results.verdict_of([*broken, *rows], 0.9, 0.1)
    by_hand = {arm: [mean, mean + 0.01, mean + 0.02] for arm, mean in means.items()}
    assert verdict == judge(by_hand, 0.9, 0.1)
    assert verdict is not None and verdict.success and verdict.beats_moving
    assert results.verdict_of(broken, 0.9, 0.1) is None
    best = results.summary_columns([row("growth", 0, 0.4), row("growth", 1, 0.3, parameters=7)])
    assert best == {"parameters": 7, "accuracy": 0.3, "snapshot": None}


def test_what_diverged_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row(arm, seed, 0.5) for arm in ARMS for seed in (0, 1)]
    rows += [row(arm, 2, None) for arm in ARMS]
    verdict = results.verdict_of(rows, 0.9, 0.1)
    assert verdict is not None
    results.print_arms(rows, verdict, fitted_options(rng_seeds=3), Console())
    assert "training diverged with 1 of 3 rng_seeds" in capsys.readouterr().out


# The work of a trial


def shared_with(results: Path, **more: Any) -> Shared:
    data = load_dataset("digits")
    return Shared(
        pack(data), description(data), str(results), "alone", fitted_options(**more).model_dump(mode="json")
    )


CONFIG = {"name": "seed-0003", "rng_seed": 3}


def rows_of(folder: Path) -> list[dict[str, Any]]:
    rows = read_table(str(folder), "networks", "alone").to_pylist()
    return [{name: value for name, value in found.items() if name != "seconds"} for found in rows]


@pytest.mark.parametrize("stop_after", [1, 5])
def test_a_trial_that_is_saved_goes_on_where_it_was(
    stop_after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("structnet.trials.rescue.STRETCH_SECONDS", 0.0)
    whole, half = RescueWork(CONFIG, shared_with(tmp_path)), RescueWork(CONFIG, shared_with(tmp_path))
    while not whole.step()["done"]:
        pass
    expected = rows_of(tmp_path)
    for _ in range(stop_after):
        assert not half.step()["done"]
    half.save(tmp_path)
    again = RescueWork(CONFIG, shared_with(tmp_path))
    again.load(tmp_path)
    said = again.step()
    while not said["done"]:
        said = again.step()
    assert json.loads(json.dumps(said)) == said
    assert list(said["arms"]) == list(ARMS)
    assert rows_of(tmp_path) == expected


def test_training_that_diverges_is_failed_rows(tmp_path: Path) -> None:
    work = RescueWork(CONFIG, shared_with(tmp_path, learning_rate=1e30))
    said = work.step()
    assert said["done"] and said["arms"] == {} and said["error"].startswith("static: ")
    work.save(tmp_path)
    again = RescueWork(CONFIG, shared_with(tmp_path, learning_rate=1e30))
    again.load(tmp_path)
    assert again.step() == said
    rows = rows_of(tmp_path)
    assert [found["network"] for found in rows] == sorted(ARMS)
    assert all(found["status"] == "failed" and "static" in found["error"] for found in rows)


def test_the_rows_are_those_of_the_function(tmp_path: Path) -> None:
    """Whose test split cannot be read."""
    data = replace(load_dataset("digits"), test=Untouchable())  # type: ignore[arg-type]
    recipe = Recipe(batch_size=64, l1=1e-4, input_dropout=0.1)
    how: dict[str, Any] = {"epochs": 4, "growths": 2, "learning_rate": 0.03, "recipe": recipe}
    expected = all_arms(data, (64, 16, 10), 0.05, "widen", 70, 3, allocation="uniform", **how)
    shared = shared_with(
        tmp_path, mechanism="widen", budget=70, allocation="uniform", l1=1e-4, input_dropout=0.1
    )
    assert RescueWork(CONFIG, shared).step()["done"]
    by_arm = {found["network"]: found for found in read_table(str(tmp_path), "networks", "alone").to_pylist()}
    for result in expected:
        found, network = by_arm[result.arm], result.network
        for name in ("accuracy", "loss", "information", "parameters", "rng_seed"):
            assert found[name] == getattr(result, name)
        assert found["architecture"] == list(network.architecture)
        assert found["density_real"] == network.topology.density
        assert found["efficiency"] == pytest.approx((result.accuracy - CHANCE) / result.parameters)
        assert found["seconds"] > 0 and found["test_accuracy"] is None
        key = (found["trial"], found["density"], found["epochs"], found["status"], found["error"])
        assert key == ("seed-0003", 0.05, 4, "finished", None)
    assert by_arm["growth"]["hidden_units"] > by_arm["static"]["hidden_units"] == 16


# The whole command


def call(folder: Path, **more: Any) -> None:
    COMMAND.run({**TINY, "name": "tiny", "results": str(folder), **more})


def networks(folder: Path) -> list[dict[str, Any]]:
    rows = read_table(str(folder), "networks", "tiny").to_pylist()
    hidden = ("seconds", "snapshot")
    return [{name: value for name, value in found.items() if name not in hidden} for found in rows]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, ray_session: None) -> tuple[Path, str]:
    """A results folder, and what the command said."""
    folder, said = tmp_path_factory.mktemp("rescue"), StringIO()
    with redirect_stdout(said):
        call(folder, workers=1)
    return folder, " ".join(said.getvalue().split())


def test_every_arm_of_every_rng_seed_is_a_row(done: tuple[Path, str]) -> None:
    rows = [found for found in networks(done[0]) if found["trial"].startswith("seed-")]
    places = [(found["trial"], found["network"], found["rng_seed"]) for found in rows]
    assert places == [(f"seed-000{seed}", arm, seed) for seed in (0, 1) for arm in sorted(ARMS)]
    added = {found["network"]: found["parameters"] - 59 - 26 for found in rows}
    assert added == {"static": 0, "growth": 60, "random": 60, "rewire": 0}
    dense = [found for found in networks(done[0]) if not found["trial"].startswith("seed-")]
    assert sorted((found["density"], found["rng_seed"]) for found in dense) == [
        (density, seed) for density in (0.1, 0.2, 0.5) for seed in (0, 1)
    ]
    assert {found["test_accuracy"] for found in rows + dense} == {None}


def test_the_grown_network_is_saved_as_it_was_measured(done: tuple[Path, str]) -> None:
    folder, _ = done
    rows = read_table(str(folder), "networks", "tiny").to_pylist()
    saved = [found for found in rows if found["snapshot"]]
    assert {(found["trial"], found["network"]) for found in saved} == {
        ("seed-0000", "growth"),
        ("seed-0001", "growth"),
    }
    validation = load_dataset("digits").validation
    for found in saved:
        network = load_snapshot(found["snapshot"]).state.network
        assert evaluate(network, validation).accuracy == found["accuracy"]
    (experiment,) = read_table(str(folder), "experiments", "tiny").to_pylist()
    best = min(saved, key=lambda found: found["loss"])
    assert (experiment["status"], experiment["error"]) == ("finished", None)
    assert experiment["test_accuracy"] is None
    for name in ("parameters", "accuracy", "snapshot"):
        assert experiment[name] == best[name]


def test_it_states_its_bars_before_its_verdicts(done: tuple[Path, str]) -> None:
    folder, said = done
    rows = networks(folder)
    plateau = mean_and_spread(results.plateaus_of([row for row in rows if row["trial"].startswith("block")]))
    arms = [row for row in rows if row["trial"].startswith("seed-")]
    verdict = results.verdict_of(arms, plateau[0], CHANCE)
    assert verdict is not None
    in_this_order = (
        "Can patch rescue 64-16-10 at density 0.05 on digits by adding 60 parameters?",
        "rescued means: mean accuracy at least half as far above chance, 0.1226, as the plateau",
        "more than moving does means: ahead of rewire",
        f"plateau: {plateau[0]:.4f} ± {plateau[1]:.4f}; half as far above chance: {verdict.edge:.4f}",
        "seed-0000 static: ",
        "growth added 60 of 60 parameters",
        *verdict.sentences,
        "the test set was not read",
    )
    places = [said.index(text) for text in in_this_order]
    assert places == sorted(places)


@pytest.mark.slow
def test_a_resume_keeps_what_is_finished_and_ends_the_same(
    done: tuple[Path, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Interrupted when the second of two rng_seeds reports. Tune may do the last ten seconds again."""
    parts = tmp_path / "tables" / "networks" / "experiment=tiny"

    def stop(console: Console, text: str, **how: bool) -> None:
        if text.startswith("seed-0001 static"):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Console, "say", stop)
        with pytest.raises(SystemExit) as end:
            call(tmp_path, workers=1)
    assert end.value.code == 130
    (parts / "seed-0001.parquet").unlink()
    before = {part.name: part.stat().st_mtime_ns for part in parts.glob("block-*")}
    assert before and (parts / "seed-0000.parquet").exists()
    capsys.readouterr()
    call(tmp_path, workers=2, resume=True)
    assert "seed-0001 is done: 2 of 2" in capsys.readouterr().out
    assert {part.name: part.stat().st_mtime_ns for part in parts.glob("block-*")} == before
    assert networks(tmp_path) == networks(done[0])
    call(tmp_path, workers=1, resume=True)
    assert "finished already" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"budget was 60, is 61"):
        call(tmp_path, resume=True, budget=61)


@pytest.mark.parametrize(("accuracy", "why"), [(0.15, "the plateau is 0.1500"), (None, "diverged")])
def test_without_a_plateau_it_says_why_and_exits_with_1(
    accuracy: float | None,
    why: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [row(f"d{density}", seed, accuracy) for seed in (0, 1) for density in (0, 1, 2)]
    monkeypatch.setattr(command, "train_grid", lambda *_: pa.Table.from_pylist(rows))
    monkeypatch.setattr(command, "on_ray", lambda _: nullcontext())
    for resume in (False, True):
        with pytest.raises(SystemExit) as end:
            call(tmp_path, resume=resume)
        assert end.value.code == 1
    assert "no verdict: " in (said := capsys.readouterr().out) and why in said
    (experiment,) = read_table(str(tmp_path), "experiments", "tiny").to_pylist()
    assert experiment["status"] == "finished" and why in experiment["error"]


def test_a_given_plateau_is_not_trained_and_where_all_diverges_there_is_no_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row(arm, seed, None) for arm in ARMS for seed in (0, 1)]
    monkeypatch.setattr(command, "train_arms", lambda *_: rows)
    monkeypatch.setattr(command, "on_ray", lambda _: nullcontext())
    with pytest.raises(SystemExit) as end:
        call(tmp_path, plateau=0.9)
    assert end.value.code == 1
    said = capsys.readouterr().out
    assert "as the plateau, 0.9 as given" in said
    assert "no verdict: training diverged with every rng_seed" in said
