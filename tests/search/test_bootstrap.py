"""`structnet bootstrap`: which seed is the smallest, what its comparisons hold, and that a resume ends the same."""

from __future__ import annotations

import sys
from contextlib import nullcontext, redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pytest
import torch
from helpers.table_cases import candidate_row

from search.cli import main
from search.commands.bootstrap import COMMAND
from search.commands.bootstrap import run as bootstrap
from search.commands.bootstrap.results import in_words, leads, print_comparison
from search.session.console import Console
from structnet.data.dataset import Dataset, Split
from structnet.data.datasets import load_dataset
from structnet.data.packing import description, pack
from structnet.experiments.seed_finder import Candidate, candidates, smallest
from structnet.measure.statistics import ConfidenceInterval
from structnet.storage.snapshot import load_snapshot
from structnet.storage.tables import read_table
from structnet.training.evaluation import evaluate
from structnet.trials.starts import COMPARISONS, StartWork, configs_of
from structnet.trials.work import Shared

TINY: dict[str, Any] = {
    "architectures": "input-classes input-4-classes input-6-classes",
    "densities": "0.02,0.2,0.4",
    "rng_seeds": 2,
    "epochs": 4,
    "batch_size": 64,
    "learning_rate": 0.03,
    "larger": "input-8-classes",
    "parameters": 300,
    "larger_epochs": 2,
    "scale_epochs": 1,
}


# Verdicts


def arm_row(network: str, rng_seed: int, accuracy: float, status: str = "finished") -> dict[str, Any]:
    found = {"network": network, "rng_seed": rng_seed, "status": status, "parameters": 300}
    return {**found, "accuracy": accuracy, "loss": 1 - accuracy}


def test_leads_are_paired_with_a_t_interval() -> None:
    """Differences of 1, 2 and 3 points: mean 2, spread 1, t(2) = 4.3027, so ± 4.3027 / √3."""
    rows = [arm_row("fixed", seed, 0.3 + 0.2 * seed) for seed in range(3)]
    rows += [arm_row("coarse_to_fine", seed, 0.31 + 0.21 * seed) for seed in (2, 1, 0)]
    rows += [arm_row("fixed", 3, 0.9), {**arm_row("coarse_to_fine", 3, 0.0), "status": "failed"}]
    found = leads(rows, "coarse_to_fine", "accuracy")
    assert list(found) == ["fixed"]
    assert found["fixed"].mean == pytest.approx(0.02)
    assert found["fixed"].low == pytest.approx(0.02 - 0.0248414, abs=1e-6)
    assert leads(rows, "coarse_to_fine", "loss")["fixed"].mean == pytest.approx(-0.02)


def test_a_verdict_needs_an_interval_without_zero() -> None:
    assert in_words(ConfidenceInterval(0.02, 0.01, 0.03)) == "better than"
    assert in_words(ConfidenceInterval(-0.02, -0.03, -0.01)) == "worse than"
    assert in_words(ConfidenceInterval(0.02, -0.01, 0.05)) == "not told apart from"


def test_a_comparison_says_how_many_rng_seeds_are_left(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [arm_row(arm, seed, 0.5) for arm in COMPARISONS["scales"].arms for seed in (0, 1)]
    rows += [arm_row(arm, 2, 0.5, "failed") for arm in COMPARISONS["scales"].arms]
    print_comparison("scales", rows, Console())
    said = " ".join(capsys.readouterr().out.split())
    assert "coarse_to_fine is not told apart from fixed" in said
    assert "2 rng_seeds; training diverged with 1 more" in said
    print_comparison("scales", rows[-3:], Console())
    assert "no verdict" in capsys.readouterr().out


# Options


def options_of(**more: Any) -> bootstrap.BootstrapOptions:
    return bootstrap.BootstrapOptions(**{**TINY, **more})


def test_what_follows_from_the_data() -> None:
    options = bootstrap.fitted_to(options_of(parameters=None), load_dataset("digits"))
    assert (options.larger, options.parameters, options.scales) == ("64-8-10", 305, 2)
    teacher = load_dataset("teacher")
    assert bootstrap.fitted_to(options_of(), teacher).scales == 1


@pytest.mark.parametrize(
    ("height", "width", "scales"), [(28, 28, 3), (32, 64, 3), (8, 8, 2), (28, 14, 2), (7, 7, 1), (4, 4, 1)]
)
def test_images_are_halved_as_often_as_they_can_be(height: int, width: int, scales: int) -> None:
    split = Split(torch.zeros(1, 1, height, width), torch.zeros(1, dtype=torch.int64))
    data = Dataset("blank", split, split, split, 2, ("a", "b"), {})
    assert bootstrap.default_scales(data) == scales


def test_only_what_lies_inside_grows_into_the_larger_network() -> None:
    """64-4-10 of 50 parameters and 3 for each of 4 new units are 62."""
    small = Candidate((64, 4, 10), 0.1, 50, (0.5, 0.5), 2, 2)
    for parameters, grows in ((62, True), (61, False)):
        assert (
            bootstrap.grows_into_larger(small, options_of(larger="64-8-10", parameters=parameters)) is grows
        )
    for shape in ((64, 10), (64, 9, 10), (64, 4, 4, 10)):
        one = replace(small, architecture=shape)
        assert not bootstrap.grows_into_larger(one, options_of(larger="64-8-10"))


def test_there_is_a_trial_for_every_rng_seed_and_step() -> None:
    small = Candidate((64, 4, 10), 0.1, 50, (0.5, 0.5), 2, 2)
    names = [config["name"] for config in bootstrap.configs_for(small, options_of(scales=2, rng_seed=7))]
    assert names == [f"seed-000{seed}-{step}" for step in ("hierarchical", "scales") for seed in (7, 8)]
    assert bootstrap.configs_for(None, options_of(scales=1)) == []


BAD = [
    (["--larger", "63,16,10"], "64 inputs"),
    (["--larger", "input-2-classes", "--parameters", "99"], "none of the architectures lies inside"),
    (["--parameters", "42"], "parameters is 42, but must be 43 to 2410"),
    (["--scales", "5"], "the factor is 16, but must divide"),
    (["--scales", "2", "--dataset", "teacher"], "plain columns"),
    (["--scales", "0"], "scales is 0"),
    (["--margin", "0"], "margin is 0"),
    (["--rng-seeds", "1"], "rng_seeds is 1"),
    (["--densities", "0.1,2"], "density is 2"),
    (["--epochs", "0"], "epochs is 0"),
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
    monkeypatch.setattr(sys, "argv", ["structnet", "bootstrap", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr()
    assert end.value.code == 2, said.out
    assert len(said.err.strip().splitlines()) == 1
    assert message in said.err
    assert not Path("results/tables").exists()


# The work of a trial


def shared_with(results: Path, **more: Any) -> Shared:
    data = load_dataset("digits")
    options = bootstrap.fitted_to(options_of(**more), data).model_dump(mode="json")
    return Shared(pack(data), description(data), str(results), "alone", options)


def config(comparison: str) -> dict[str, Any]:
    member = {"architecture": [64, 4, 10], "density": 0.4, "rng_seed": 3, "allocation": "proportional"}
    more = {"member": member} if comparison == "hierarchical" else {}
    return configs_of(comparison, {3: more})[0]


def test_a_trial_that_is_done_does_nothing_again(tmp_path: Path) -> None:
    work = StartWork(config("scales"), shared_with(tmp_path / "one"))
    assert work.step() == {"done": True, "name": "seed-0003-scales", "networks": 3}
    work.save(tmp_path)
    again = StartWork(config("scales"), shared_with(tmp_path / "two"))
    again.load(tmp_path)
    assert again.step() == {"done": True, "name": "seed-0003-scales", "networks": 0}
    assert len(read_table(str(tmp_path / "one"), "networks")) == 3
    assert len(read_table(str(tmp_path / "two"), "networks")) == 0
    for resume in (False, True):
        assert StartWork(config("scales"), shared_with(tmp_path / "one", resume=resume)).done is resume
        assert not StartWork(config("scales"), shared_with(tmp_path / "two", resume=resume)).done


@pytest.mark.parametrize("comparison", COMPARISONS)
def test_training_that_diverges_is_failed_rows(comparison: str, tmp_path: Path) -> None:
    work = StartWork(config(comparison), shared_with(tmp_path, learning_rate=1e30))
    assert work.step()["done"]
    rows = read_table(str(tmp_path), "networks", "alone").to_pylist()
    assert {found["network"] for found in rows} == set(COMPARISONS[comparison].arms)
    assert all(found["status"] == "failed" and "diverged" in found["error"] for found in rows)


# The whole command


def call(folder: Path, **more: Any) -> None:
    COMMAND.run({**TINY, "name": "tiny", "results": str(folder), "workers": 1, **more})


def networks(folder: Path, name: str = "tiny") -> list[dict[str, Any]]:
    rows = read_table(str(folder), "networks", name).to_pylist()
    hidden = ("experiment", "seconds", "snapshot")
    return [{column: value for column, value in found.items() if column not in hidden} for found in rows]


class Done(NamedTuple):
    """The results of a run that was interrupted and resumed, what it said, and its parts before and after."""

    folder: Path
    said: str
    before: dict[str, int]
    after: dict[str, int]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, ray_session: None) -> Done:
    """Interrupted when the second of four trials of the second part is trained."""
    folder, said = tmp_path_factory.mktemp("bootstrap"), StringIO()

    def stop(console: Console, text: str, **how: bool) -> None:
        if "is trained; 2 of" in text:
            raise KeyboardInterrupt

    def parts() -> dict[str, int]:
        place = folder / "tables" / "networks" / "experiment=tiny"
        return {part.name: part.stat().st_mtime_ns for part in place.iterdir()}

    with redirect_stdout(said), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Console, "say", stop)
        with pytest.raises(SystemExit) as end:
            call(folder)
    assert end.value.code == 130
    before, said = parts(), StringIO()
    with redirect_stdout(said):
        call(folder, resume=True)
    return Done(folder, " ".join(said.getvalue().split()), before, parts())


def test_a_resume_keeps_what_is_finished(done: Done) -> None:
    assert sum(name.startswith("seed-") for name in done.before) == 2
    assert sum(name.startswith("block-") for name in done.before) == 6
    assert len(done.after) == len(done.before) + 2
    assert [name for name in done.before if done.after[name] != done.before[name]] == []


def test_its_rows_are_those_of_the_works_run_alone(done: Done, tmp_path: Path) -> None:
    chance = 44 / 359
    rows = networks(done.folder)
    grid = [found for found in rows if found["trial"].startswith("block-")]
    start = smallest(one for one in candidates(grid, chance, 0.1) if len(one.architecture) == 3)
    shared = shared_with(tmp_path)
    options = bootstrap.BootstrapOptions(**shared.options)
    for each in bootstrap.configs_for(start, options):
        StartWork(each, shared).step()
    assert networks(tmp_path, "alone") == [found for found in rows if found["trial"].startswith("seed-")]


def test_all_arms_are_rows_of_equal_size(done: Done) -> None:
    folder = done.folder
    rows = [found for found in networks(folder) if found["trial"].startswith("seed-")]
    arms = {name: list(comparison.arms) for name, comparison in COMPARISONS.items()}
    for seed in (0, 1):
        for step, names in arms.items():
            here = [found for found in rows if found["trial"] == f"seed-000{seed}-{step}"]
            assert sorted(found["network"] for found in here if found["network"] != "small") == sorted(names)
            assert {found["rng_seed"] for found in here} == {seed}
            assert all(found["status"] == "finished" and found["test_accuracy"] is None for found in here)
    sizes = {found["parameters"] for found in rows if found["network"] in arms["hierarchical"]}
    assert sizes == {300}
    for seed in (0, 1):
        here = {found["network"]: found for found in rows if found["trial"] == f"seed-000{seed}-scales"}
        assert here["fixed"]["parameters"] == here["coarse_to_fine"]["parameters"] <= 300
        assert {found["epochs"] for found in here.values()} == {2}


def test_the_small_network_is_the_one_that_the_grid_trained(done: Done) -> None:
    folder = done.folder
    rows = networks(folder)
    chance = 44 / 359
    grid = [found for found in rows if found["trial"].startswith("block-")]
    assert len(grid) == 18
    inside = [one for one in candidates(grid, chance, 0.1) if len(one.architecture) == 3]
    start = smallest(inside)
    assert start is not None
    expected = {
        found["rng_seed"]: (found["parameters"], found["accuracy"])
        for found in grid
        if (tuple(found["architecture"]), found["density"]) == (start.architecture, start.density)
    }
    small = [found for found in rows if found["network"] == "small"]
    assert {found["rng_seed"]: (found["parameters"], found["accuracy"]) for found in small} == expected


def test_what_was_saved_is_what_was_measured(done: Done) -> None:
    folder = done.folder
    rows = read_table(str(folder), "networks", "tiny").to_pylist()
    saved = [found for found in rows if found["snapshot"]]
    assert {found["network"] for found in saved} == {"small", "hierarchical", "coarse_to_fine"}
    validation = load_dataset("digits").validation
    for found in saved:
        network = load_snapshot(found["snapshot"]).state.network
        assert evaluate(network, validation).accuracy == found["accuracy"]
    (experiment,) = read_table(str(folder), "experiments", "tiny").to_pylist()
    best = min((found for found in rows if found["network"] == "small"), key=lambda found: found["loss"])
    assert experiment["status"] == "finished"
    assert experiment["test_accuracy"] is None
    for name in ("parameters", "accuracy", "snapshot"):
        assert experiment[name] == best[name]


def test_it_says_what_it_found(done: Done) -> None:
    said = done.said
    assert "9 candidates on digits" in said and "4×4 → 8×8" in said
    assert "The fewest parameters that learn" in said
    assert "Hierarchical initialisation: hierarchical is" in said
    assert "Coarse to fine: coarse_to_fine is" in said
    assert "the test set was not read" in said


def test_if_nothing_learns_it_says_so_and_exits_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [candidate_row((64, 4, 10), 0.2, seed, 50, 0.15) for seed in (0, 1)]
    monkeypatch.setattr(bootstrap, "train_grid", lambda *_: pa.Table.from_pylist(rows))
    monkeypatch.setattr(bootstrap, "on_ray", lambda _: nullcontext())
    for resume in (False, True):
        with pytest.raises(SystemExit) as end:
            call(tmp_path, scales=1, resume=resume)
        assert end.value.code == 1
    said = capsys.readouterr().out
    assert "No candidate learns" in said
    assert "Coarse to fine is left out: there is one scale only" in said
    assert "finished already" in said
    (experiment,) = read_table(str(tmp_path), "experiments", "tiny").to_pylist()
    assert (experiment["status"], experiment["error"]) == ("finished", "no candidate learns")


def test_without_images_coarse_to_fine_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [candidate_row((32, 4), 0.2, seed, 30, 0.9) for seed in (0, 1)]
    monkeypatch.setattr(bootstrap, "train_grid", lambda *_: pa.Table.from_pylist(rows))
    monkeypatch.setattr(bootstrap, "on_ray", lambda _: nullcontext())
    call(tmp_path, dataset="teacher")
    said = " ".join(capsys.readouterr().out.split())
    assert "The fewest parameters that learn" in said
    assert "None of those that learn grows into 32-8-4 of 300 parameters" in said
    assert "Coarse to fine is left out: teacher has no images" in said
    (experiment,) = read_table(str(tmp_path), "experiments", "tiny").to_pylist()
    assert (experiment["parameters"], experiment["accuracy"]) == (30, 0.9)
