"""`structnet evolve`: the rows of every network, what they say together, and where it goes on."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers.grid_cases import shared_for, timeless

from search.cli import main
from search.commands.evolve import COMMAND, results
from search.commands.evolve.run import fitted_to
from structnet.data.dataset import Dataset
from structnet.data.datasets import load_dataset
from structnet.experiments.error_curve import gap_between
from structnet.experiments.methods import METHODS
from structnet.network.architecture import parameters_dense
from structnet.storage.tables import read_table
from structnet.trials import rivals as rivals_work
from structnet.trials.rivals import EvolveWork, method_of, rivals_of, trials_of

torch.set_num_threads(1)

SMALL: dict[str, Any] = {
    "architecture": "input-12-classes",
    "parameters": "150,400",
    "rng_seeds": 2,
    "epochs": 3,
    "batch_size": 64,
    "learning_rate": 0.02,
}
LINE = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]
STEPS = 3 * (1078 // 64)
OPTIONS = {
    **{name: SMALL[name] for name in ("epochs", "batch_size", "learning_rate")},
    "architecture": "64-12-10",
    "l1": 5e-5,
    "zeta": 0.3,
    "interval": None,
    "allocation": "proportional",
    "activation": "relu",
    "initial_values": "existing",
    "input_dropout": 0.0,
    "dropout": 0.0,
    "shift": 0,
    "flip": False,
    "schedule": "cosine",
    "moves": "shared",
    "momentum": None,
    "weight_decay": 0.0,
    "decay": "decoupled",
}
ALL = ("rigl", "set", "granet", "cht", "chts", "pruning", "static", "dense")


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


def run(folder: Path, **given: Any) -> str:
    """Runs the command in this process, on the Ray of the session, in trials of six networks; what it printed."""
    said = StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said):
        patch.setattr(rivals_work, "LEAST_STEPS", 6 * STEPS)
        COMMAND.run({**SMALL, "workers": 1, "results": str(folder), "name": "first", **given})
    return said.getvalue()


@pytest.fixture(scope="module")
def evolved(tmp_path_factory: pytest.TempPathFactory, ray_session: None) -> tuple[Path, str]:
    """A finished experiment, and what it printed."""
    folder = tmp_path_factory.mktemp("evolved")
    return folder, run(folder)


def test_every_network_has_a_row(evolved: tuple[Path, str]) -> None:
    rows = {row["network"]: row for row in timeless(evolved[0], "networks", "first")}
    keys = [(name, size, seed) for name in ALL for size in (150, 400) for seed in (0, 1)]
    assert sorted(rows) == sorted(f"{name}_p{size}_s{seed}" for name, size, seed in keys)
    assert {row["trial"] for row in rows.values()} == {f"rivals-{number:04d}" for number in range(6)}
    for name, size, seed in keys:
        row = rows[f"{name}_p{size}_s{seed}"]
        assert (row["method"], row["max_parameters"], row["rng_seed"]) == (name, size, seed)
        assert (row["status"], row["epochs"], row["steps"]) == ("finished", 3, STEPS)
        assert row["density"] == (size - 22) / 888
        assert row["snapshot"] is None
        assert 0 < row["test_accuracy"] <= row["best_test_accuracy"] <= 1
        assert row["chosen_test_accuracy"] <= row["best_test_accuracy"]
        if name in ("pruning", "granet"):
            assert size - 12 < row["parameters"] <= size
            assert STEPS * size < row["parameter_steps"] < STEPS * parameters_dense([64, 12, 10])
        else:
            assert row["parameters"] == {("dense", 150): 160, ("dense", 400): 385}.get((name, size), size)
            assert row["parameter_steps"] == STEPS * row["parameters"]
            connections = row["parameters"] - sum(row["architecture"][1:])
            assert 2 * connections < row["multiply_adds"] / (64 * STEPS) < 3 * connections


def test_every_epoch_has_a_row(evolved: tuple[Path, str]) -> None:
    networks = {row["network"]: row for row in timeless(evolved[0], "networks", "first")}
    epochs = timeless(evolved[0], "epochs", "first")
    assert len(epochs) == 3 * len(networks)
    for row in epochs:
        network = networks[row["network"]]
        assert row["trial"] == network["trial"]
        if row["epoch"] == network["chosen_epoch"]:
            assert row["test_accuracy"] == network["chosen_test_accuracy"]
            mine = [one for one in epochs if one["network"] == row["network"]]
            assert row["accuracy"] == max(one["accuracy"] for one in mine)
            assert network["best_test_accuracy"] == max(one["test_accuracy"] for one in mine)
        if row["epoch"] == 3:
            same = ("parameters", "accuracy", "loss", "train_loss")
            assert [row[name] for name in same] == [network[name] for name in same]


def test_the_table_has_mean_and_spread_on_test(evolved: tuple[Path, str]) -> None:
    rows = timeless(evolved[0], "networks", "first")
    assert set(METHODS) == {*ALL, "set_published", "full"}
    for name in ALL:
        mine = [row for row in rows if (row["method"], row["max_parameters"]) == (name, 400)]
        accuracy = [row["test_accuracy"] for row in mine]
        cell = f"{np.mean(accuracy):.4f} ± {np.std(accuracy, ddof=1):.4f}"
        (line,) = [line for line in evolved[1].splitlines() if cell in line and name in line.split()]
        connections = np.mean([row["parameters"] - sum(row["architecture"][1:]) for row in mine])
        assert f"({connections:,.0f})" in line
        assert f"{np.mean([row['parameter_steps'] for row in mine]) / 1e6:,.2f}" in line


def test_every_method_is_compared_with_the_first(evolved: tuple[Path, str]) -> None:
    rows = timeless(evolved[0], "networks", "first")
    for name in ("set", "granet", "cht", "chts", "pruning", "static", "dense"):
        gap = gap_between(results.curves_of(rows, name), results.curves_of(rows, "rigl"))
        assert gap is not None
        (line,) = [line for line in evolved[1].splitlines() if line.startswith(f"{name} has ")]
        assert f"{100 * gap.area.mean:+.2f} (95 % interval {100 * gap.area.low:+.2f} to" in line
        assert f"{100 * gap.height.mean:+.2f}" in line


def test_the_experiment_counts_everything(evolved: tuple[Path, str]) -> None:
    rows = timeless(evolved[0], "networks", "first")
    (experiment,) = read_table(str(evolved[0]), "experiments", "first").to_pylist()
    assert (experiment["status"], experiment["command"]) == ("finished", "evolve")
    assert experiment["steps_all"] == 32 * STEPS
    assert experiment["parameter_steps_all"] == sum(row["parameter_steps"] for row in rows)


def test_a_preset_is_what_its_paper_says() -> None:
    """99 % sparse but for the output: about 77,100 connections on 28×28 pixels. What is given goes before it."""
    options = COMMAND.parse({"preset": "chts"})
    assert (options.batch_size, options.epochs, options.density) == (32, 100, 0.01)
    assert (options.learning_rate, options.momentum, options.weight_decay) == (0.025, 0.9, 5e-4)
    data: Any = SimpleNamespace(
        input_units=784, classes=10, name="images", input_shape=(1, 28, 28), train=range(54_000)
    )
    fitted = fitted_to(options, data)
    sparse = round(0.01 * (784 * 1568 + 2 * 1568 * 1568))
    assert fitted.architecture == "784-1568-1568-1568-10"
    assert int(fitted.parameters) == sparse + 15_680 + 3 * 1568 + 10
    assert sparse + 15_680 == 77_146
    assert fitted.interval == 54_000 // 32
    assert options.standardise and not COMMAND.parse({"preset": "chts", "standardise": False}).standardise
    by_units = COMMAND.parse({"preset": "chts", "epsilon": 5})
    assert (by_units.density, by_units.allocation) == (None, "proportional")
    given = COMMAND.parse({"preset": "chts", "parameters": "90000", "epochs": 3, "interval": 50})
    assert (given.epochs, given.density, fitted_to(given, data).interval) == (3, None, 50)
    assert fitted_to(given, data).parameters == "90000"


def test_the_preset_of_set_has_its_budget() -> None:
    """381,440 connections from 3072-4000-1000-4000-10 at epsilon 20, of which the output has all it can."""
    options = COMMAND.parse({"preset": "set", "dataset": "cifar10"})
    data: Any = SimpleNamespace(
        input_units=3072, classes=10, name="images", input_shape=(3, 32, 32), train=range(45_000)
    )
    fitted = fitted_to(options, data)
    assert fitted.architecture == "3072-4000-1000-4000-10"
    connections = 20 * 7072 + 20 * 5000 + 20 * 5000 + 40_000
    assert int(fitted.parameters) == connections + 9010 + 4 * 9000
    assert (fitted.interval, fitted.allocation, fitted.momentum, fitted.schedule) == (
        450,
        "proportional",
        0.9,
        "constant",
    )
    rival = rivals_of(["set_published"], [int(fitted.parameters)], [0], limit=1)[0]
    network = method_of(rival, (3072, 4000, 1000, 4000, 10), 450, fitted.model_dump()).start()
    found = [span.stop - span.start for span in network.topology.links.values()]
    assert found == [141_440, 100_000, 100_000, 40_000]
    spread = network.values.detach()[: found[0]].std()
    assert float(spread) == pytest.approx((2 / 7072) ** 0.5, rel=0.01)


def test_what_a_recipe_can_say_reaches_the_training(tmp_path: Path, digits: Dataset) -> None:
    """Each of these options leads to another network."""
    (config,) = trials_of(rivals_of(["set_published"], [400], [3], limit=1), STEPS)
    found = []
    for number, changed in enumerate(
        (
            {},
            {"activation": "srelu"},
            {"initial_values": "full"},
            {"dropout": 0.3},
            {"flip": True},
            {"momentum": 0.9},
            {"momentum": 0.9, "weight_decay": 1e-3},
            {"momentum": 0.9, "weight_decay": 1e-3, "decay": "bare"},
            {"schedule": "constant"},
            {"schedule": "linear"},
        )
    ):
        train(config, digits, tmp_path / str(number), stop_after=(2,), **changed)
        (row,) = timeless(tmp_path / str(number), "networks")
        found.append(row["loss"])
        rates = [row["learning_rate"] for row in timeless(tmp_path / str(number), "epochs")]
        assert (rates[-1] == 0.02) == (changed.get("schedule") == "constant")
    assert len(set(found)) == len(found)


def test_a_finished_experiment_is_not_run_again(evolved: tuple[Path, str]) -> None:
    assert "first is finished already" in run(evolved[0], resume=True)


def test_networks_of_one_size_are_compared_by_accuracy(evolved: tuple[Path, str]) -> None:
    rows = [row for row in timeless(evolved[0], "networks", "first") if row["max_parameters"] == 400]
    found = {row["network"]: row["test_accuracy"] for row in rows}
    leads = [100 * (found[f"static_p400_s{seed}"] - found[f"rigl_p400_s{seed}"]) for seed in (0, 1)]
    line = results.compared(rows, "static", "rigl")
    assert line.startswith(f"static against rigl: {np.mean(leads):+.2f} (95 % interval ")
    assert line.endswith("points of test accuracy, 2 rng_seeds")
    alone = results.compared([row for row in rows if row["rng_seed"] == 0], "static", "rigl")
    assert alone == f"static against rigl: {leads[0]:+.2f} points of test accuracy, 1 rng_seeds"


@pytest.mark.slow
def test_what_diverges_is_left_out(tmp_path: Path, ray_session: None) -> None:
    """A failed row that is left out of everything."""
    said = run(tmp_path, methods="static,dense", parameters="150", rng_seeds=1, learning_rate=1e38, epochs=1)
    rows = timeless(tmp_path, "networks", "first")
    assert [row["status"] for row in rows] == ["failed", "failed"]
    assert all("diverged" in row["error"] and row["test_accuracy"] is None for row in rows)
    assert "training diverged for 2 of 2 networks" in said
    assert "no rng_seed of which both ended" in said


def train(
    config: dict[str, Any], data: Dataset, folder: Path, *, stop_after: tuple[int, ...], **changed: Any
) -> list[Any]:
    """Trains one trial, an epoch a stretch; after these stretches it is saved and another object goes on. Reports."""
    shared = shared_for(data, folder, "test", **{**OPTIONS, **changed})
    trial, reports = EvolveWork(config, shared), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rivals_work, "STRETCH_SECONDS", 0.0)
        while not (reports and reports[-1]["done"]):
            reports.append(trial.step())
            if len(reports) in stop_after:
                place = folder / f"stretch-{len(reports)}"
                place.mkdir(parents=True)
                trial.save(place)
                trial = EvolveWork(config, shared)
                trial.load(place)
    return reports


def test_a_trial_goes_on_where_it_was_saved(tmp_path: Path, digits: Dataset) -> None:
    (config,) = trials_of(rivals_of(["rigl", "pruning"], [150], [3], limit=2), STEPS)
    whole = train(config, digits, tmp_path / "whole", stop_after=())
    cut = train(config, digits, tmp_path / "cut", stop_after=(1, 2, 3, 5))
    assert whole == cut
    assert len(whole) == 6
    for table in ("networks", "epochs"):
        rows = timeless(tmp_path / "whole", table)
        assert rows == timeless(tmp_path / "cut", table)
        assert rows


def test_the_networks_of_one_rng_seed_see_the_same_batches(tmp_path: Path, digits: Dataset) -> None:
    """Whoever else is in the trial, and wherever it stands in the grid."""
    (together,) = trials_of(rivals_of(["static", "dense"], [150], [3, 4], limit=4), STEPS)
    train(together, digits, tmp_path / "together", stop_after=())
    for rival in together["rivals"]:
        train({**together, "rivals": [rival]}, digits, tmp_path / "alone", stop_after=())
        (row,) = timeless(tmp_path / "alone", "networks")
        assert row in timeless(tmp_path / "together", "networks")


def test_trials_are_long_enough_and_complete() -> None:
    rivals = rivals_of(["set", "rigl"], [100, 200], range(5), limit=20)
    trials = trials_of(rivals, 1000)
    assert [len(trial["rivals"]) for trial in trials] == [4] * 5
    assert [len(trial["rivals"]) for trial in trials_of(rivals, 1500)] == [3] * 6 + [2]
    assert [len(trial["rivals"]) for trial in trials_of(rivals, 10**6)] == [1] * 20
    assert len({rival["method"] for trial in trials for rival in trial["rivals"]}) == 2


BAD = [
    (["--methods", "set,rogl"], "method is 'rogl', but must be one of rigl, set"),
    (["--methods", ","], "there are no methods"),
    (["--methods", "set,set"], "methods are set,set, but each must be there once"),
    (["--parameters", "22"], "parameters is 22, but must be 23 to 910"),
    (["--parameters", "150.5"], "parameters is 150.5, but must be a whole number"),
    (["--parameters", "many"], "parameters is 'many'"),
    (["--architecture", "input-classes"], "architecture is input-classes, but must have hidden units"),
    (["--architecture", "input-12-9"], "begin with 64 and end with 10"),
    (["--zeta", "0"], "zeta is 0, but must be in (0, 1)"),
    (["--preset", "lenet"], "preset is 'lenet', but must be one of chts"),
    (
        ["--preset", "chts", "--dataset", "teacher"],
        "preset is 'chts', which is for images, but teacher has none",
    ),
    (["--preset", "set"], "preset is 'set', which is for images of colours, but digits has none"),
    (["--epsilon", "3", "--allocation", "uniform"], "epsilon shares connections by the units of a link"),
    (["--epsilon", "99"], "epsilon is 99, which asks for 7,524 connections from 64 to 12 units"),
    (["--epsilon", "0"], "epsilon is 0.0: input should be greater than 0"),
    (["--density", "0.5"], "parameters and density all say how large networks are"),
    (["--epsilon", "3", "--density", "0.5"], "density and epsilon all say how large networks are"),
    (["--activation", "gelu"], "activation is 'gelu', but must be one of relu, tanh, sigmoid, srelu"),
    (["--initial-values", "zero"], "initial_values is 'zero', but must be one of existing, full"),
    (["--schedule", "step"], "schedule is 'step', but must be one of cosine, linear, constant"),
    (["--moves", "often"], "moves is 'often', but must be one of shared, published"),
    (["--dropout", "1"], "dropout is 1.0, but must be in [0, 1)"),
    (["--momentum", "1"], "momentum is 1.0, but must be in [0, 1)"),
    (["--decay", "bare"], "decay is 'bare', but Adam has decoupled decay only"),
    (["--flip", "--dataset", "teacher"], "flip is given, but teacher has no images to turn"),
    (["--interval", "0"], "interval is 0, but must be at least 1"),
    (["--allocation", "both"], "allocation is 'both'"),
    (["--l1", "-1"], "l1 is -1"),
    (["--limit", "19"], "there are 32 networks (8 methods × 2 sizes × 2 rng_seeds), but limit is 19"),
    (["--name", "first"], "already exists"),
    (["--name", "first", "--resume", "--zeta", "0.2"], "zeta was None, is 0.2"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[" ".join(arguments) for arguments, _ in BAD])
def test_bad_input_gets_one_line_and_exit_code_2(
    evolved: tuple[Path, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    # Sizes are told in one way only.
    told = [word for word in LINE if "--epsilon" not in arguments or not word.startswith("--parameters")]
    line = ["structnet", "evolve", *told, "--results", str(evolved[0]), *arguments]
    monkeypatch.setattr(sys, "argv", line)
    with pytest.raises(SystemExit) as end:
        main()
    error = capsys.readouterr().err
    assert end.value.code == 2
    assert len(error.strip().splitlines()) == 1 and message in error, error
