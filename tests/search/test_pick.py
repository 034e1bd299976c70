"""`structnet pick`: another network of a front, without training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.command_cases import assert_refused, structnet

from search.commands.pick.command import PickOptions
from search.commands.pick.run import picked
from structnet import StructNet
from structnet.errors import UserError
from structnet.storage.tables import read_table


def row(parameters: int, accuracy: float, information: float) -> dict[str, Any]:
    return {
        "parameters": parameters,
        "bytes": 5 * parameters,
        "macs": 90 * parameters,
        "accuracy": accuracy,
        "balanced_accuracy": accuracy - 0.1,
        "loss": 1 - accuracy,
        "information": information,
    }


ROWS = [row(400, 0.97, 3.0), row(200, 0.95, 2.9), row(200, 0.94, 2.8), row(100, 0.9, 2.5)]


@pytest.mark.parametrize(
    ("asked", "place"),
    [
        ({"target_accuracy": 0.94}, 1),
        ({"target_accuracy": 0.9}, 3),
        ({"target_accuracy": 0.96}, 0),
        ({"target_balanced_accuracy": 0.85}, 1),
        ({"target_loss": 0.06}, 1),
        ({"max_parameters": 399}, 1),
        ({"max_bytes": 999}, 3),
        ({"max_macs": 35_999}, 1),
        ({"target_accuracy": 0.9, "max_parameters": 200}, 3),
    ],
)
def test_the_smallest_that_holds_or_the_best_within_the_limit(asked: dict[str, Any], place: int) -> None:
    assert picked(ROWS, PickOptions(name="e", **asked)) is ROWS[place]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"target_accuracy": 0.99}, "the best of the front within the limits is 0.97, with 400 parameters"),
        ({"target_accuracy": 0.95, "max_parameters": 150}, "the best of the front within the limits is 0.9"),
        ({"max_parameters": 50}, "the smallest has 100 parameters"),
        ({"max_macs": 8_999}, r"500 bytes, 9,000 multiply-adds an image\); grow one with --max-parameters"),
        ({"target_accuracy": 0.9, "target_loss": 0.1}, "2 targets, but must be at most one"),
        ({}, "nothing is asked for"),
    ],
)
def test_what_is_not_on_the_front_is_said_with_what_is(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        picked(ROWS, PickOptions(name="e", **asked))


def test_a_front_leaves_networks_that_can_be_picked(grown: tuple[Path, str]) -> None:
    folder, said = grown
    assert "The knee" in said and "The front, smallest first:" in said
    rows = read_table(str(folder / "results"), "fronts", "first").to_pylist()
    smallest = min(rows, key=lambda row: row["parameters"])
    done = structnet("pick", "first", "--max-parameters", str(smallest["parameters"]), cwd=folder)
    assert done.code == 0, done.err
    assert f"{smallest['parameters']:,} parameters ({smallest['bytes']:,} bytes" in done.out
    snapshot = done.out.split("Snapshot: ")[1].split(".safetensors")[0]
    assert StructNet.load(str(folder / snapshot)).parameter_count == smallest["parameters"]


def test_a_front_is_drawn_beside_the_report(grown: tuple[Path, str]) -> None:
    folder, said = grown
    (path,) = (line.removeprefix("Report: ") for line in said.splitlines() if line.startswith("Report: "))
    text = (folder / path).with_name("front.svg").read_text()
    assert text.startswith("<svg") and "Parameters" in text


def test_names_that_are_not_there_are_refused(grown: tuple[Path, str]) -> None:
    folder, _ = grown
    assert_refused(structnet("pick", "second", "--max-parameters", "99", cwd=folder), "second has no front")
    wrong = structnet("pick", "first", "--max-parameters", "99", "--trial", "seed-0007", cwd=folder)
    assert_refused(wrong, "trial is 'seed-0007'")
