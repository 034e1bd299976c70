"""CohortWork: a block's rows are those of its networks trained alone, whatever happens on the way."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.grid_cases import OPTIONS, shared_for, timeless, train_block

from structnet import StructNet
from structnet.data.dataset import Dataset
from structnet.data.datasets import load_dataset
from structnet.measure.diagnosis import diagnose
from structnet.measure.information import label_entropy
from structnet.storage.snapshot import load_snapshot
from structnet.training.batches import batch_indices, steps_per_epoch
from structnet.training.evaluation import chance_accuracy, evaluate
from structnet.training.fit import fit
from structnet.training.schedules import cosine
from structnet.trials import cohort as cohort_work
from structnet.trials.champions import CRITERIA, best
from structnet.trials.cohort import CohortWork
from structnet.trials.grid import Block, Member, grid

torch.set_num_threads(1)

# Two hidden groups, so that a block also has networks of unlike shapes; the rarest stays near chance.
MEMBERS = tuple(
    Member((64, *hidden, 10), density, rng_seed)
    for density in (0.3, 0.02)
    for hidden in ((12, 8), (20, 10))
    for rng_seed in (0, 1)
)
BLOCK = Block("block-0000", MEMBERS)
# Enough for culling twice.
MANY = tuple(grid([(64, 12, 10), (64, 24, 10)], [0.1], range(12), limit=100))
EPOCHS, BATCH, RATE, SEED = (OPTIONS[name] for name in ("epochs", "batch_size", "learning_rate", "rng_seed"))


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


@pytest.fixture(scope="module")
def chance(digits: Dataset) -> float:
    return chance_accuracy(digits.validation.labels, digits.classes)


@pytest.fixture(autouse=True)
def one_epoch_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that there is a middle to stop in."""
    monkeypatch.setattr(cohort_work, "STRETCH_SECONDS", 0.0)


@pytest.fixture(scope="module")
def whole(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of the block, undisturbed."""
    results = tmp_path_factory.mktemp("whole")
    train_block(BLOCK, shared_for(digits, results))
    return results


@pytest.fixture(scope="module")
def rows(whole: Path) -> dict[str, dict[str, Any]]:
    return {row["network"]: row for row in timeless(whole, "networks")}


# Against training alone


@pytest.fixture(scope="module")
def alone(digits: Dataset) -> dict[str, Any]:
    """Two of the networks, each trained by itself."""
    found = {}
    for member in (MEMBERS[0], MEMBERS[6]):
        network = StructNet(
            member.architecture, member.density, rng_seed=member.rng_seed, kernel="sparse_rows"
        )
        history = fit(network, digits, epochs=EPOCHS, learning_rate=RATE, batch_size=BATCH, rng_seed=SEED)
        found[member.key] = network, history
    return found


def test_every_network_has_one_row_with_its_description(rows: dict[str, dict[str, Any]]) -> None:
    assert sorted(rows) == sorted(member.key for member in MEMBERS)
    for member in MEMBERS:
        row, shape = rows[member.key], member.architecture
        assert row["trial"] == "block-0000" and row["status"] == "finished" and row["error"] is None
        assert row["architecture"] == list(shape) and row["rng_seed"] == member.rng_seed
        assert row["density"] == member.density and row["epochs"] == EPOCHS
        possible = shape[0] * shape[1] + shape[1] * shape[2] + shape[2] * shape[3]
        assert row["density_real"] == round(member.density * possible) / possible
        assert row["parameters"] == round(member.density * possible) + sum(shape[1:])
        assert row["parameters_dense"] == possible + sum(shape[1:])
        assert row["hidden_units"] == shape[1] + shape[2]
        assert row["test_accuracy"] is None


def test_a_network_is_trained_as_if_it_were_alone(
    rows: dict[str, dict[str, Any]], alone: dict[str, Any]
) -> None:
    for key, (_, history) in alone.items():
        last = history.epochs[-1]
        assert rows[key]["accuracy"] == last["accuracy"]
        assert rows[key]["loss"] == pytest.approx(last["loss"], abs=1e-6)
        assert rows[key]["train_loss"] == pytest.approx(last["train_loss"], abs=1e-6)
        assert rows[key]["parameters"] == last["parameters"]


def test_what_is_derived_is_right(
    rows: dict[str, dict[str, Any]], alone: dict[str, Any], digits: Dataset, chance: float
) -> None:
    images = min(2048, len(digits.train))
    for key, (network, _) in alone.items():
        row = rows[key]
        where = torch.from_numpy(batch_indices(len(digits.train), images, SEED, 0))
        health = diagnose(network, digits.train.images[where], digits.train.labels[where])
        assert (row["saturated"], row["dead"]) == (len(health.saturated), len(health.dead))
        bits = label_entropy(digits.validation.labels) - row["loss"] / math.log(2)
        assert row["information"] == pytest.approx(bits)
        assert row["efficiency"] == pytest.approx((row["accuracy"] - chance) / row["parameters"])
        if row["accuracy"] < chance + 0.1:
            assert row["patchability"] is None
        else:
            unwell = (row["saturated"] + row["dead"]) / row["hidden_units"]
            assert row["patchability"] == pytest.approx(unwell * (1 - row["accuracy"]))


def test_the_epochs_table_has_a_row_for_every_epoch(
    whole: Path, rows: dict[str, dict[str, Any]], alone: dict[str, Any], digits: Dataset
) -> None:
    found = {(row["network"], row["epoch"]): row for row in timeless(whole, "epochs")}
    assert set(found) == {(key, epoch) for key in rows for epoch in range(1, EPOCHS + 1)}
    per_epoch = steps_per_epoch(len(digits.train), BATCH)
    rate = cosine(RATE, 0, EPOCHS * per_epoch)
    for key, (_, history) in alone.items():
        for before in history.epochs:
            row = found[key, before["epoch"]]
            assert row["trial"] == "block-0000" and row["parameters"] == before["parameters"]
            assert row["accuracy"] == before["accuracy"]
            assert row["loss"] == pytest.approx(before["loss"], abs=1e-6)
            assert row["train_loss"] == pytest.approx(before["train_loss"], abs=1e-6)
            assert row["learning_rate"] == pytest.approx(rate(before["epoch"] * per_epoch - 1))


# What is kept


def test_the_best_by_each_criterion_are_kept_and_no_others(rows: dict[str, dict[str, Any]]) -> None:
    kept = {key for key, row in rows.items() if row["snapshot"]}
    bests = [best(rows.values(), name) for name in CRITERIA]
    assert kept == {row["network"] for row in bests if row is not None}
    assert 0 < len(kept) < len(rows)


def test_a_kept_snapshot_has_the_recorded_numbers_exactly(
    whole: Path, rows: dict[str, dict[str, Any]], digits: Dataset
) -> None:
    for row in rows.values():
        if row["snapshot"]:
            snapshot = load_snapshot(str(whole / row["snapshot"]))
            found = evaluate(snapshot.state.network, digits.validation)
            assert found.accuracy == row["accuracy"]
            assert found.loss == row["loss"]
            assert snapshot.state.step == EPOCHS * steps_per_epoch(len(digits.train), BATCH)
            assert snapshot.fingerprint == digits.fingerprint
            assert snapshot.class_names == digits.class_names


def test_without_keep_best_nothing_is_kept_and_nothing_else_changes(
    digits: Dataset, rows: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    train_block(BLOCK, shared_for(digits, tmp_path, keep_best=False))
    assert not (tmp_path / "snapshots").exists()
    for row in timeless(tmp_path, "networks"):
        assert row["snapshot"] is None
        assert row["accuracy"] == rows[row["network"]]["accuracy"]
        assert row["loss"] == pytest.approx(rows[row["network"]]["loss"], abs=1e-6)


def test_options_of_the_block_go_before_those_of_all(digits: Dataset, tmp_path: Path) -> None:
    shared = shared_for(digits, tmp_path, epochs=99)
    work = CohortWork({**BLOCK.to_config(), "options": {"epochs": 2, "keep_best": False}}, shared)
    assert [work.step()["done"], work.step()["done"]] == [False, True]
    assert {row["epochs"] for row in timeless(tmp_path, "networks")} == {2}


# Stopped and gone on with


@pytest.mark.parametrize("stop_after", [[1], [3], [1, 2, 3, 4, 5], [EPOCHS]], ids=str)
@pytest.mark.parametrize("cull", [False, True], ids=["all", "culled"])
def test_saved_in_the_middle_it_ends_as_if_undisturbed(
    digits: Dataset, tmp_path: Path, stop_after: list[int], cull: bool
) -> None:
    noisy = {"cull": cull, "input_dropout": 0.1, "l1": 1e-4}
    for name in ("whole", "cut", "states"):
        (tmp_path / name).mkdir()
    train_block(BLOCK, shared_for(digits, tmp_path / "whole", **noisy))
    shared = shared_for(digits, tmp_path / "cut", **noisy)
    train_block(BLOCK, shared, stop_after=stop_after, folder=tmp_path / "states")
    for table in ("networks", "epochs"):
        assert timeless(tmp_path / "cut", table) == timeless(tmp_path / "whole", table)


def test_a_state_is_plain_files(digits: Dataset, tmp_path: Path) -> None:
    work = CohortWork(BLOCK.to_config(), shared_for(digits, tmp_path))
    work.step()
    (tmp_path / "state").mkdir()
    work.save(tmp_path / "state")
    names = sorted(path.name for path in (tmp_path / "state").iterdir())
    assert names == ["cohort.safetensors", "state.json"]


@pytest.mark.parametrize("rate", [RATE, 3e38], ids=["finished", "diverged"])
def test_a_block_that_is_done_stays_so(digits: Dataset, tmp_path: Path, rate: float) -> None:
    """A trial that ended, but whose end was not noted, is loaded and asked for one more stretch."""
    shared = shared_for(digits, tmp_path, learning_rate=rate)
    work = CohortWork(BLOCK.to_config(), shared)
    while not (told := work.step())["done"]:
        pass
    before = timeless(tmp_path, "networks")
    (tmp_path / "state").mkdir()
    work.save(tmp_path / "state")
    again = CohortWork(BLOCK.to_config(), shared)
    again.load(tmp_path / "state")
    assert again.step() == told
    assert timeless(tmp_path, "networks") == before


def test_a_report_says_how_far_it_is(digits: Dataset, tmp_path: Path) -> None:
    work = CohortWork(BLOCK.to_config(), shared_for(digits, tmp_path))
    reports = [work.step() for _ in range(EPOCHS)]
    assert [report["done"] for report in reports] == [False] * (EPOCHS - 1) + [True]
    assert [report["networks"] for report in reports] == [0] * (EPOCHS - 1) + [len(MEMBERS)]
    costs = [report["cost"] for report in reports]
    assert costs == pytest.approx([BLOCK.cost * epoch / EPOCHS for epoch in range(1, EPOCHS + 1)])
    assert reports[0]["best"] == dict.fromkeys(CRITERIA)
    top = max(timeless(tmp_path, "networks"), key=lambda row: row["accuracy"])
    assert reports[-1]["best"]["accuracy"] == (top["accuracy"], top["network"])


# Culled and failed networks


def test_culled_networks_have_rows_of_fewer_epochs(digits: Dataset, tmp_path: Path) -> None:
    train_block(Block("block-0000", MANY), shared_for(digits, tmp_path, epochs=10, cull=True))
    rows = {row["network"]: row for row in timeless(tmp_path, "networks")}
    assert sorted(rows) == sorted(member.key for member in MANY)
    culled = {key: row for key, row in rows.items() if row["status"] == "culled"}
    assert culled and len(culled) < len(rows)
    trained: dict[str, int] = {}
    for row in timeless(tmp_path, "epochs"):
        trained[row["network"]] = max(trained.get(row["network"], 0), row["epoch"])
    for key, row in rows.items():
        assert row["epochs"] == trained[key]
        assert row["epochs"] == 10 if key not in culled else row["epochs"] in (4, 6)
        assert row["error"] is None and row["accuracy"] is not None and row["dead"] is not None
        assert key not in culled or row["snapshot"] is None
    assert {row["epochs"] for row in culled.values()} == {4, 6}


def test_who_survives_trains_on_as_if_nobody_had_been_culled(digits: Dataset, tmp_path: Path) -> None:
    block = Block("block-0000", MANY)
    train_block(block, shared_for(digits, tmp_path / "all", epochs=10, keep_best=False))
    train_block(block, shared_for(digits, tmp_path / "culled", epochs=10, keep_best=False, cull=True))
    undisturbed = {row["network"]: row for row in timeless(tmp_path / "all", "networks")}
    finished = [row for row in timeless(tmp_path / "culled", "networks") if row["status"] == "finished"]
    assert 0 < len(finished) < len(MANY)
    for row in finished:
        assert row["accuracy"] == undisturbed[row["network"]]["accuracy"]
        assert row["loss"] == pytest.approx(undisturbed[row["network"]]["loss"], abs=1e-6)


@pytest.mark.parametrize("cull", [False, True], ids=["all", "culled"])
def test_networks_that_all_diverge_are_failed_rows(digits: Dataset, tmp_path: Path, cull: bool) -> None:
    stretches = train_block(BLOCK, shared_for(digits, tmp_path, learning_rate=3e38, cull=cull))
    rows = timeless(tmp_path, "networks")
    assert len(rows) == len(MEMBERS)
    for row in rows:
        assert row["status"] == "failed" and row["snapshot"] is None
        assert row["error"] == f"training diverged in epoch {row['epochs']}"
        assert row["accuracy"] is None and row["loss"] is None and row["patchability"] is None
    assert stretches == max(row["epochs"] for row in rows) < EPOCHS, "nothing is trained in vain"


class Poisoned:
    """StructNet, but the chosen networks cannot be built, or hold a number that is none."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, broken: set[int], poisoned: set[int]) -> None:
        self.broken, self.poisoned, self.build = broken, poisoned, cohort_work.build
        monkeypatch.setattr(cohort_work, "build", self)

    def __call__(self, member: Member) -> StructNet:
        place = MEMBERS.index(member)
        if place in self.broken:
            raise MemoryError("no room for it\nat all")
        network = self.build(member)
        if place in self.poisoned:
            network.values.data[0] = math.nan
        return network


def test_one_that_diverges_and_one_that_cannot_be_built_fail_alone(
    digits: Dataset, rows: dict[str, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Poisoned(monkeypatch, broken={1}, poisoned={3})
    train_block(BLOCK, shared_for(digits, tmp_path, keep_best=False))
    found = {row["network"]: row for row in timeless(tmp_path, "networks")}
    assert sorted(found) == sorted(rows)
    broken, poisoned = found.pop(MEMBERS[1].key), found.pop(MEMBERS[3].key)
    assert (broken["status"], broken["epochs"]) == ("failed", 0)
    assert broken["error"] == "MemoryError: no room for it"
    assert broken["parameters"] is None and broken["architecture"] == list(MEMBERS[1].architecture)
    assert (poisoned["status"], poisoned["epochs"]) == ("failed", 1)
    assert poisoned["error"] == "training diverged in epoch 1"
    for key, row in found.items():
        assert row["status"] == "finished"
        assert row["accuracy"] == rows[key]["accuracy"]
        assert row["loss"] == pytest.approx(rows[key]["loss"], abs=1e-6)


def test_a_block_of_which_nothing_can_be_built_is_done(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Poisoned(monkeypatch, broken=set(range(len(MEMBERS))), poisoned=set())
    shared = shared_for(digits, tmp_path)
    work = CohortWork(BLOCK.to_config(), shared)
    assert work.step()["done"]
    (tmp_path / "state").mkdir()
    work.save(tmp_path / "state")
    again = CohortWork(BLOCK.to_config(), shared)
    again.load(tmp_path / "state")
    assert again.step()["done"]
    rows = timeless(tmp_path, "networks")
    assert len(rows) == len(MEMBERS) and {row["status"] for row in rows} == {"failed"}
