"""The benchmark of the control plane runs to its end, by the real path; how fast anything is, it never asserts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.grid_cases import shared_for

from search.commands.bench import control, processes
from search.commands.bench.command import ControlOptions
from search.commands.bench.simulated import (
    SimulatedCohort,
    SimulatedContender,
    SimulatedWork,
    noise,
    stretch_epochs,
)
from structnet import StructNet
from structnet.data.packing import pack
from structnet.errors import UserError, WorkFailed
from structnet.network.state import TrainState
from structnet.storage.schemas import SCHEMAS
from structnet.storage.tables import read_table
from structnet.training.recipe import Recipe
from structnet.trials.grid import Member, blocks_of, grid
from tournament.workers.pool import Job
from tournament.workers.work import RunForks, TellProcess

SMALL = {"ARCHITECTURES": "input-classes input-4-classes", "DENSITIES": "0.1,0.2", "VALIDATION_IMAGES": 300}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small grid, and forks with few numbers."""
    for name, value in SMALL.items():
        monkeypatch.setattr(control, name, value)


@pytest.mark.slow
@pytest.mark.usefixtures("small", "ray_session")
def test_quick(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    control.run(ControlOptions(quick=True, networks=40, workers=2, results=str(tmp_path)))
    hunt = read_table(str(tmp_path), "benchmarks", "bench-control-hunt").to_pylist()
    round_rows = read_table(str(tmp_path), "benchmarks", "bench-control-round").to_pylist()
    assert [row["case"].rpartition(": ")[2] for row in hunt] == ["all", "blocks", "making blocks", "the end"]
    assert len(round_rows) == len(control.DEALT)
    for row in hunt + round_rows:
        assert row["benchmark"] == "control"
        assert all(row[name] is not None for name in SCHEMAS["benchmarks"].names)
        assert row["ratio"] == pytest.approx(row["ours_seconds"] / row["theirs_seconds"])
    whole = next(row for row in hunt if row["case"].endswith(": all"))
    parts = [row for row in hunt if row is not whole]
    for seconds in ("ours_seconds", "theirs_seconds"):
        assert whole[seconds] == pytest.approx(sum(row[seconds] for row in parts))
    assert json.loads(whole["machine"])["driver_peak_bytes"] > 100 * 2**20
    jobs = [json.loads(row["machine"])["jobs"] for row in round_rows]
    # One for each fork, one for 16, one for each worker: 60 candidates, two controls and a twin.
    assert sorted(jobs) == [2, 4, 63]
    printed = " ".join(capsys.readouterr().out.split())
    assert "40 networks in" in printed and "aim: below 20 %" in printed and "aim: below 1,024" in printed
    assert "60 candidates, two controls and a twin" in printed and "s (aim: 2)" in printed


def test_a_simulated_block_writes_the_rows_and_checkpoints_of_a_block(tmp_path: Path) -> None:
    data = noise(64, 32, 32)
    members = grid([(784, 10), (784, 4, 10)], [0.1, 0.2], range(3), limit=100)
    block = max(blocks_of(members), key=lambda block: len(block.members[0].architecture))
    shared = shared_for(data, tmp_path, epochs=5, delay=0.0)
    work, reports = SimulatedWork(block.to_config(), shared), []
    while not reports or not reports[-1]["done"]:
        reports.append(work.step())
        work.save(tmp_path)
    assert len(reports) == 2, "as of a block of half a minute"
    rows = read_table(str(tmp_path), "networks", "test").to_pylist()
    assert [row["network"] for row in rows] == sorted(member.key for member in block.members)
    for row, member in zip(rows, sorted(block.members, key=lambda member: member.key)):
        assert row["status"] == "finished" and row["epochs"] == 5
        assert row["parameters"] == StructNet(member.architecture, member.density).parameter_count
        assert 0 <= row["saturated"] + row["dead"] <= row["hidden_units"]
    assert any(row["snapshot"] for row in rows)
    assert len(read_table(str(tmp_path), "epochs", "test")) == 5 * len(rows)
    again = SimulatedWork(block.to_config(), shared)
    while not again.step()["done"]:
        pass
    names = ("accuracy", "loss", "saturated")
    repeated = read_table(str(tmp_path), "networks", "test").to_pylist()
    assert [[row[name] for name in names] for row in repeated] == [
        [row[name] for name in names] for row in rows
    ]


def test_a_simulated_cohort_drops_what_it_is_told_to() -> None:
    cohort = SimulatedCohort([Member((784, hidden, 10), 0.1, 0) for hidden in (4, 5, 6)], 0.0)
    cohort.train(noise(8, 8, 8).train, Recipe(), 3, lambda step: 1.0)
    kept = cohort.keep([0, 2])
    assert (kept.step, [member.architecture[1] for member in kept.members]) == (3, [4, 6])
    assert not kept.diverged().any() and len(kept.parameters) == 2


@pytest.mark.parametrize(("epochs", "expected"), [(1, 1), (2, 1), (5, 3), (30, 15)])
def test_stretches_are_as_many_as_in_half_a_minute(epochs: int, expected: int) -> None:
    assert stretch_epochs(epochs) == expected


def test_simulated_forks_come_back_as_forks_do() -> None:
    state = TrainState.fresh(StructNet([784, 5, 10], 0.1)).to_arrays()
    contender = SimulatedContender(pack(noise(16, 20, 4)))
    reports, states = contender.do(RunForks(((0, None),) * 3, Recipe(), 10, 1e-3), [state])
    assert [len(report.measured.bits) for report in reports if report.measured] == [20] * 3
    assert all(np.array_equal(found["source"], state["source"]) for found in states if found)


@pytest.mark.usefixtures("ray_session")
@pytest.mark.slow
def test_every_job_is_noted_when_it_is_sent() -> None:
    pool = control.NotingPool(noise(16, 20, 4), 1, kind=SimulatedContender)
    try:
        assert len({outcome.report for outcome in pool.run([Job(TellProcess())] * 3)}) == 1
        assert len(pool.sent) == 3 and pool.sent == sorted(pool.sent)
        assert all(cpu > 0 for _, cpu in pool.sent)
    finally:
        pool.close()


@pytest.mark.usefixtures("small", "ray_session")
def test_a_hunt_that_fails_is_no_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    def failed(*_: object, **__: object) -> None:
        raise SystemExit(1)

    monkeypatch.setattr(control, "hunt", failed)
    with pytest.raises(WorkFailed, match="the simulated hunt failed"):
        control.run(ControlOptions(case="hunt", quick=True, networks=4))


def test_what_this_process_uses_is_read() -> None:
    before = processes.Moment.now()
    held = torch.ones(8 * 2**20)
    resident, own = processes.resident_bytes()
    assert 0 < own < resident <= processes.peak_bytes() + 2**20
    assert own > held.nbytes
    after = processes.Moment.now()
    assert after.cpu > before.cpu and after.wall > before.wall


def test_mistakes_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="case is 'rounds', but must be one of hunt, round"):
        control.run(ControlOptions(case="rounds"))
    with pytest.raises(UserError, match="delay is 0, but must be a number above 0"):
        control.run(ControlOptions(delay=0))
    with pytest.raises(UserError, match="workers is -1"):
        control.run(ControlOptions(workers=-1))
    monkeypatch.setattr(processes, "PROC", tmp_path)
    with pytest.raises(UserError, match="run it on Linux"):
        control.run(ControlOptions(quick=True))
