"""`structnet topology`: rows of every network and epoch, its control and verdicts, and where it goes on."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from io import StringIO
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.grid_cases import shared_for, timeless

from search.cli import main
from search.commands.topology import COMMAND
from search.commands.topology.results import Setting, learned, settings_of
from search.commands.topology.run import fitted_to, networks_of
from structnet.data.dataset import Dataset
from structnet.data.datasets import load_dataset
from structnet.errors import UserError
from structnet.measure.connectivity import centre_ratio, degrees, heat_map, trend_curve
from structnet.training.evaluation import evaluate
from structnet.trials import topology as topology_work
from structnet.trials.topology import Evolving, TopologyWork, blocks_of, shrink_per_evolution

torch.set_num_threads(1)

SMALL: dict[str, Any] = {
    "architecture": "input-24-12-classes",
    "weight_decays": "0,1e-2",
    "epsilons": "2",
    "rng_seeds": 2,
    "epochs": 3,
    "block": 2,
    "learning_rate": 0.05,
}
OPTIONS = {
    **{name: SMALL[name] for name in ("epochs", "learning_rate")},
    "architecture": "64-24-12-10",
    "batch_size": 32,
    "momentum": 0.5,
    "activation": "relu",
    "input_dropout": 0.0,
    "dropout": 0.0,
    "shift": 0,
    "flip": False,
    "new_values": "fan_in",
    "may_return": False,
    "chance": None,
    "dense_output": True,
}
BLOCK = [Evolving("set", 2.0, 0.3, 0.01, "coupled", 0), Evolving("blind", 2.0, 0.3, 0.0, "coupled", 0)]


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


@pytest.fixture(scope="module")
def evolved(tmp_path_factory: pytest.TempPathFactory, ray_session: None) -> tuple[Path, str]:
    """A finished experiment, and what it printed."""
    folder, said = tmp_path_factory.mktemp("topology"), StringIO()
    with redirect_stdout(said):
        COMMAND.run({**SMALL, "workers": 1, "results": str(folder), "name": "first"})
    return folder, said.getvalue()


def test_every_network_has_a_row(evolved: tuple[Path, str]) -> None:
    rows = timeless(evolved[0], "networks", "first")
    found = {(row["method"], row["weight_decay"], row["rng_seed"]) for row in rows}
    kinds = [("set", 0.0), ("set", 0.01), ("blind", 0.0)]
    assert found == {(*kind, seed) for kind in kinds for seed in (0, 1)} and len(rows) == 6
    links = 2 * (64 + 24) + 2 * (24 + 12) + 120
    for row in rows:
        assert (row["status"], row["epochs"], row["epsilon"], row["zeta"]) == ("finished", 3, 2.0, 0.3)
        assert row["parameters"] == links + 46
        assert row["parameter_steps"] == row["parameters"] * row["steps"]
    assert {row["shrink_per_evolution"] for row in rows if row["weight_decay"] == 0} == {0.0}


def test_every_epoch_says_where_connections_lie(evolved: tuple[Path, str]) -> None:
    epochs = {(row["network"], row["epoch"]): row for row in timeless(evolved[0], "epochs", "first")}
    assert len(epochs) == 6 * 3
    units = timeless_units(evolved[0])
    for key, mine in units.items():
        row = epochs[key]
        assert [unit["unit"] for unit in mine] == list(range(64))
        every, core = (
            np.array([unit[name] for unit in mine]) for name in ("connections", "core_connections")
        )
        assert every.sum() == row["connections"][0] == 176
        assert np.all(core <= every)
        heat = heat_map(every, (1, 8, 8))
        assert row["trend"] == pytest.approx(trend_curve(heat))
        assert row["trend"][-1] == 176 / 64  # of the whole image, in every epoch
        assert row["centre_ratio"] == pytest.approx(centre_ratio(heat))
        assert row["core_centre_ratio"] == pytest.approx(centre_ratio(heat_map(core, (1, 8, 8))))
        left = 176 - core.sum()
        assert 0.2 * 176 < left <= 0.3 * 176
        # Behind the last epoch nothing comes; the full link never moves.
        assert row["moved"] == ([0, 0, 0] if key[1] == 3 else [left, row["moved"][1], 0])


def test_the_control_trains_alike_and_loses_other_connections(evolved: tuple[Path, str]) -> None:
    """Until its first evolution it is the same network."""
    epochs = {(row["network"], row["epoch"]): row for row in timeless(evolved[0], "epochs", "first")}
    units = timeless_units(evolved[0])
    for seed in (0, 1):
        one, blind = ((f"{kind}_e2_z0.3_w0_coupled_s{seed}", 1) for kind in ("set", "blind"))
        assert epochs[one]["train_loss"] == epochs[blind]["train_loss"]
        assert epochs[one]["moved"] == epochs[blind]["moved"]
        cores = [[unit["core_connections"] for unit in units[key]] for key in (one, blind)]
        assert cores[0] != cores[1] and sum(cores[0]) == sum(cores[1])


def timeless_units(folder: Path) -> dict[tuple[str, int], list[dict[str, Any]]]:
    rows = topology_rows(folder)
    return {key: list(mine) for key, mine in groupby(rows, lambda row: (row["network"], row["epoch"]))}


def topology_rows(folder: Path) -> list[dict[str, Any]]:
    from structnet.storage.tables import read_table

    return list(read_table(str(folder), "connectivity", "first").to_pylist())


def test_it_prints_a_verdict(evolved: tuple[Path, str]) -> None:
    assert "6 networks 64-24-12-10 evolve on digits, 3 epochs each" in evolved[1]
    lines = [line.split() for line in evolved[1].splitlines()]
    assert sum(words[:2] == ["2", "0.3"] for words in lines) == 3
    assert sum("control" in words[2:3] for words in lines) == 1


def test_a_resume_keeps_the_blocks(evolved: tuple[Path, str]) -> None:
    """Networks of other trials would stand beside those that are there."""
    with pytest.raises(UserError, match="block was 2, is 3"):
        COMMAND.run({**SMALL, "results": str(evolved[0]), "name": "first", "resume": True, "block": 3})


def of_seeds(method: str, values: list[float]) -> Setting:
    rows = [{"rng_seed": seed, "core_centre_ratio": value} for seed, value in enumerate(values)]
    return Setting(method, 11, 0.3, 0.0, "coupled", rows)


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([1.1, 1.12, 1.11], "positive"),
        ([0.9, 0.92, 0.91], "negative"),
        ([0.9, 1.1, 1.0], "none"),
        ([1.5], "none"),
    ],
)
def test_a_verdict_is_against_the_control(values: list[float], verdict: str) -> None:
    setting = of_seeds("set", values)
    assert learned(setting, [setting, of_seeds("blind", [1.0, 1.01, 0.99])])[0] == verdict
    assert learned(setting, [setting])[0] == verdict  # against 1 where there is no control


def test_the_control_is_what_it_is_compared_with() -> None:
    setting = of_seeds("set", [1.1, 1.12, 1.11])
    assert learned(setting, [setting, of_seeds("blind", [1.1, 1.12, 1.115])])[0] == "none"


@pytest.mark.parametrize(
    ("decay", "weight_decay", "shrinks"),
    [
        ("coupled", 1e-3, 0.0093),
        ("coupled", 1e-2, 0.090),
        ("decoupled", 1e-3, 0.0047),
        ("bare", 2e-4, 0.0895),
    ],
)
def test_what_a_decay_takes_between_evolutions(decay: str, weight_decay: float, shrinks: float) -> None:
    """469 steps at a rate of .01 with momentum .5, as in the study."""
    assert shrink_per_evolution(decay, weight_decay, 0.01, 0.5, 469) == pytest.approx(shrinks, rel=0.01)


@pytest.mark.slow
def test_what_holds_by_default_can_be_denied(
    ray_session: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No control, and a last link that is as sparse as the others."""
    given = [
        f"--{name.replace('_', '-')}={value}"
        for name, value in {**SMALL, "epochs": 1, "rng_seeds": 1}.items()
    ]
    where = ["--results", str(tmp_path), "--name", "first", "--workers", "1"]
    monkeypatch.setattr(
        sys, "argv", ["structnet", "topology", *given, *where, "--no-control", "--no-dense-output"]
    )
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in (None, 0)
    assert "inf" not in capsys.readouterr().out
    rows = timeless(tmp_path, "networks", "first")
    assert [row["method"] for row in rows] == ["set", "set"]
    assert {row["parameters"] for row in rows} == {2 * (64 + 24) + 2 * (24 + 12) + 2 * (12 + 10) + 46}


def test_the_sweep_is_over_all_that_is_named(digits: Dataset) -> None:
    """Without weight decay there is one way to decay; a trial has one rng_seed and one way."""
    given = {**SMALL, "epsilons": "2,3", "zetas": "0.1,0.3", "decays": "bare,coupled", "batch_size": 32}
    options = fitted_to(COMMAND.parse(given), digits)
    networks = networks_of(options, digits)
    kinds = {(network.method, network.weight_decay, network.decay) for network in networks}
    assert kinds == {
        ("set", 0.0, "bare"),
        ("set", 0.01, "bare"),
        ("set", 0.01, "coupled"),
        ("blind", 0.0, "bare"),
    }
    assert len(networks) == len({network.key for network in networks}) == 4 * 2 * 2 * 2
    blocks = blocks_of(networks, 3)
    assert sum(len(block["networks"]) for block in blocks) == len(networks)
    for block in blocks:
        assert len({(network["rng_seed"], network["decay"]) for network in block["networks"]}) == 1
        assert 1 <= len(block["networks"]) <= 3


@pytest.mark.parametrize("changed", [{"activation": "srelu"}, {"dropout": 0.5}, {"shift": 1}, {"flip": True}])
def test_what_a_recipe_can_say_reaches_a_block(
    digits: Dataset, tmp_path: Path, changed: dict[str, Any]
) -> None:
    """Each leads to other networks, and goes on where it was cut."""
    found = [timeless(train(digits, tmp_path / "plain"), "networks", "first")]
    for name in ("whole", "cut"):
        found.append(
            timeless(train(digits, tmp_path / name, cut=name == "cut", **changed), "networks", "first")
        )
    plain, whole, cut = found
    assert whole == cut
    assert all(one["loss"] != other["loss"] for one, other in zip(plain, whole))


# --- a block


def train(digits: Dataset, folder: Path, *, cut: bool = False, **changed: Any) -> Path:
    """A block to its end, with cut saved and taken up by another object after every epoch."""
    shared, stretches = shared_for(digits, folder, "first", **{**OPTIONS, **changed}), 0
    (config,) = blocks_of(BLOCK, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(topology_work, "STRETCH_SECONDS", 0.0)
        work = TopologyWork(config, shared)
        while not work.step()["done"]:
            stretches += 1
            if cut:
                place = folder / f"stretch-{stretches}"
                place.mkdir(parents=True)
                work.save(place)
                work = TopologyWork(config, shared)
                work.load(place)
    return folder


def test_behind_the_last_step_nothing_evolves(digits: Dataset, tmp_path: Path) -> None:
    """What a block ends with is what its last rows are about."""
    (config,) = blocks_of(BLOCK, 2)
    work = TopologyWork(config, shared_for(digits, tmp_path, "first", **OPTIONS))
    while not work.step()["done"]:
        pass
    rows = {row["network"]: row for row in timeless(tmp_path, "networks", "first")}
    for network, state in zip(work.networks, work.states):
        assert evaluate(state.network, digits.validation).loss == rows[network.key]["loss"]
        heat = heat_map(degrees(state.network.topology), (1, 8, 8))
        assert centre_ratio(heat) == rows[network.key]["centre_ratio"]


@pytest.mark.parametrize("chance", [None, 0.1])
def test_a_block_that_is_cut_writes_the_same_rows(
    digits: Dataset, tmp_path: Path, chance: float | None
) -> None:
    whole, cut = (
        train(digits, tmp_path / name, cut=name == "cut", chance=chance) for name in ("whole", "cut")
    )
    for table in ("networks", "epochs"):
        assert timeless(whole, table, "first") == timeless(cut, table, "first")
    assert topology_rows(whole) == topology_rows(cut)


def test_continuous_evolution_moves_about_as_often_as_said(digits: Dataset, tmp_path: Path) -> None:
    train(digits, tmp_path, chance=0.2)
    steps = -(-len(digits.train) // 32)
    for row in timeless(tmp_path, "epochs", "first")[:2]:
        per_evolution = 0.28 * np.array(row["connections"][:2])
        assert np.all(np.array(row["moved"][:2]) > 0.05 * steps * per_evolution)
        assert np.all(np.array(row["moved"][:2]) < 0.5 * steps * per_evolution)


def test_a_network_that_diverges_leaves_the_others(digits: Dataset, tmp_path: Path) -> None:
    wild = [Evolving("set", 2.0, 0.3, 0.0, "coupled", 0), Evolving("set", 2.0, 0.3, 1e4, "coupled", 0)]
    (config,) = blocks_of(wild, 2)
    work = TopologyWork(config, shared_for(digits, tmp_path, "first", **OPTIONS))
    while not work.step()["done"]:
        pass
    rows = {row["weight_decay"]: row for row in timeless(tmp_path, "networks", "first")}
    assert rows[0.0]["status"] == "finished"
    assert (rows[1e4]["status"], rows[1e4]["error"]) == ("failed", "training diverged in epoch 1")
    assert {row["network"] for row in timeless(tmp_path, "epochs", "first")} == {wild[0].key}
    assert len(settings_of(list(rows.values()))) == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--zetas", "1.2"], "zeta is 1.2, but must be in (0, 1)"),
        (["--epsilons", "40"], "epsilon is 40, which asks for 3,520 connections from 64 to 24 units"),
        (["--weight-decays", "0,0"], "weight_decays are '0,0', but must be numbers, each there once"),
        (["--decays", "half"], "decay is 'half', but must be one of decoupled, coupled, bare"),
        (
            ["--dataset", "teacher"],
            "the data have the shape 32, but what is learned is measured where pixels lie",
        ),
        (["--weight-decays", "0,-1"], "weight_decay is -1.0, but must be at least 0"),
        (["--weight-decays", "2", "--decays", "bare"], "weight_decay is 2.0, but must be at most 1"),
        (["--decays", "bare,bare"], "decays are 'bare,bare', but must be some of decoupled, coupled, bare"),
        (["--activation", "gelu"], "activation is 'gelu', but must be one of relu, tanh, sigmoid, srelu"),
        (["--dropout", "1"], "dropout is 1.0, but must be in [0, 1)"),
        (["--momentum", "1"], "momentum is 1.0, but must be in [0, 1)"),
    ],
)
def test_what_cannot_be_is_one_line(
    options: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]
    monkeypatch.setattr(sys, "argv", ["structnet", "topology", *given, "--results", str(tmp_path), *options])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line
