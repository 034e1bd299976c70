"""The benchmarks of hunting run to their end and leave their rows; how fast anything is, they never assert."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from search.commands.bench import hunt as bench_hunt
from search.commands.bench import measuring as benchmark
from search.commands.bench import trials as bench_trials
from search.commands.bench.command import HuntOptions
from search.session.console import Console
from structnet.data import digits
from structnet.data.datasets import load_dataset
from structnet.data.packing import pack
from structnet.errors import UserError
from structnet.storage.schemas import SCHEMAS
from structnet.storage.tables import read_table
from structnet.training.batches import training_batch
from structnet.training.recipe import Recipe

TINY = {"COHORTS": (2, 4), "MAIN_COHORT": 4, "NETWORKS": 4, "TRIALS": ((1, 2), (1, 3))}


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns of a moment, few networks."""
    monkeypatch.setattr(benchmark, "TURN_SECONDS", 0.0)
    for name, value in TINY.items():
        monkeypatch.setattr(bench_hunt, name, value)


@pytest.fixture(scope="module")
def bench() -> bench_hunt.HuntBench:
    return bench_hunt.HuntBench(load_dataset("digits"), None, 1, 1.0, Console())


def complete_rows(results: Path, experiment: str) -> list[dict]:
    rows = read_table(str(results), "benchmarks", experiment).to_pylist()
    assert rows
    for row in rows:
        assert row["benchmark"] == "hunt" and row["repeats"] == 1
        assert all(row[name] is not None for name in SCHEMAS["benchmarks"].names)
        assert row["ours_seconds"] > 0 and row["theirs_seconds"] > 0 and row["ratio"] > 0
    return rows


def test_cohort(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench_hunt.run(HuntOptions(case="cohort", dataset="digits", repeats=1, results=str(tmp_path)))
    rows = complete_rows(tmp_path, "bench-hunt-cohort")
    mixed = "step of a cohort of 4 of mixed widths and depths"
    cases = {"step", "step of a cohort of 2", "step of a cohort of 4", mixed}
    assert {row["case"].split(",")[0] for row in rows} == cases
    for row in rows:
        assert row["ratio"] == pytest.approx(row["theirs_seconds"] / row["ours_seconds"])
    printed = capsys.readouterr().out
    assert "64-64-10 density 0.02" in printed and "4 rows in" in printed


def test_both_sides_train_the_same_networks(bench: bench_hunt.HuntBench) -> None:
    pairs = bench_hunt.agreement(bench)
    assert len(pairs) == bench_hunt.AGREEMENT_NETWORKS
    assert len({ours for ours, _ in pairs}) == TINY["MAIN_COHORT"], "every network has a loss of its own"
    for ours, theirs in pairs:
        assert ours == pytest.approx(theirs, rel=1e-4)


def test_both_sides_see_the_same_batches(bench: bench_hunt.HuntBench) -> None:
    for step in (0, 11):
        inputs, labels = training_batch(bench.data.train, Recipe(128), step)
        rows, same_labels = bench_trials.batch_of_rows(bench.data.train, 128, step)
        assert torch.equal(rows, inputs.t()) and torch.equal(labels, same_labels)


def test_a_plain_trial_trains_for_an_epoch(bench: bench_hunt.HuntBench) -> None:
    plain = bench_trials.MaskedTrial(bench.architecture, 0.5, 16, "plain")
    found = bench_trials.masked_epoch(0, pack(bench.data), plain)
    assert found == bench_trials.masked_epoch(0, pack(bench.data), plain)
    assert 0.2 < found["accuracy"] <= 1


@pytest.mark.slow
def test_tune(tmp_path: Path, capsys: pytest.CaptureFixture[str], ray_session: None) -> None:
    bench_hunt.run(HuntOptions(case="tune", dataset="digits", repeats=1, results=str(tmp_path)))
    rows = complete_rows(tmp_path, "bench-hunt-tune")
    fresh, reused = sorted(row["theirs"] for row in rows)
    assert "fresh" in fresh and "from 1 and 2 trials" in fresh
    assert "used again" in reused and "from 1 and 3 trials" in reused
    printed = " ".join(capsys.readouterr().out.split())
    assert "networks on both sides are 0.0000 apart" in printed


@pytest.mark.slow
def test_overhead(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    ray_session: None,
) -> None:
    monkeypatch.setitem(digits.DEFAULTS["hunt"], "epochs", 1)
    monkeypatch.setitem(digits.DEFAULTS["hunt"], "densities", "0.1,0.2")
    bench_hunt.run(HuntOptions(case="overhead", dataset="digits", minutes=1e-6, results=str(tmp_path)))
    (row,) = complete_rows(tmp_path, "bench-hunt-overhead")
    assert 0 < row["ratio"] < 1
    assert row["ratio"] == pytest.approx(row["ours_seconds"] / row["theirs_seconds"])
    assert "all but training and evaluating" in capsys.readouterr().out


def test_more_minutes_are_a_larger_hunt(bench: bench_hunt.HuntBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_hunt, "seconds_of", lambda *_: 0.01)
    few, many = (
        bench_hunt._rng_seeds_for(bench_hunt.HuntBench(bench.data, None, 1, minutes, bench.console))
        for minutes in (50.0, 150.0)
    )
    assert few > 1 and many == pytest.approx(3 * few, abs=2)


def test_mistakes_of_the_user(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="case is 'speed'"):
        bench_hunt.run(HuntOptions(case="speed", dataset="digits"))
    with pytest.raises(UserError, match="repeats is 0"):
        bench_hunt.run(HuntOptions(repeats=0, dataset="digits"))
    with pytest.raises(UserError, match="minutes is 0"):
        bench_hunt.run(HuntOptions(case="overhead", minutes=0, dataset="digits"))
    with pytest.raises(UserError, match="data_dir"):
        bench_hunt.run(HuntOptions(data_dir=str(tmp_path)))
