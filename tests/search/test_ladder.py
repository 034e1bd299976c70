"""`structnet ladder`: the rows of all rungs, and the cliff they have."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.grid_cases import timeless

from search.cli import main
from search.commands.ladder import COMMAND
from search.commands.ladder import run as ladder
from structnet.data.dataset import Dataset
from structnet.data.datasets import load_dataset
from structnet.errors import UserError
from structnet.experiments.cliff import Rung, locate_cliff
from structnet.storage.tables import read_table
from structnet.training.evaluation import chance_accuracy
from structnet.trials.grid import grid

torch.set_num_threads(1)

SMALL: dict[str, Any] = {
    "architecture": "input-12-classes",
    "densities": "0.6,0.4,0.3,0.02,0.01",
    "rng_seeds": 2,
    "epochs": 5,
    "learning_rate": 0.02,
    "batch_size": 64,
}
LINE = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]
SHARES = ("proportional", "uniform")


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


def run(results: Path, **given: Any) -> str:
    """Runs the command in this process, on the Ray of the session; what it printed."""
    said = StringIO()
    with redirect_stdout(said):
        COMMAND.run({**SMALL, "workers": 1, "results": str(results), "name": "first", **given})
    return said.getvalue()


@pytest.fixture(scope="module")
def climbed(tmp_path_factory: pytest.TempPathFactory, ray_session: None) -> tuple[Path, str]:
    """A finished ladder, and what it printed."""
    results = tmp_path_factory.mktemp("climbed")
    return results, run(results)


def rungs(results: Path, share: str) -> list[Rung]:
    rows = timeless(results, "networks", "first")
    return [
        Rung(row["density_real"], row["rng_seed"], row["accuracy"])
        for row in rows
        if ("_uniform_" in row["network"]) == (share == "uniform")
    ]


def test_every_rung_has_a_row_for_each_rng_seed_and_allocation(climbed: tuple[Path, str]) -> None:
    rows = timeless(climbed[0], "networks", "first")
    keys = [
        f"64-12-10_d{density}{share}_s{seed}"
        for density in ("0.6", "0.4", "0.3", "0.02", "0.01")
        for share in ("", "_uniform")
        for seed in (0, 1)
    ]
    assert sorted(row["network"] for row in rows) == sorted(keys)
    assert {row["status"] for row in rows} == {"finished"}
    for row in rows:
        assert row["density_real"] == round(row["density"] * 888) / 888
        assert row["snapshot"] is None and row["test_accuracy"] is None
    assert not (climbed[0] / "snapshots").exists(), "a ladder measures, it keeps nothing"


def test_the_allocations_are_as_named(climbed: tuple[Path, str]) -> None:
    """The same connections, shared otherwise, learn otherwise."""
    assert rungs(climbed[0], "proportional") != rungs(climbed[0], "uniform")
    assert [rung[:2] for rung in rungs(climbed[0], "proportional")] == [
        rung[:2] for rung in rungs(climbed[0], "uniform")
    ]


def test_the_cliff_of_each_allocation_is_printed(climbed: tuple[Path, str], digits: Dataset) -> None:
    chance = chance_accuracy(digits.validation.labels, digits.classes)
    for share in SHARES:
        cliff = locate_cliff(rungs(climbed[0], share), chance)
        assert cliff.density is not None, "these rungs reach from a plateau to chance"
        assert f"{share}: {cliff.describe()}" in climbed[1]
    assert f"Chance on validation is {chance:.4f}" in climbed[1]


def test_a_line_per_rung_has_mean_and_spread(climbed: tuple[Path, str]) -> None:
    found = rungs(climbed[0], "proportional")
    dense = [rung.accuracy for rung in found if rung.density_real == max(rung.density_real for rung in found)]
    mean, spread = sum(dense) / 2, abs(dense[0] - dense[1]) / 2**0.5
    (line,) = [line for line in climbed[1].splitlines() if f"{mean:.4f} ± {spread:.4f} (2)" in line]
    parameters = round(0.6 * 888) + 22
    assert line.split()[:2] == [f"{round(0.6 * 888) / 888:.5g}", str(parameters)]


def test_the_experiment_ends_with_its_best_plateau(climbed: tuple[Path, str], digits: Dataset) -> None:
    (experiment,) = read_table(str(climbed[0]), "experiments", "first").to_pylist()
    chance = chance_accuracy(digits.validation.labels, digits.classes)
    plateaus = [locate_cliff(rungs(climbed[0], share), chance).plateau for share in SHARES]
    assert (experiment["status"], experiment["command"]) == ("finished", "ladder")
    assert experiment["accuracy"] == pytest.approx(max(plateaus))


def test_a_finished_ladder_is_not_run_again(climbed: tuple[Path, str]) -> None:
    assert "first is finished already" in run(climbed[0], resume=True)


@pytest.mark.slow
def test_too_few_that_did_not_diverge_are_no_ladder(tmp_path: Path, ray_session: None) -> None:
    with pytest.raises(UserError, match=r"20 of 20 networks failed.*lower --learning-rate"):
        run(tmp_path, learning_rate=3e38, epochs=1)
    (experiment,) = read_table(str(tmp_path), "experiments", "first").to_pylist()
    assert experiment["status"] == "failed" and "20 of 20 networks failed" in experiment["error"]


def test_one_rng_seed_with_too_few_rungs_is_enough_to_refuse() -> None:
    members = grid([(4, 3)], [0.2, 0.4, 0.6, 0.8], [0, 1], limit=10)
    rungs = [Rung(member.density, member.rng_seed, 0.5) for member in members]
    ladder.check_rungs({"proportional": rungs}, members)
    with pytest.raises(UserError, match="1 of 8 networks failed"):
        ladder.check_rungs({"proportional": rungs[:-1]}, members)


BAD = [
    (["--densities", "0.5,0.1,0.05"], "densities are 0.5,0.1,0.05, but a ladder needs at least 4 rungs"),
    (["--densities", "0.5,0.1,0.05,0.5"], "needs at least 4 rungs"),
    (["--densities", ","], "the grid is empty, as there are no densities"),
    (["--densities", "0.5,0.1,0.05,0"], "density is 0.0, but must be in (0, 1]"),
    (["--densities", "0.5,0.1,0.05,0.01,0.5"], "64-12-10_d0.5_s0 is twice in the grid"),
    (
        ["--densities", "0.5,0.1,0.0012,0.001"],
        "0.0012 and 0.001 are the same rung, as both give input-12-classes 1",
    ),
    (["--rng-seeds", "0"], "the grid is empty, as there are no rng_seeds"),
    (["--architecture", "input-12-9"], "begin with 64 and end with 10"),
    (["--allocation", "neither"], "allocation is 'neither'"),
    (["--limit", "19"], "the grid has 20 networks"),
    (["--name", "first"], "already exists"),
    (["--name", "first", "--resume", "--allocation", "uniform"], "allocation was 'both', is 'uniform'"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[" ".join(arguments) for arguments, _ in BAD])
def test_bad_input_gets_one_line_and_exit_code_2(
    climbed: tuple[Path, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    line = ["structnet", "ladder", *LINE, "--results", str(climbed[0]), *arguments]
    monkeypatch.setattr(sys, "argv", line)
    with pytest.raises(SystemExit) as end:
        main()
    error = capsys.readouterr().err
    assert end.value.code == 2
    assert len(error.strip().splitlines()) == 1 and message in error, error
