"""Architectures with feature maps on the command line: what fits the data, and what each command makes of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.command_cases import assert_refused, structnet

from search.commands.evolve import COMMAND as EVOLVE
from search.commands.evolve.run import fitted_to as evolve_fitted
from search.commands.evolve.run import planned
from search.commands.grow import COMMAND as GROW
from search.commands.grow.fitting import fitted_to, seed_network, settings_for
from search.commands.grow.job import job_of
from search.commands.hunt import COMMAND as HUNT
from search.commands.hunt.run import members_of as hunted
from search.commands.ladder import COMMAND as LADDER
from search.commands.ladder.run import members_of as rungs
from search.commands.sweep import COMMAND as SWEEP
from search.commands.sweep.plans import scaled
from search.commands.sweep.settings import plan_for
from search.commands.train import COMMAND as TRAIN
from search.commands.train.run import start_network
from search.commands.validate import COMMAND as VALIDATE
from search.commands.validate.run import base_network
from search.session.batch_size import largest_of
from search.session.run import architecture_of
from structnet.data.dataset import Dataset, Split
from structnet.data.datasets import load_dataset
from structnet.errors import UserError
from structnet.network.architecture import Architecture, sizes_of
from structnet.storage.tables import read_table

torch.set_num_threads(1)

LINE = "1@8,6@8,5@4,classes"
SHAPE = sizes_of("1@8,6@8,5@4,10")


def data_of(*shape: int) -> Dataset:
    split = Split(torch.zeros(40, *shape), torch.arange(40) % 2)
    return Dataset("toy", split, split, split, 2, ("a", "b"), {})


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


# --- what fits


@pytest.mark.parametrize(
    ("text", "shape", "expected"),
    [
        ("1@28,8@14,2", (1, 28, 28), "1@28,8@14,2"),
        ("1@28-8@14-classes", (28, 28), "1@28,8@14,2"),
        ("input,8@14,flat,classes", (1, 28, 28), "1@28,8@14,flat,2"),
        ("input-3x3-8@14-classes", (1, 28, 28), "1@28,3x3,8@14,2"),
        ("input-8@4-classes", (3, 32, 32), "3@32,8@4,2"),
        ("input-8@4x6-5-classes", (3, 16, 12), "3@16x12,8@4x6,5,2"),
        ("784,8,2", (1, 28, 28), "784,8,2"),
        ("input-8-classes", (3, 32, 32), "3072,8,2"),
        ("input-8-classes", (9,), "9,8,2"),
    ],
)
def test_what_fits_the_data(text: str, shape: tuple[int, ...], expected: str) -> None:
    found = architecture_of(text, data_of(*shape))
    assert str(found) == expected and isinstance(found, Architecture)


@pytest.mark.parametrize(
    ("text", "shape", "message"),
    [
        (
            "3@28,8@14,2",
            (1, 28, 28),
            "has images of 1 × 28 × 28 and 2 classes: begin with 1@28 and end with 2",
        ),
        ("1@28x27,8@14,2", (1, 28, 28), "architecture is 1@28x27,8@14,2, but toy has images of 1 × 28 × 28"),
        ("784,8@14,2", (1, 28, 28), "begin with 1@28 and end with 2"),
        ("4@14,8@14,2", (1, 28, 28), "begin with 1@28 and end with 2"),
        ("1@14x56,8@14,2", (1, 28, 28), "begin with 1@28 and end with 2"),
        ("1@28,8@14,3", (1, 28, 28), "begin with 1@28 and end with 2"),
        ("1@3,2", (9,), "toy has 9 inputs that are no images and 2 classes: begin with 9 and end with 2"),
        ("input,4@2,2", (9,), "begin with 9 and end with 2"),
        ("783,8,2", (1, 28, 28), "toy has 784 inputs and 2 classes: begin with 784 and end with 2"),
        ("1@28,8@29,2", (1, 28, 28), "sides are at least 1 and may not grow from a group to the next"),
        ("1@28,8@14,2@7", (1, 28, 28), "must be plain"),
        ("1@28,8@,2", (1, 28, 28), "must be sizes such as 784,100,10, or maps@side"),
    ],
)
def test_what_does_not_fit(text: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        architecture_of(text, data_of(*shape))


def test_the_architecture_that_takes_most_memory_has_most_positions(digits: Dataset) -> None:
    options = HUNT.parse({"architectures": "input-6@8-classes input-200-classes", "dataset": "digits"})
    assert str(largest_of(options, digits)) == "1@8,6@8,10"


# --- what each command makes of it


def test_every_command_keeps_the_maps(digits: Dataset) -> None:
    given = {"dataset": "digits", "density": 0.5}
    growing = fitted_to(GROW.parse({**given, "architecture": LINE, "epochs": 4}), digits)
    assert seed_network(growing, digits, 0).topology.architecture == SHAPE
    checked = VALIDATE.parse({**given, "architecture": LINE})
    assert base_network(checked, digits)[1].topology.architecture == SHAPE
    trained = TRAIN.parse({**given, "architecture": LINE})
    assert start_network(trained, digits).topology.architecture == SHAPE
    dashes = LINE.replace(",", "-")
    hunting = HUNT.parse({"architectures": dashes, "densities": "0.5", "rng_seeds": 1})
    assert [member.architecture for member in hunted(hunting, digits)] == [SHAPE]
    ladder = LADDER.parse({"architecture": LINE, "densities": "0.2,0.4,0.6,0.8", "rng_seeds": 1})
    assert {member.architecture for member in rungs(ladder, digits, ["proportional"])} == {SHAPE}


@pytest.mark.parametrize(
    ("shape", "given", "expected"),
    [
        ((1, 28, 28), {}, "1@28,6@28,8@14,10@14,14@7,18@7,2"),
        ((1, 28, 28), {"max_parameters": 4000}, "1@28,12@28,16@14,20@14,28@7,36@7,2"),
        ((1, 28, 28), {"max_bytes": 1250}, "1@28,3@28,4@14,5@14,7@7,9@7,2"),
        ((1, 28, 28), {"dropout": 0.1}, "784,100,2"),
        ((1, 28, 28), {"scales": "14,28"}, "196,100,2"),
        ((1, 8, 8), {}, "64,100,2"),
        ((20,), {}, "20,100,2"),
    ],
)
def test_pictures_are_grown_as_maps(shape: tuple[int, ...], given: dict[str, object], expected: str) -> None:
    data = data_of(*shape)
    found = fitted_to(GROW.parse({"dataset": "mnist", "epochs": 4, **given}), data)
    assert str(seed_network(found, data, 0).topology.architecture) == expected
    assert found.density == 0.05 or "@" not in expected
    assert found.l1 == (0.0 if "@" in expected else 5e-5)


def test_evolve_counts_taps(digits: Dataset) -> None:
    """Of 9 · 6 + 9 · 30 + 50 connections half, or by the units of a link; the output has at most all."""
    own, line = 6 + 5 + 10, "1@8,3x3,6@8,5@4,classes"
    halves = evolve_fitted(EVOLVE.parse({"architecture": line, "density": 0.5}), digits)
    assert (halves.architecture, halves.parameters) == ("1@8-3x3-6@8-5@4-10", str(187 + own))
    full = EVOLVE.parse({"architecture": line, "density": 0.5, "allocation": "dense_output"})
    assert evolve_fitted(full, digits).parameters == str(50 + 162 + own)
    by_units = evolve_fitted(EVOLVE.parse({"architecture": line, "epsilon": 4}), digits)
    assert by_units.parameters == str(4 * 7 + 4 * 11 + 50 + own)
    rivals, _ = planned(halves, digits)
    assert {rival.parameters for rival in rivals} == {187 + own}


def test_a_sweep_varies_numbers_of_maps_and_whole_architectures(digits: Dataset) -> None:
    assert scaled("architecture", "1@28,8@14,16@7x6,flat,10", 2.0) == "1@28,16@14,32@7x6,flat,10"
    assert scaled("architectures", "input-6@8-classes 1@8-8-10", 0.5) == "input-3@8-classes 1@8-4-10"
    given = {"of": "grow", "vary": [f"architecture={LINE};input-4@4-classes"], "rng_seeds": 1}
    plan = plan_for(SWEEP.parse({**given, "set": ["density=0.5", "epochs=4", "max_macs=4000"]}), digits)
    assert [setting.options.architecture for setting in plan.settings] == [LINE, "input-4@4-classes"]
    assert all(setting.options.max_macs == 4000 for setting in plan.settings)


def test_a_bound_on_multiply_adds_is_a_job_of_its_own(digits: Dataset) -> None:
    given = {"dataset": "digits", "density": 0.5, "architecture": LINE, "epochs": 4, "max_macs": 4000}
    alone = fitted_to(GROW.parse(given), digits)
    assert alone.max_parameters is not None and 40 < alone.max_parameters < 250
    assert settings_for(alone, 0).max_macs == 4000
    assert job_of(alone).startswith("at most 4,000 multiply-adds an image; at most")
    both = fitted_to(GROW.parse({**given, "max_parameters": 300}), digits)
    assert (both.max_parameters, both.knee) == (300, None)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (("bootstrap", "--larger", "1@8-6@8-10"), "larger is 1@8-6@8-10 and architectures are"),
        (
            ("bootstrap", "--architectures", "1@8-6@8-10"),
            "networks of feature maps are not begun from smaller ones",
        ),
        (("topology", "--architecture", LINE), "looked at pixel by pixel: give groups without maps"),
        (
            ("grow", "--architecture", LINE, "--scales", "4,8", "--policy", "score"),
            "scales are for networks without",
        ),
        (
            ("grow", "--architecture", "1@8-6@4-10", "--max-macs", "5"),
            "max_macs is 5, but must be at least 33",
        ),
        (("hunt", "--architectures", "1@9-6@8-10"), "begin with 1@8 and end with 10"),
        (("train", "--architecture", "3@8-6@8-10"), "begin with 1@8 and end with 10"),
        (
            ("train", "--architecture", LINE, "--dropout", "0.2"),
            "dropout is 0.2, but must be 0 for 1@8,6@8,5@4,10",
        ),
        (("grow", "--architecture", LINE, "--dropout", "0.2"), "dropout is 0.2, but must be 0"),
        (("hunt", "--architectures", "input-6@8-10", "--dropout", "0.2"), "dropout is 0.2, but must be 0"),
        (("ladder", "--architecture", LINE, "--dropout", "0.2"), "dropout is 0.2, but must be 0"),
        (("evolve", "--architecture", LINE, "--dropout", "0.2"), "dropout is 0.2, but must be 0"),
        (
            ("evolve", "--architecture", LINE, "--activation", "srelu"),
            "feature maps have relu, tanh or sigmoid",
        ),
    ],
)
def test_what_cannot_be_gets_one_line(line: tuple[str, ...], message: str, tmp_path: Path) -> None:
    assert_refused(
        structnet(*line, "--density", "0.5", cwd=tmp_path) if "grow" in line else structnet(*line), message
    )
    assert not (tmp_path / "results").exists()


# --- as commands


@pytest.mark.slow
def test_commands_from_end_to_end(tmp_path: Path, ray_session: None) -> None:
    dashes = LINE.replace(",", "-")
    common = ("--workers", "1", "--rng-seeds", "1", "--name", "first")
    for line in (
        ("hunt", "--architectures", dashes, "--densities", "0.5", "--epochs", "2", *common),
        ("ladder", "--architecture", LINE, "--densities", "0.2,0.4,0.6,0.8", "--epochs", "1", *common),
        (
            "evolve",
            "--architecture",
            LINE,
            "--parameters",
            "150",
            "--methods",
            "rigl,set",
            "--epochs",
            "1",
            *common,
        ),
        (
            "sweep",
            "--of",
            "hunt",
            "--vary",
            f"architectures={dashes};input-4@4-classes",
            "--set",
            "epochs=1",
            *common,
        ),
        (
            "train",
            "--architecture",
            LINE,
            "--density",
            "0.5",
            "--epochs",
            "1",
            "--workers",
            "1",
            "--name",
            "first",
        ),
    ):
        done = structnet(*line, "--results", line[0], cwd=tmp_path)
        assert done.code == 0, done.out + done.err
    (row,) = read_table(str(tmp_path / "hunt"), "networks").to_pylist()
    assert row["sides"] == [[8, 8], [8, 8], [4, 4], [1, 1]]
    found = structnet("query", "select macs from networks", "--results", "hunt", cwd=tmp_path).out
    assert str(row["macs"]) in found
