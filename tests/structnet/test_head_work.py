"""The trials of `heads`: rows, files, equal spending, and where they go on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.grid_cases import timeless
from helpers.head_cases import stripes

from structnet.data.dataset import Dataset
from structnet.data.packing import description, pack
from structnet.errors import WorkFailed
from structnet.heads.building import model_of, read_state, write_state
from structnet.heads.training import HeadState, judge, train
from structnet.storage.tables import read_table
from structnet.trials import head_warm_up, heads
from structnet.trials.head_warm_up import WarmUpWork, tuning_of, warm_up_name
from structnet.trials.heads import SCORING_STEPS, HeadsWork
from structnet.trials.work import Shared

OPTIONS: dict[str, Any] = {
    "model": "",
    "text": None,
    "layers": 2,
    "heads": 4,
    "token_width": 16,
    "patch_size": 4,
    "batch_size": 20,
    "learning_rate": 3e-3,
    "touched_rate": 1.0,
    "ramp": 4,
    "warm_up_steps": 40,
    "evaluation_steps": 10,
    "steps": 60,
    "stages": 2,
    "heat_steps": 2,
    "floor": 1,
}
STRATEGIES = ("none", "one_shot:gradient", "gradual:random", "tournament")
SMALL = (heads, head_warm_up)


def shared_for(data: Dataset, results: Path) -> Shared:
    options = {**OPTIONS, "results": str(results)}
    return Shared(pack(data), description(data), str(results), "test", options)


def run(work: WarmUpWork | HeadsWork) -> int:
    stretches = 1
    while not work.step()["done"]:
        stretches += 1
    return stretches


def config_of(strategy: str, level: float = 0.5) -> dict[str, Any]:
    name = f"{strategy.replace(':', '-')}_l{level:g}_s0"
    return {"name": name, "strategy": strategy, "level": 0.0 if strategy == "none" else level, "rng_seed": 0}


@pytest.fixture(scope="module")
def data() -> Dataset:
    return stripes()


@pytest.fixture(scope="module")
def place(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of a warm-up and of every kind of strategy."""
    folder = tmp_path_factory.mktemp("heads")
    shared = shared_for(data, folder)
    run(WarmUpWork({"name": warm_up_name(0), "rng_seed": 0}, shared))
    for strategy in STRATEGIES:
        run(HeadsWork(config_of(strategy), shared))
    return folder


def rows_of(place: Path, table: str) -> list[dict[str, Any]]:
    return list(read_table(str(place), table, "test").to_pylist())


def test_all_begin_with_the_same_model_and_spend_the_same(place: Path) -> None:
    rows = {row["method"]: row for row in rows_of(place, "networks")}
    assert set(rows) == {"warm_up", *STRATEGIES}
    warm = rows.pop("warm_up")
    assert warm["stabilised_at"] == warm["steps"] == 40 and warm["stabilised_by"] == "limit"
    for row in rows.values():
        assert (row["steps_all"], row["baseline_loss"]) == (60, warm["loss"])
        assert row["stabilised_at"] == 40
    assert rows["none"]["steps"] == rows["gradual:random"]["steps"] == 60
    assert rows["one_shot:gradient"]["steps"] == 60 - SCORING_STEPS
    assert rows["none"]["heads"] == 8 and rows["none"]["heads_removed"] == [0, 0]
    assert rows["none"]["pruned_loss"] is None and rows["none"]["recovery"] is None
    for name in STRATEGIES[1:]:
        row = rows[name]
        assert row["heads"] == 4 and sum(row["heads_removed"]) == 4
        assert warm["parameters"] - row["parameters"] == 4 * (12 * 16 + 12 + 4 * 16)


def test_what_a_tournament_tries_out_trains_less(place: Path) -> None:
    candidates = rows_of(place, "candidates")
    row = next(one for one in rows_of(place, "networks") if one["method"] == "tournament")
    lost = sum(2 for one in candidates if not one["won"])
    assert row["steps"] == 60 - 2 * SCORING_STEPS - lost
    for number in {one["round"] for one in candidates}:
        mine = [one for one in candidates if one["round"] == number]
        assert [one["control"] for one in mine].count(True) == 1
        assert [one["won"] for one in mine].count(True) == 1
        best = max((one for one in mine if not one["control"]), key=lambda one: one["score"])
        assert best["won"]
        assert best["gain"] == pytest.approx(best["score"] * -best["parameters_added"] / 1000)


@pytest.mark.parametrize("strategy", ["tournament", "gradual:saliency"])
def test_a_budget_that_pays_for_no_contest_still_trains(strategy: str, data: Dataset, tmp_path: Path) -> None:
    """Scored twice, for 8 steps: one is left."""
    shared = shared_for(data, tmp_path)
    run(WarmUpWork({"name": warm_up_name(0), "rng_seed": 0}, shared))
    shared.options["steps"] = 2 * SCORING_STEPS + 1
    run(HeadsWork(config_of(strategy), shared))
    row = next(row for row in rows_of(tmp_path, "networks") if row["level"])
    assert (row["steps"], row["steps_all"], row["heads"]) == (1, 9, 4)
    assert not rows_of(tmp_path, "candidates")


def test_decisions_say_what_went_and_what_it_cost(place: Path) -> None:
    decisions = rows_of(place, "decisions")
    one_shot = [row for row in decisions if row["network"].startswith("one_shot")]
    assert len(one_shot) == 8 and {row["step"] for row in one_shot} == {0}
    gone = sorted((row["value"] for row in one_shot if row["removed"]), reverse=True)
    kept = [row["value"] for row in one_shot if not row["removed"]]
    assert len(gone) == 4 and min(gone) >= np.median([*gone, *kept])
    network = next(one for one in rows_of(place, "networks") if one["method"] == "one_shot:gradient")
    for row in one_shot:
        if row["removed"]:
            assert row["loss"] == pytest.approx(network["baseline_loss"])
            assert row["loss_without"] == network["pruned_loss"]
        else:
            assert row["loss"] is None
    gradual = [row for row in decisions if row["network"].startswith("gradual")]
    assert {
        row["step"]: sum(one["removed"] for one in gradual if one["step"] == row["step"]) for row in gradual
    } == {
        0: 2,
        3: 2,
    }
    assert len(gradual) == 8 + 6
    names = {row["method"] for row in decisions if row["network"].startswith("tournament")}
    assert all(name.startswith("tournament:") for name in names)


def test_recovery_is_what_is_gone_again_of_what_pruning_added(place: Path) -> None:
    for row in rows_of(place, "networks"):
        if row["recovery"] is not None:
            added = row["pruned_loss"] - row["baseline_loss"]
            assert added > 0
            assert row["recovery"] == pytest.approx((row["pruned_loss"] - row["loss"]) / added)


def test_all_files_of_the_source_are_there(place: Path) -> None:
    folder = place / "reports" / "test" / "tournament_l0.5_s0"
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert names == {
        "parameters.json",
        "warmup/warmup_loss_data.txt",
        "warmup/segment_analysis.txt",
        "pruning/pruned_heads.json",
        "fine_tuning/losses.txt",
        "fine_tuning/evaluations.json",
        "inference/baseline_samples.txt",
        "inference/warmup_samples.txt",
        "inference/pruning_samples.txt",
        "inference/final_samples.txt",
        "metrics/experiment_metrics.json",
        "model/model.safetensors",
        "model/model.json",
    }
    assert len((folder / "warmup/warmup_loss_data.txt").read_text().split()) == 40
    said = {path.name: path.read_text() for path in (folder / "inference").iterdir()}
    assert all(text.count("taken for") == 20 for text in said.values()) and len(set(said.values())) > 2
    pruned = json.loads((folder / "pruning/pruned_heads.json").read_text())
    assert sum(map(len, pruned["kept"])) == 4
    assert json.loads((folder / "parameters.json").read_text())["stages"] == 2


def test_the_model_that_is_left_can_be_read(place: Path, data: Dataset) -> None:
    row = next(one for one in rows_of(place, "networks") if one["method"] == "tournament")
    state, _ = read_state(row["snapshot"], model_of(OPTIONS, data, 0))
    assert judge(state.model, data.test).loss == pytest.approx(row["test_loss"])


def test_a_state_goes_on_to_the_bit(data: Dataset, tmp_path: Path) -> None:
    tuning = tuning_of(OPTIONS, 0)
    state = HeadState.fresh(model_of(OPTIONS, data, 0))
    train(state, data.train, tuning, 5, lambda step: 1e-3)
    heads.apply(state, heads.Fork("x", ((0, 1), (1, 2))), (0, 0))
    heads.apply(state, heads.Fork("x", (), ((0, 1),)), (0, 0))
    train(state, data.train, tuning, 2, lambda step: 1e-3)
    write_state(str(tmp_path / "state"), state, {"said": 1})
    other, about = read_state(str(tmp_path / "state"), model_of(OPTIONS, data, 5))
    assert about == {"said": 1} and other.begun == state.begun != {} and other.touched == {0, 1}
    assert [layer.kept for layer in other.model.layers] == [[0, 1, 2, 3], [0, 1, 3]]
    losses = [train(one, data.train, tuning, 6, lambda step: 1e-3).tolist() for one in (state, other)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("strategy", ["gradual:saliency", "tournament"])
def test_who_is_stopped_comes_to_the_same_rows(
    strategy: str, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Saved after every single piece of work, and taken up by another object."""
    found = []
    for name in ("whole", "cut"):
        results = tmp_path / name
        shared = shared_for(data, results)
        if name == "cut":
            for module in SMALL:
                monkeypatch.setattr(module, "STRETCH_SECONDS", 0.0)
        for make, config in (
            (WarmUpWork, {"name": warm_up_name(0), "rng_seed": 0}),
            (HeadsWork, config_of(strategy)),
        ):
            work, number = make(config, shared), 0
            while not work.step()["done"]:
                if name == "cut":
                    folder = tmp_path / f"{make.__name__}-{number}"
                    folder.mkdir()
                    work.save(folder)
                    work, number = make(config, shared), number + 1
                    work.load(folder)
            assert number >= 3 or name == "whole"
        found.append(
            [timeless(results, table) for table in ("networks", "epochs", "decisions", "candidates")]
        )
    assert found[0] == found[1]


def test_a_network_that_diverges_is_a_failed_row(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = shared_for(data, tmp_path)
    run(WarmUpWork({"name": warm_up_name(0), "rng_seed": 0}, shared))

    def fails(*_: Any) -> None:
        raise WorkFailed("Diverged: a loss is not finite in steps 40 to 41")

    monkeypatch.setattr(heads, "train", fails)
    run(HeadsWork(config_of("one_shot:gradient"), shared))
    row = next(row for row in read_table(str(tmp_path), "networks", "test").to_pylist() if row["level"])
    assert (row["status"], row["error"]) == ("failed", "Diverged: a loss is not finite in steps 40 to 41")
    assert row["test_loss"] is None and not (tmp_path / "reports").exists()


def test_a_loss_that_is_not_finite_ends_the_trial(data: Dataset) -> None:
    state = HeadState.fresh(model_of(OPTIONS, data, 0))
    with torch.no_grad():
        state.model.module.output.bias.fill_(float("nan"))  # type: ignore[union-attr, operator]
    with pytest.raises(Exception, match="Diverged: a loss is not finite in steps 0 to 1"):
        train(state, data.train, tuning_of(OPTIONS, 0), 1, lambda step: 1e-3)
