"""Trials of networks with feature maps: configs as JSON, rows with sides and multiply-adds, and going on to the bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.grid_cases import OPTIONS, shared_for, timeless, train_block
from helpers.map_networks import random_images, random_map_network
from helpers.table_cases import candidate_row
from helpers.training_cases import small_data
from hypothesis import given
from hypothesis import strategies as st

from structnet.data.dataset import Dataset
from structnet.data.datasets import load_dataset
from structnet.errors import UserError
from structnet.experiments.rescue import Rescue, RescuePlan
from structnet.experiments.rescue_controls import random_places, values_like_an_action
from structnet.experiments.seed_finder import candidates
from structnet.measure.diagnosis import diagnose
from structnet.measure.size import multiply_adds
from structnet.network.architecture import Architecture, sizes_of
from structnet.network.edit import connect
from structnet.storage.snapshot import load_snapshot
from structnet.storage.tables import TableWriter, read_table
from structnet.training.evaluation import evaluate
from structnet.training.recipe import Recipe
from structnet.trials import cohort as cohort_work
from structnet.trials import rivals as rivals_work
from structnet.trials.cohort import build
from structnet.trials.grid import Block, Member, blocks_of, grid
from structnet.trials.rivals import EvolveWork, Rival, trials_of

torch.set_num_threads(1)

TEXTS = ("1@8,6@8,5@4,10", "1@8,4@4,flat,10", "64,16,10")
SHAPES = [sizes_of(text) for text in TEXTS]
SIDES = ([[8, 8], [4, 4], [1, 1]], [[8, 8], [2, 2], [1, 1]], None)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


# --- grids


def test_names_and_configs_say_the_whole_architecture() -> None:
    members = tuple(grid(SHAPES, [0.3], [0], limit=10))
    assert [member.key for member in members] == [
        "1@8-6@8-5@4-10_d0.3_s0",
        "1@8-4@4-flat-10_d0.3_s0",
        "64-16-10_d0.3_s0",
    ]
    told = json.loads(json.dumps(Block("block", members).to_config()))
    assert told["members"][:2] == [[TEXTS[0], 0.3, 0, "proportional"], [TEXTS[1], 0.3, 0, "proportional"]]
    again = Block.from_config(told)
    assert again.members == members
    assert [build(member).topology.architecture for member in again.members] == SHAPES


def test_a_window_of_its_own_comes_back() -> None:
    narrow = Architecture([1, 4, 10], [(8, 8), (4, 4), (1, 1)], window=3)
    block = Block("block", (Member(narrow, 0.3, 0),))
    assert Block.from_config(json.loads(json.dumps(block.to_config()))) == block


def test_networks_of_other_inputs_are_other_blocks() -> None:
    """What sees maps and what sees pixels cannot be trained as one cohort."""
    shapes = [*SHAPES, sizes_of("64,8,8,10"), sizes_of("1@8,8,10")]
    blocks = blocks_of(grid(shapes, [0.5], [0, 1], limit=100))
    for block in blocks:
        inputs = {(member.architecture[0], member.architecture.sides[0]) for member in block.members}
        assert len(inputs) == 1
    assert sum(len(block.members) for block in blocks) == 10


def test_what_a_network_of_maps_costs_and_takes() -> None:
    """Connections at every position, and eight for every position of a unit; the workspace once in a block."""
    member = Member(sizes_of("1@8,6@8,5@4,10"), 0.5, 0)
    taps = member.architecture.window**2
    connections = taps * 6 * 64 + taps * 30 * 16 + 50
    assert member.cost == 0.5 * connections + 8 * (6 * 64 + 5 * 16 + 10)
    one = Block("one", (member,)).bytes
    two = Block("two", (member, Member(member.architecture, 0.5, 1))).bytes
    assert one < two < 1.5 * one


@pytest.mark.parametrize("stops", [(), (1,)])
def test_a_block_of_maps(
    digits: Dataset, tmp_path: Path, stops: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows, a snapshot that reproduces its row, and the same where the trial was saved and went on elsewhere."""
    monkeypatch.setattr(cohort_work, "STRETCH_SECONDS", 0.0)
    block = Block("block-0000", tuple(grid(SHAPES[:2], [0.5], [0], limit=10)))
    shared = shared_for(digits, tmp_path, epochs=2)
    train_block(block, shared, stop_after=stops, folder=tmp_path)
    rows = {row["network"]: row for row in timeless(tmp_path, "networks")}
    for member, shape in zip(block.members, SHAPES):
        row = rows[member.key]
        assert row["architecture"] == list(shape)
        assert row["sides"] == [list(side) for side in shape.sides]
        assert row["macs"] == multiply_adds(build(member).topology)
        assert row["status"] == "finished" and row["parameters"] == build(member).parameter_count
    saved = [row for row in rows.values() if row["snapshot"]]
    for row in saved:
        network = load_snapshot(str(tmp_path / row["snapshot"])).state.network
        assert evaluate(network, digits.validation).accuracy == row["accuracy"]
        assert network.statistics is not None
    if stops:
        whole = tmp_path / "whole"
        train_block(block, shared_for(digits, whole, epochs=2))
        assert timeless(whole, "networks") == timeless(tmp_path, "networks")


# --- rivals


def test_rivals_of_maps(digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each method by which connections move, saved in the middle; rows say the sides."""
    monkeypatch.setattr(rivals_work, "STRETCH_SECONDS", 0.0)
    methods = ("rigl", "set", "granet", "chts", "pruning", "static", "dense")
    plain = {
        **OPTIONS,
        "architecture": TEXTS[0],
        "epochs": 2,
        "schedule": "cosine",
        "zeta": None,
        "interval": None,
        "allocation": "proportional",
        "activation": "relu",
        "initial_values": "existing",
        "moves": "shared",
        "momentum": None,
        "weight_decay": 0.0,
        "decay": "decoupled",
    }
    shared = shared_for(digits, tmp_path, **plain)
    (config,) = trials_of([Rival(method, 150, 0) for method in methods], 2 * 16)
    work, stretches = EvolveWork(config, shared), 0
    while not work.step()["done"]:
        stretches += 1
        (tmp_path / str(stretches)).mkdir()
        work.save(tmp_path / str(stretches))
        work = EvolveWork(config, shared)
        work.load(tmp_path / str(stretches))
    rows = {row["method"]: row for row in read_table(str(tmp_path), "networks").to_pylist()}
    assert {row["status"] for row in rows.values()} == {"finished"}
    assert rows["dense"]["sides"] == [[8, 8], [8, 8], [4, 4], [4, 4], [2, 2], [1, 1]]
    for method in methods[:-1]:
        assert rows[method]["sides"] == [[8, 8], [8, 8], [4, 4], [1, 1]]
        assert rows[method]["parameters"] <= 150 < rows[method]["macs"]


# --- rescue


def rescue_plan(**changed: Any) -> RescuePlan:
    asked = {"density": 0.3, "mechanism": "patch", "budget": 30, "rng_seed": 3, "epochs": 6, "growths": 2}
    shape = {"architecture": sizes_of("1@4,4@4,3@2,3"), "recipe": Recipe(batch_size=12)}
    return RescuePlan(**(asked | shape | changed))


def test_a_rescue_of_maps_goes_on_where_it_was_saved(tmp_path: Path) -> None:
    whole, cut, data = Rescue(small_data(), rescue_plan()), Rescue(small_data(), rescue_plan()), small_data()
    while not whole.done:
        whole.step()
    while not cut.done:
        cut.step()
        cut.save(tmp_path)
        cut = Rescue(data, rescue_plan())
        cut.load(tmp_path)
    for one, other in zip(whole.results, cut.results, strict=True):
        assert one.network.topology.architecture == other.network.topology.architecture
        assert torch.equal(one.network.values, other.network.values)
        assert one.network.topology.architecture.has_maps
    added = {result.arm: result.network.parameter_count for result in whole.results}
    assert added["growth"] == added["random"] > added["static"] == added["rewire"]
    with pytest.raises(UserError):
        Rescue(data, rescue_plan(architecture=sizes_of("1@4,4@3,3@2,3"))).load(tmp_path)


@given(st.integers(0, 10**6))
def test_new_taps_start_at_zero_where_that_has_a_gradient(seed: int) -> None:
    rng = np.random.default_rng(seed)
    network = random_map_network(rng, share=0.3)
    split = random_images(rng, network.topology.architecture, 20)
    found = diagnose(network, split.images, split.labels)
    source, target = random_places(network.topology, 12, rng)
    values = values_like_an_action(network, found, source, target, rng)
    edit = connect(network, source, target, 0.0)
    again = edit.network.topology
    gradient = {}
    for pair, span in again.links.items():
        row, column = again.positions(pair)
        here = found.outer(*pair)[torch.from_numpy(row).long(), torch.from_numpy(column).long()]
        gradient |= dict(zip(zip(again.source[span].tolist(), again.target[span].tolist()), here.tolist()))
    for port, unit, value in zip(source.tolist(), target.tolist(), values.tolist()):
        is_hidden = unit < again.hidden.stop
        assert (value != 0) == (gradient[port, unit] == 0 and is_hidden)


# --- tables and seeds


def test_a_side_is_a_whole_number(tmp_path: Path) -> None:
    row: dict[str, Any] = {"trial": "", "network": "a", "architecture": [1, 3], "sides": [[14, 14.5], [1, 1]]}
    with pytest.raises(ValueError, match="'sides' of networks is"):
        TableWriter(str(tmp_path), "test").write("networks", "a", [row])


def test_candidates_of_the_same_numbers_and_other_sides_are_others() -> None:
    rows = [candidate_row((1, 4, 10), 0.5, 0, 90, 0.8) | {"sides": sides} for sides in SIDES]
    found = candidates(rows, 0.1, 0.1)
    assert {one.shape for one in found} == {"1@8-4@4-10", "1@8-4@2-10", "1-4-10"}
