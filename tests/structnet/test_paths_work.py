"""PathsWork: rows of a network and its epochs, and the same ones wherever it was stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.grid_cases import shared_for, timeless

from structnet.data.dataset import Dataset, Split
from structnet.data.datasets import load_dataset
from structnet.errors import UserError
from structnet.modules.evaluation import evaluate_module
from structnet.paths.files import load_plastic
from structnet.paths.registry import VARIANTS
from structnet.storage.tables import list_parts, read_table
from structnet.trials import paths as paths_work
from structnet.trials.paths import Member, PathsWork, network_of, new_scalars_of, rules_of, trials_of

torch.set_num_threads(1)

OPTIONS: dict[str, Any] = {
    "epochs": 4,
    "batch_size": 16,
    "learning_rate": 1e-3,
    "schedule": "constant",
    "shift": 0,
    "flip": False,
    "budget": None,
    "width": 1 / 32,
    "threshold": None,
    "new_scalars": "uniform",
    "until": 0.75,
}
STEPS = 4 * 4  # of 64 images
PLASTIC = Member("plastic", "path", 0, "scalar", "uniform", 4)
STATIC, RESNET = Member("static", "path", 0), Member("resnet", "path", 0)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits").reduced(64)


def trained(member: Member, digits: Dataset, folder: Path, *, cut: bool = False, **changed: Any) -> PathsWork:
    """A network to its end; with cut it is saved after every epoch, and taken up by another object."""
    shared = shared_for(digits, folder, **{**OPTIONS, **changed})
    (config,) = trials_of([member])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths_work, "STRETCH_SECONDS", 0.0)
        work = PathsWork(config, shared)
        while not (told := work.step())["done"]:
            if cut:
                place = folder / f"stretch-{told['epoch']}"
                place.mkdir(parents=True)
                work.save(place)
                work = PathsWork(config, shared)
                work.load(place)
    assert told["networks"] == 1
    return work


def decisions_of(folder: Path) -> list[dict[str, Any]]:
    return list(read_table(str(folder), "decisions", "test").to_pylist())


def test_every_epoch_and_the_network_have_rows(digits: Dataset, tmp_path: Path) -> None:
    work = trained(PLASTIC, digits, tmp_path)
    epochs = timeless(tmp_path, "epochs")
    assert [row["epoch"] for row in epochs] == [1, 2, 3, 4]
    # Three changes in the first three quarters, each after the epoch was judged, and none in the last.
    assert [row["moved"] for row in epochs] == [[1], [1], [1], [0]]
    (row,) = timeless(tmp_path, "networks")
    made = [row[name] for name in ("method", "variant", "removal", "growth", "frequency", "rng_seed")]
    assert made == ["plastic", "path", "scalar", "uniform", 4, 0]
    assert (row["status"], row["epochs"], row["steps"]) == ("finished", 4, STEPS)
    assert row["parameters"] == epochs[-1]["parameters"] == row["parameters_dense"]
    assert row["parameter_steps"] == 4 * sum(epoch["parameters"] for epoch in epochs)
    assert len({epoch["parameters"] for epoch in epochs}) > 1  # paths are of different sizes
    assert (row["accuracy"], row["loss"]) == (epochs[-1]["accuracy"], epochs[-1]["loss"])
    assert row["hidden_units"] is row["multiply_adds"] is None
    test = evaluate_module(work.network, digits.test)
    assert (row["test_accuracy"], row["test_loss"]) == (test.accuracy, test.loss)
    loaded = load_plastic(str(tmp_path / row["snapshot"]))
    assert row["parameters"] - row["parameters_backbone"] == sum(
        parameter.numel() for parameter in loaded.paths.parameters()
    )
    assert evaluate_module(loaded, digits.test).loss == test.loss


def test_every_change_has_rows(digits: Dataset, tmp_path: Path) -> None:
    trained(PLASTIC, digits, tmp_path)
    epochs = timeless(tmp_path, "epochs")
    rows = decisions_of(tmp_path)
    assert [row["step"] for row in rows if row["removed"]] == [4, 8, 12]
    gone = [row for row in rows if row["removed"]]
    came = [row for row in rows if row["regrown"]]
    assert len(rows) == 6 and len(came) == 3
    for row, epoch in zip(gone, epochs):
        assert row["method"] == "scalar" and row["value"] >= 0
        assert (row["loss"], row["accuracy"]) == (epoch["loss"], epoch["accuracy"])
        assert row["loss_without"] != row["loss"] and row["accuracy_without"] is not None
        assert (row["index"], row["layer"]) in VARIANTS["path"].places
    for row in came:
        assert row["method"] == "uniform" and row["value"] is None
        assert row["loss"] is row["loss_without"] is row["accuracy"] is row["accuracy_without"] is None
        assert row["index"] < row["layer"]


@pytest.mark.parametrize("member", [STATIC, RESNET])
def test_other_arms_decide_nothing(digits: Dataset, tmp_path: Path, member: Member) -> None:
    trained(member, digits, tmp_path)
    assert list_parts(str(tmp_path), "decisions", "test") == []
    assert [row["moved"] for row in timeless(tmp_path, "epochs")] == 4 * [[0]]
    (row,) = timeless(tmp_path, "networks")
    assert row["removal"] is row["growth"] is row["frequency"] is None
    assert row["parameter_steps"] == STEPS * row["parameters"]
    assert (row["parameters_backbone"] is None) == (row["snapshot"] is None) == (member.arm == "resnet")


def test_plastic_and_static_are_the_same_until_the_first_change(digits: Dataset, tmp_path: Path) -> None:
    rows = []
    for member in (PLASTIC, STATIC):
        trained(member, digits, tmp_path / member.arm)
        rows.append(timeless(tmp_path / member.arm, "epochs"))
    plastic, static = rows
    assert plastic[0]["loss"] == static[0]["loss"] and plastic[1]["loss"] != static[1]["loss"]


@pytest.mark.parametrize(
    ("member", "changed"),
    [
        (PLASTIC, {}),
        # What a rule has seen of the gradients, and which batch comes, in the midst of it.
        (Member("plastic", "path", 1, "gradient", "gradient", 3), {"schedule": "cosine", "shift": 1}),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                (
                    Member("plastic", "shuffle", 0, "scalar", "uniform", 1),
                    {"budget": 31, "new_scalars": "0.1"},
                ),
                (Member("plastic", "sequential", 0, "gradient", "uniform", 1), {"until": 1.0}),
                (STATIC, {"flip": True}),
                (RESNET, {}),
            )
        ),
    ],
)
def test_wherever_it_is_stopped_the_rows_are_the_same(
    digits: Dataset, tmp_path: Path, member: Member, changed: dict[str, Any]
) -> None:
    whole = trained(member, digits, tmp_path / "whole", **changed)
    cut = trained(member, digits, tmp_path / "cut", cut=True, **changed)
    for table in ("networks", "epochs"):
        assert timeless(tmp_path / "whole", table) == timeless(tmp_path / "cut", table)
    if member.arm == "plastic":
        rows = decisions_of(tmp_path / "whole")
        assert rows and rows == decisions_of(tmp_path / "cut")
    one, other = (work.network.state_dict() for work in (whole, cut))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_retry_replaces_its_rows(digits: Dataset, tmp_path: Path) -> None:
    trained(PLASTIC, digits, tmp_path)
    before = decisions_of(tmp_path), timeless(tmp_path, "epochs"), timeless(tmp_path, "networks")
    trained(PLASTIC, digits, tmp_path)
    assert (decisions_of(tmp_path), timeless(tmp_path, "epochs"), timeless(tmp_path, "networks")) == before


@pytest.mark.parametrize("member", [PLASTIC, RESNET])
def test_a_network_that_diverges_is_a_failed_row(digits: Dataset, tmp_path: Path, member: Member) -> None:
    trained(member, digits, tmp_path, learning_rate=1e30)
    (row,) = timeless(tmp_path, "networks")
    assert (row["status"], row["error"]) == ("failed", "training diverged in epoch 1")
    assert row["test_accuracy"] is None and row["method"] == member.arm
    assert list_parts(str(tmp_path), "epochs", "test") == []


def test_test_data_are_read_once_at_the_end(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []

    def watched(network: torch.nn.Module, split: Split) -> Any:
        read.append(len(split))
        return evaluate_module(network, split)

    monkeypatch.setattr(paths_work, "evaluate_module", watched)
    trained(PLASTIC, digits, tmp_path)
    assert len(digits.test) != len(digits.validation)
    assert read == 4 * [len(digits.validation)] + [len(digits.test)]


def test_the_rate_follows_its_schedule(digits: Dataset, tmp_path: Path) -> None:
    work = trained(STATIC, digits, tmp_path, schedule="linear")
    rates = [row["learning_rate"] for row in timeless(tmp_path, "epochs")]
    assert rates == pytest.approx([1e-3 * (1 - step / STEPS) for step in (3, 7, 11, 15)])
    assert work.optimizer.param_groups[0]["lr"] == rates[-1]


def test_the_residual_network_has_the_size_of_the_plastic_one(digits: Dataset) -> None:
    sizes = [
        sum(parameter.numel() for parameter in network_of(member, OPTIONS, digits).parameters())
        for member in (PLASTIC, RESNET)
    ]
    assert abs(sizes[1] - sizes[0]) <= 0.02 * sizes[0]


def test_thresholds_are_those_of_the_layout_unless_given() -> None:
    found = [
        rules_of(Member("plastic", variant, 0, "threshold", "uniform", 5), {**OPTIONS, "threshold": given})
        for variant, given in (("path", None), ("sequential", None), ("sequential", 0.2))
    ]
    assert [rules.threshold for rules in found if rules] == [0.5, 0.05, 0.2]
    assert rules_of(STATIC, OPTIONS) is None


def test_scalars_are_uniform_or_a_number() -> None:
    assert new_scalars_of("uniform") is None
    assert new_scalars_of("0.1") == 0.1
    with pytest.raises(UserError, match="new_scalars is 'some', but must be uniform or a number"):
        new_scalars_of("some")
