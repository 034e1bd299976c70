"""The benchmarks run to their end and leave their rows; how fast anything is, they never assert."""

from __future__ import annotations

import json
from pathlib import Path
from time import sleep

import pytest
import torch

from search.commands.bench import heads as bench_heads
from search.commands.bench import kernels as bench_kernels
from search.commands.bench import links as bench_links
from search.commands.bench import measuring as benchmark
from search.commands.bench import screen as bench_screen
from search.commands.bench import sides
from search.commands.bench import taps as bench_taps
from search.commands.bench import tournament as bench_tournament
from search.commands.bench.command import (
    HeadsOptions,
    LinksOptions,
    ScreenOptions,
    TapsOptions,
    TournamentOptions,
)
from structnet import StructNet, load_dataset
from structnet.errors import UserError
from structnet.storage.tables import read_table

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns of a moment, small networks, short heats."""
    monkeypatch.setattr(benchmark, "TURN_SECONDS", 0.0)
    monkeypatch.setattr(bench_links, "NETWORKS", ([20, 12, 4], [20, 12, 8, 4]))
    monkeypatch.setattr(bench_links, "DENSITY", 0.3)
    monkeypatch.setattr(bench_kernels, "SIZES", ((20, 10), (30, 40)))
    monkeypatch.setattr(bench_taps, "SIZES", ((3, 5), (2, 4)))
    monkeypatch.setattr(bench_taps, "DENSITIES", (1.0, 0.3))
    for name, value in {
        "FORKS": 4,
        "STEPS": 4,
        "HEATS": 1,
        "ROUNDS": 1,
        "ROUND_TRIPS": 1,
        "GROWTH_ROUNDS": 1,
    }.items():
        monkeypatch.setattr(bench_tournament, name, value)


def rows_of(results: Path, experiment: str) -> list[dict]:
    return read_table(str(results), "benchmarks", experiment).to_pylist()


def test_taps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench_taps.run(TapsOptions(repeats=1, results=str(tmp_path)))
    rows = rows_of(tmp_path, "bench-taps")
    assert sorted(row["case"] for row in rows) == sorted(
        f"{size} density {density}" for size in ("3 → 3, 5,", "2 → 2, 4,") for density in ("1", "0.3")
    )
    assert all(row["benchmark"] == "taps" and row["ratio"] > 0 for row in rows)
    assert "3 → 3, 5" in capsys.readouterr().out


@pytest.mark.slow
def test_screen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench_screen.run(ScreenOptions(rounds=2, forks=4, repeats=1, results=str(tmp_path)))
    cases = [row["case"] for row in rows_of(tmp_path, "bench-screen")]
    assert len(cases) == 5 and "the report of 2 rounds × 4 forks" in cases
    assert all(row["ours_seconds"] > 0 for row in rows_of(tmp_path, "bench-screen"))
    assert "The page of the report has " in capsys.readouterr().out


def test_both_sides_of_taps_learn_the_same() -> None:
    ours, theirs = bench_taps.agreement(3, 5, 0.4)
    assert ours == pytest.approx(theirs, abs=1e-5)
    assert theirs[-1] < theirs[0]


def test_links(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench_links.run(LinksOptions(repeats=1, results=str(tmp_path)))
    printed = capsys.readouterr().out
    for case in ("step", "module"):
        rows = rows_of(tmp_path, f"bench-links-{case}")
        assert [row["case"].split()[:2] for row in rows] == [[case, "20-12-4"], [case, "20-12-8-4"]]
        for row in rows:
            assert row["benchmark"] == "links" and row["repeats"] == 1
            assert row["ratio"] == pytest.approx(row["theirs_seconds"] / row["ours_seconds"])
            assert json.loads(row["machine"])["torch"] == torch.__version__
    assert "20-12-8-4" in printed and printed.count("2 rows in") == 2


def test_heads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(bench_heads, "FORMS", {"small": bench_heads.Form((6,), 5, 2, 5, 10)})
    monkeypatch.setattr(bench_heads, "BATCH", 2)
    bench_heads.run(HeadsOptions(repeats=1, results=str(tmp_path)))
    rows = rows_of(tmp_path, "bench-heads")
    assert [row["case"] for row in rows] == ["small, 0.2", "small, 0.5"]
    assert "20% of the heads" in capsys.readouterr().out


def test_an_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_links, "NETWORKS", ([64, 12, 10],))
    monkeypatch.setattr(bench_links, "load_dataset", lambda name, **options: load_dataset("digits"))
    bench_links.run(LinksOptions(case="epoch", results=str(tmp_path)))
    (row,) = rows_of(tmp_path, "bench-links-epoch")
    assert row["case"].startswith("epoch 64-12-10") and row["ours_seconds"] > 0


def test_a_second_run_replaces_the_rows_of_the_first(tmp_path: Path) -> None:
    for _ in range(2):
        bench_links.run(LinksOptions(case="module", repeats=1, results=str(tmp_path)))
    assert len(list(tmp_path.rglob("*.parquet"))) == 1


@pytest.mark.parametrize("adam", list(sides.ADAMS))
def test_both_sides_of_a_step_train_the_same_network(adam: str) -> None:
    network = StructNet([20, 12, 8, 4], 0.3)
    batches = bench_links._batches(network, CPU)
    before = network.values.detach().clone()
    ours, theirs = sides.ModuleStep(network, adam), sides.MaskedStep(network, adam)
    for batch in batches:
        assert float(ours(batch)) == pytest.approx(float(theirs(batch)), rel=1e-4)
    for (_, link), weight in zip(network.links.items(), theirs.weights):
        mine = link.dense(ours.network.values.detach()[link.span])
        torch.testing.assert_close(weight.detach(), mine, atol=2e-4, rtol=1e-3)
    assert torch.equal(network.values.detach(), before), "the network is the start of both, and stays"


def test_compiled_steps_and_masks_agree() -> None:
    ours, theirs = bench_links.agreement(StructNet([20, 12, 8, 4], 0.3))
    assert ours == pytest.approx(theirs, rel=1e-4)


def test_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench_links.run(LinksOptions(repeats=1, results=str(tmp_path), rule=True))
    assert len(rows_of(tmp_path, "bench-kernels")) == 2 * len(bench_kernels.DENSITIES)
    printed = capsys.readouterr().out
    assert "20-10" in printed and "crossover" in printed


def test_the_crossover_lies_where_the_ratio_falls_below_one() -> None:
    high, low = [2.0] * len(bench_kernels.DENSITIES), [0.5] * len(bench_kernels.DENSITIES)
    assert bench_kernels._crossover(high) == "above 1"
    assert bench_kernels._crossover(low) == "below 0.1"
    assert bench_kernels._crossover([2.0, 2.0, 1.5, 0.5, 0.5, 0.5, 0.5]) == "0.35"


def test_pairs_are_compared_one_by_one() -> None:
    pairs = benchmark.Pairs([1.0, 2.0, 4.0], [3.0, 2.0, 8.0])
    assert pairs.ratios == [1.0, 2.0, 3.0]
    assert pairs.ratio == 2.0


def test_timing_takes_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "TURN_SECONDS", 0.02)
    calls: list[str] = []

    def slow() -> None:
        sleep(0.01)
        calls.append("slow")

    pairs = benchmark.time_pairs(lambda: calls.append("fast"), slow, 2, CPU)
    assert len(pairs.ours) == len(pairs.theirs) == 2
    turns = [name for name, before in zip(calls, [""] + calls) if name != before]
    assert turns == ["fast", "slow"] * 3


def test_mistakes_of_the_user(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="repeats is 0"):
        bench_links.run(LinksOptions(repeats=0))
    with pytest.raises(UserError, match="device is 'tpu'"):
        bench_links.run(LinksOptions(device="tpu"))
    with pytest.raises(UserError, match="--data-dir"):
        bench_tournament.run(TournamentOptions(data_dir=str(tmp_path)))
    with pytest.raises(UserError, match="workers is 0"):
        bench_tournament.run(TournamentOptions(workers=0, dataset="digits"))
    with pytest.raises(UserError, match="case is 'heat'"):
        bench_tournament.run(TournamentOptions(case="heat", dataset="digits"))
    with pytest.raises(UserError, match="repeats is 0"):
        bench_tournament.run(TournamentOptions(case="heats", repeats=0, dataset="digits"))


def test_the_time_between_heats_is_serial(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 10.0, 30.0, 40.0, 45.0, 50.0])
    monkeypatch.setattr(bench_tournament, "perf_counter", lambda: next(clock))
    timeline = bench_tournament.Timeline()
    timeline.round_done({"round": 0})
    timeline.round_started(1)
    for heat, forks in ((1, 3), (2, 2)):
        timeline.heat_started(heat, 2, forks)
        for _ in range(forks):
            timeline.fork_done()
    timeline.round_done({"round": 1})
    timeline.round_done({"round": 2})
    assert timeline.walls == [50.0]
    assert timeline.heats == [25.0]


@pytest.mark.slow
def test_tournament(tmp_path: Path, capsys: pytest.CaptureFixture[str], ray_session: None) -> None:
    bench_tournament.run(
        TournamentOptions(case="overhead", workers=2, dataset="digits", results=str(tmp_path))
    )
    rows = rows_of(tmp_path, "bench-tournament-overhead")
    assert [row["benchmark"] for row in rows] == ["tournament"] * 4
    share = next(row for row in rows if row["case"].startswith("round"))
    assert 0 < share["ratio"] < 1
    assert "100,000 parameters there and back" in capsys.readouterr().out


@pytest.mark.slow
def test_heats(tmp_path: Path, capsys: pytest.CaptureFixture[str], ray_session: None) -> None:
    bench_tournament.run(
        TournamentOptions(case="heats", workers=2, dataset="digits", repeats=1, results=str(tmp_path))
    )
    rows = rows_of(tmp_path, "bench-tournament-heats")
    assert [row["case"].rpartition(": ")[2] for row in rows] == ["rounds", "their heats"]
    for row in rows:
        assert row["ratio"] == pytest.approx(row["theirs_seconds"] / row["ours_seconds"])
    assert rows[1]["ours_seconds"] < rows[0]["ours_seconds"]
    assert "are the same, to the bit" in capsys.readouterr().out
