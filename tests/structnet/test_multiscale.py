"""Growth through scales: images are pooled for whoever looks, and refining the input is a trade like any other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.training_cases import image_split

from search.commands.grow.command import GrowOptions
from search.commands.grow.fitting import seed_shape
from structnet import StructNet
from structnet.data.dataset import Dataset, Split
from structnet.data.datasets import load_dataset
from structnet.data.packing import pack
from structnet.errors import UserError
from structnet.growth.scales import check_scales, pooled_split, zoom
from structnet.network.state import TrainState
from structnet.training.recipe import Recipe
from tournament import Economy, Tournament
from tournament.coordinator import Result
from tournament.progress import Checkpoint
from tournament.settings import Settings
from tournament.winning_line import WinningLine
from tournament.workers import fork
from tournament.workers.contender import Contender
from tournament.workers.pool import InlinePool
from tournament.workers.work import Measure, Refine

SCALES = (1, 2, 4)


@pytest.fixture(scope="module")
def data() -> Dataset:
    splits = [image_split(images, seed) for seed, images in enumerate((400, 300, 50))]
    return Dataset("small", *splits, 3, ("a", "b", "c"), {})


def seed(inputs: int = 1) -> StructNet:
    return StructNet([inputs, 6, 3], 1.0, rng_seed=0)


def settings(**options: Any) -> Settings:
    """A line of 200 steps, with growth until step 120."""
    given: dict[str, Any] = {
        "epochs": 10,
        "rounds": 9,
        "round_steps": 10,
        "heat_steps": 10,
        "candidates": 2,
        "growth_share": 0.6,
        "scales": SCALES,
        "recipe": Recipe(batch_size=20, rng_seed=3),
        "economy": Economy(opening_credits=1000, fork_price=0.0),
    }
    return Settings(**{**given, **options})


def grow(data: Dataset, folder: Path | None = None, resume: bool = False, **options: Any) -> Result:
    checkpoint = Checkpoint(str(folder), data) if folder else None
    return Tournament(seed(), data, settings=settings(**options), checkpoint=checkpoint).run(resume=resume)


@pytest.fixture(scope="module")
def grown(data: Dataset) -> Result:
    return grow(data)


def refinements(result: Result) -> list[dict[str, Any]]:
    return [row for row in result.rounds if row["action"] == "refine_input"]


# --- the tournament


def test_the_input_is_refined_when_its_share_of_growth_is_over(grown: Result) -> None:
    """Shares end at steps 40 and 80; growth at 120."""
    found = refinements(grown)
    assert [row["site"] for row in found] == ["1×1 to 2×2", "2×2 to 4×4"]
    assert all(row["decision"] == "adopted" for row in found)
    for row, due in zip(found, (40, 80)):
        assert (
            grown.rounds[row["round"] - 2]["steps"]
            < due
            <= grown.rounds[row["round"] - 1]["steps"]
            == row["steps"]
        )
    inputs = [row["architecture"][0] for row in grown.rounds]
    assert inputs == sorted(inputs)
    assert set(inputs) == {1, 4, 16}


def test_the_network_ends_at_full_resolution(data: Dataset, grown: Result) -> None:
    assert grown.network.architecture[0] == 16
    own = fork.measure(TrainState.fresh(grown.network), data.test)
    assert grown.test.accuracy == own.accuracy
    assert [row["steps"] for row in grown.rounds][-1] == 200


def test_refining_costs_what_it_adds_and_changes_no_answer(grown: Result) -> None:
    for row in refinements(grown):
        before = grown.rounds[row["round"] - 1]
        assert row["credits_spent"] == row["parameters"] - before["parameters"] > 0
        assert row["steps"] == before["steps"]
        assert row["loss"] == pytest.approx(before["loss"], rel=1e-5)
        assert row["accuracy"] == before["accuracy"]


def test_the_ledger_adds_up(grown: Result) -> None:
    for before, after in zip(grown.rounds, grown.rounds[1:]):
        change = after["credits_earned"] + after["credits_refunded"] - after["credits_spent"]
        assert before["balance"] + change == pytest.approx(after["balance"])


def test_without_credits_it_waits_and_in_the_end_sells(data: Dataset) -> None:
    """Whatever is refined is pruned again at once, so the balance is never below 0 and the size does not rise."""
    result = grow(data, economy=Economy(income=0.0, opening_credits=0.0))
    (row,) = refinements(result)
    assert row["site"] == "1×1 to 4×4"
    assert row["round"] == result.rounds[-1]["round"] - 1
    assert row["parameters"] <= result.rounds[0]["parameters"]
    assert all(row["balance"] >= 0 for row in result.rounds)
    assert result.network.architecture[0] == 16


def test_refining_is_no_round_of_growth(data: Dataset) -> None:
    result = grow(data, rounds=4)
    assert len({row["round"] for row in result.candidates}) == 4
    assert "all 4 rounds" in result.progress.reason


@pytest.mark.parametrize("kept", ["first", "second", "last"])
def test_a_resume_goes_on_to_the_same_bit(data: Dataset, tmp_path: Path, grown: Result, kept: str) -> None:
    """From the snapshot before a refinement, of one, and after the last one."""
    again = grow(data, tmp_path)
    first, second = (row["round"] for row in refinements(again))
    newest = {"first": first - 1, "second": second, "last": again.rounds[-2]["round"]}[kept]
    for path in tmp_path.iterdir():
        if int(path.name[6:10]) > newest or "-step-" in path.name:
            path.unlink()
    resumed = grow(data, tmp_path, resume=True)
    assert torch.equal(resumed.network.values, grown.network.values)
    timeless = [{**row, "seconds": 0, "snapshot": ""} for row in resumed.rounds]
    assert timeless == [{**row, "seconds": 0, "snapshot": ""} for row in grown.rounds[newest + 1 :]]


def test_the_economy_is_that_of_the_whole_architecture(data: Dataset) -> None:
    lines = [WinningLine(seed(inputs), data, settings(), InlinePool(data)) for inputs in (1, 16)]
    assert [line.ledger.parameters_dense for line in lines] == [6 * 16 + 6 * 3 + 9] * 2


# --- the worker


def test_a_worker_pools_once_and_shifts_by_as_much(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Contender(pack(data))
    split = worker.split("train", (4, 6, 3))
    assert split.images.shape == (400, 1, 2, 2)
    assert torch.equal(split.images, pooled_split(data.train, 2).images)
    assert worker.split("train", [4, 3]) is split
    assert worker.split("train", (16, 3)) is worker.splits["train"]
    recipe = Recipe(shift=2)
    assert worker.recipe(recipe, (4, 3)) == replace(recipe, shift=1)
    assert worker.recipe(recipe, (1, 3)) == replace(recipe, shift=0)
    assert worker.recipe(recipe, (16, 3)) == recipe


def test_refining_prunes_down_to_what_is_allowed(data: Dataset) -> None:
    worker, coarse = Contender(pack(data)), TrainState.fresh(seed(4)).to_arrays()
    measured, (arrays,) = worker.do(Refine(2, 10**6), [coarse])
    assert len(arrays["source"]) == 4 * 24 + 18
    before, _ = worker.do(Measure("validation"), [coarse])
    np.testing.assert_allclose(measured.bits, before.bits, rtol=1e-4, atol=1e-5)
    _, (arrays,) = worker.do(Refine(2, 60), [coarse])
    assert len(arrays["values"]) <= 60
    assert arrays["architecture"][0] == 16


# --- what cannot be


@pytest.mark.parametrize(
    ("sides", "shape", "rule"),
    [
        ((7, 14), (1, 28, 28), "end in 28"),
        ((), (1, 28, 28), "end in 28"),
        ((0, 28), (1, 28, 28), "at least 1"),
        ((14, 7, 28), (1, 28, 28), "must rise"),
        ((28, 28), (1, 28, 28), "must rise"),
        ((4, 14, 28), (1, 28, 28), "divide the next"),
        ((5, 28), (1, 28, 28), "divide the next"),
        ((7, 28), (1, 28, 14), "28×14 images"),
        ((16, 32), (32,), "plain columns"),
    ],
    ids=str,
)
def test_scales_that_cannot_be_are_refused(sides: tuple[int, ...], shape: tuple[int, ...], rule: str) -> None:
    with pytest.raises(UserError, match=rule) as raised:
        check_scales(sides, shape)
    assert "\n" not in str(raised.value)


def test_scales_that_can_be() -> None:
    check_scales((7, 14, 28), (1, 28, 28))
    check_scales((8, 32), (3, 32, 32))
    check_scales((28,), (1, 28, 28))


def test_zoom_follows_from_the_inputs() -> None:
    assert [zoom((1, 28, 28), inputs) for inputs in (784, 196, 49)] == [1, 2, 4]
    assert zoom((3, 32, 32), 3 * 64) == 4
    assert zoom((32,), 32) == 1
    for shape, inputs in (((32,), 8), ((1, 28, 28), 50), ((1, 28, 28), 1000), ((1, 4, 4), 32)):
        with pytest.raises(UserError, match=f"network of {inputs} inputs"):
            zoom(shape, inputs)


def test_a_seed_that_does_not_see_the_coarsest_images_is_refused(data: Dataset) -> None:
    with pytest.raises(UserError, match="the seed has 16 inputs"):
        Tournament(seed(16), data, settings=settings())
    columns = Split(torch.zeros(9, 16), torch.zeros(9, dtype=torch.int64))
    plain = Dataset("plain", columns, columns, columns, 3, ("a", "b", "c"), {})
    with pytest.raises(UserError, match="plain columns"):
        Tournament(seed(), plain, settings=settings())


def test_the_command_takes_the_architecture_of_full_resolution() -> None:
    digits = load_dataset("digits")

    def shape(scales: str | None) -> tuple[int, ...]:
        return seed_shape(GrowOptions(architecture="64,20,10", epochs=4, scales=scales), digits)

    assert shape("2,4,8") == (4, 20, 10)
    assert shape(None) == (64, 20, 10)
    for wrong in ("2,4", "4.5,8", "small", "3,8"):
        with pytest.raises(UserError, match="scales"):
            shape(wrong)
