"""What `structnet status` reads out of tables: who runs, who went silent, how far everybody is, and what failed."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console, RenderableType
from typer.testing import CliRunner

from search.cli import app
from search.commands.status import run as status
from search.commands.status.run import look, tables_of
from search.options import CommonOptions
from search.report.standing import Standing, span
from search.session import experiment as experiments
from search.session.experiment import Experiment
from structnet.errors import UserError
from structnet.storage.tables import TableWriter, read_table

NOW = datetime(2030, 1, 2, 12, tzinfo=UTC)
AGAIN = "go on with structnet grow … --name first --resume"


def experiment(trial: str = "", *, age: float = 10, **columns: Any) -> dict[str, Any]:
    """A row of `experiments` that was written so many seconds ago."""
    return {
        "trial": trial,
        "command": "grow",
        "dataset": "digits",
        "status": "running",
        "config": json.dumps({"rounds": 12, "repeats": 1}),
        "started_at": NOW - timedelta(seconds=2000),
        "heartbeat_at": NOW - timedelta(seconds=age),
        "seconds": 200.0,
        **columns,
    }


def round_row(number: int, **columns: Any) -> dict[str, Any]:
    return {
        "trial": "",
        "round": number,
        "action": "widen",
        "site": "1+4",
        "decision": "adopted",
        "architecture": [64, 20, 10],
        "parameters": 1324,
        "accuracy": 0.9,
        "gain": 0.02,
        "gain_se": 0.003,
        "balance": 1234.5,
        "steps": 100,
        "steps_all": 900,
        **columns,
    }


def fork(number: int, action: str, heat: int = 1, state: str = "finished", **columns: Any) -> dict[str, Any]:
    booleans = dict.fromkeys(("control", "affordable", "eligible", "survived", "won", "audit"), False)
    key = {"trial": "", "round": 1, "heat": heat, "candidate": number}
    return {**key, **booleans, "action": action, "status": state, **columns}


def network(name: str, state: str = "finished", **columns: Any) -> dict[str, Any]:
    return {"trial": "block-0000", "network": name, "status": state, "loss": 1.0, "parameters": 99, **columns}


def standing(rows: list[dict[str, Any]], folder: Path, name: str = "first") -> Standing:
    """Read back, as all columns have to be there."""
    TableWriter(str(folder), name).write("experiments", "run", rows)
    return Standing.of(name, read_table(str(folder), "experiments", name).to_pylist())


def text(page: RenderableType) -> list[str]:
    console = Console(file=io.StringIO(), width=500)
    console.print(page)
    assert isinstance(console.file, io.StringIO)
    return [" ".join(line.split()) for line in console.file.getvalue().splitlines()]


# How it stands


@pytest.mark.parametrize(("age", "silent"), [(0, False), (299, False), (301, True), (86_400, True)])
def test_what_runs_without_a_heartbeat_for_five_minutes_is_silent(
    age: float, silent: bool, tmp_path: Path
) -> None:
    one = standing([experiment(age=age)], tmp_path)
    assert bool(one.silence(NOW)) == silent
    assert (one.advice(NOW) == f"silent for {span(age)}: it may have died; {AGAIN}") == silent


@pytest.mark.parametrize(("state", "advice"), [("finished", ""), ("failed", AGAIN), ("interrupted", AGAIN)])
def test_what_has_ended_is_never_silent(state: str, advice: str, tmp_path: Path) -> None:
    one = standing([experiment(age=10_000, status=state)], tmp_path)
    assert one.silence(NOW) == 0 and one.advice(NOW) == advice


def test_a_trial_that_writes_keeps_its_search_alive(tmp_path: Path) -> None:
    rows = [experiment(age=1000), experiment("a", age=5), experiment("b", age=2000)]
    assert standing(rows, tmp_path).silence(NOW) == 0


@pytest.mark.parametrize(
    ("states", "repeats", "together"),
    [
        (["finished", "running"], 5, "running"),
        (["finished", "interrupted"], 5, "interrupted"),
        (["finished", "failed"], 5, "failed"),
        (["finished", "finished"], 2, "finished"),
        # Between two of them, or dead there.
        (["finished", "finished"], 3, "running"),
    ],
)
def test_repetitions_stand_as_one(states: list[str], repeats: int, together: str, tmp_path: Path) -> None:
    config = json.dumps({"repeats": repeats})
    rows = [experiment(f"seed-{n}", status=state, config=config) for n, state in enumerate(states)]
    one = standing(rows, tmp_path)
    assert (one.status, one.seconds) == (together, 400)


def test_older_tables_have_no_seconds_but_times(tmp_path: Path) -> None:
    assert standing([experiment(age=500, seconds=None)], tmp_path).seconds == 1500


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(-3, "0 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (100_000, "1 d 3 h")],
)
def test_spans_have_two_units(seconds: float, shown: str) -> None:
    assert span(seconds) == shown


# All of them


@pytest.fixture
def results(tmp_path: Path) -> str:
    """A tournament in its second round, a hunt that went silent, and a study that has ended."""
    folder = str(tmp_path / "results")
    grow = TableWriter(folder, "first")
    grow.write("experiments", "run", [experiment(accuracy=0.9, parameters=1324)])
    grow.write("rounds", "0", [round_row(0, action=None, gain=None, decision="opened")])
    grow.write("rounds", "1", [round_row(1)])
    forks = [
        fork(0, "train", control=True),
        fork(1, "widen"),
        fork(2, "widen", state="failed", error="Diverged: loss is nan"),
        fork(3, "patch", state="failed", error="Diverged: loss is nan"),
        fork(4, "patch", state="unaffordable"),
        fork(0, "train", heat=2, control=True),
        fork(1, "widen", heat=2, won=True),
    ]
    grow.write("candidates", "1", forks)
    hunt = TableWriter(folder, "hunted")
    old = {"started_at": NOW - timedelta(seconds=3000), "age": 720, "command": "hunt", "dataset": "mnist"}
    hunt.write("experiments", "run", [experiment(**old, seconds=2.0, config="{}")])
    networks = [
        network("784-10_d0.1_s0", accuracy=0.8, efficiency=0.001),
        network("784-10_d0.2_s0", accuracy=0.85, efficiency=0.0005),
        network("784-10_d0.4_s0", "failed", error="training diverged in epoch 2"),
        network("784-10_d0.3_s0", "culled", accuracy=0.99),
    ]
    hunt.write("networks", "block-0000", networks)
    study = TableWriter(folder, "studied")
    ended = {"started_at": NOW - timedelta(seconds=9000), "command": "study", "status": "finished"}
    study.write("experiments", "run", [experiment(**ended, config="{}")])
    measured = [("a", "x-0", 0), ("a", "x-0", 1), ("a", "x-1", 0), ("b", "y-0", 0)]
    rows = [
        {"arm": arm, "trial": trial, "quantity": "bits", "item": item, "value": 1.0}
        for arm, trial, item in measured
    ]
    study.write("measurements", "all", rows)
    return folder


def test_the_table_has_all_experiments_the_newest_first(results: str) -> None:
    page, goes_on = look(None, results, NOW)
    assert goes_on
    assert text(page) == [
        "experiment command dataset status progress heartbeat seconds accuracy parameters",
        "first grow digits running round 1 of 12 10 s 200 0.9000 1,324",
        "hunted hunt mnist silent 4 networks 12 min 0 s 2",
        "studied study digits finished 3 tasks 10 s 200",
        "hunted: silent for 12 min 0 s: it may have died; go on with structnet hunt … --name hunted --resume",
    ]


def test_silence_is_an_end(results: str) -> None:
    TableWriter(results, "first").write("experiments", "run", [experiment(status="finished")])
    assert look(None, results, NOW)[1] is False
    assert look("hunted", results, NOW)[1] is False


def test_repetitions_say_which_one_they_are_at(tmp_path: Path) -> None:
    writer, config = TableWriter(str(tmp_path), "first"), json.dumps({"repeats": 5, "rounds": 9})
    done = experiment("seed-0", age=900, status="finished", config=config, accuracy=0.8)
    writer.write("experiments", "seed-0", [done])
    writer.write("experiments", "seed-1", [experiment("seed-1", config=config, accuracy=0.7)])
    writer.write("rounds", "a", [round_row(9, trial="seed-0"), round_row(3, trial="seed-1")])
    lines = text(look(None, str(tmp_path), NOW)[0])
    assert lines[1] == "first grow digits running rng_seed 2 of 5, round 3 of 9 10 s 400 0.7000"
    page = text(look("first", str(tmp_path), NOW)[0])
    assert "trials: 1 finished, 1 running" in page
    assert "round 3 of seed-1: adopted widen at 1+4, gain +0.0200 ± 0.0030 bits" in page


def test_a_sweep_counts_its_trials(tmp_path: Path) -> None:
    writer = TableWriter(str(tmp_path), "swept")
    writer.write("experiments", "run", [experiment(command="sweep")])
    for name, state in (("a", "finished"), ("b", "failed"), ("c", "running")):
        writer.write("experiments", name, [experiment(name, status=state)])
    assert "swept sweep digits running 2 trials" in text(look(None, str(tmp_path), NOW)[0])[1]


def test_nothing_there_yet_is_said(tmp_path: Path) -> None:
    page, goes_on = look(None, str(tmp_path), NOW)
    assert text(page) == [f"There are no experiments in '{tmp_path}' yet."] and not goes_on


# One of them


def test_a_tournament_in_detail(results: str) -> None:
    page, goes_on = look("first", results, NOW)
    assert goes_on
    assert text(page) == [
        "first: grow on digits, running, last heartbeat 10 s ago, 3 min 20 s of work",
        "validation accuracy 0.9000, 1,324 parameters",
        "round 1: adopted widen at 1+4, gain +0.0200 ± 0.0030 bits",
        "64-20-10: accuracy 0.9000, 1,324 parameters, balance 1,234 credits, 100 steps (900 with all forks)",
        "action finished failed unaffordable won",
        "patch 1 1",
        "train 1",
        "widen 1 1 1",
        "failed: 2 candidates such as widen: Diverged: loss is nan",
    ]


def test_a_search_in_detail(results: str) -> None:
    assert text(look("hunted", results, NOW)[0]) == [
        "hunted: hunt on mnist, running, last heartbeat 12 min 0 s ago, 2 s of work",
        "silent for 12 min 0 s: it may have died; go on with structnet hunt … --name hunted --resume",
        "networks: 4 done (1 culled, 1 failed, 2 finished), 2.00 a second",
        "best so far by network value parameters",
        "accuracy 784-10_d0.2_s0 0.85 99",
        "efficiency 784-10_d0.1_s0 0.001 99",
        "failed: 1 networks such as 784-10_d0.4_s0: training diverged in epoch 2",
    ]


def test_a_study_in_detail(results: str) -> None:
    assert text(look("studied", results, NOW)[0])[-1] == "tasks done: 3 (2 a, 1 b)"


def test_why_an_experiment_failed_is_said(tmp_path: Path) -> None:
    standing([experiment(status="failed", error="WorkFailed: [red] no room")], tmp_path)
    assert text(look("first", str(tmp_path), NOW)[0])[1:] == [AGAIN, "error: WorkFailed: [red] no room"]


def test_results_may_be_a_url(results: str) -> None:
    place = "memory://test-status"
    TableWriter(place, "first").write("experiments", "run", [experiment()])
    for name in (None, "first"):
        assert text(look(name, place, NOW)[0])[-1].startswith("first")


@pytest.mark.parametrize("name", [None, "hunted"])
def test_a_damaged_part_is_named_and_the_rest_is_shown(name: str | None, results: str) -> None:
    bad = Path(TableWriter(results, "hunted").write("networks", "bad-part", [network("x")]))
    bad.write_bytes(bad.read_bytes()[:50])
    lines = text(look(name, results, NOW)[0])
    assert any("4 networks" in line or "networks: 4 done" in line for line in lines)
    assert lines[-1].startswith("skipped: ") and "bad-part.parquet" in lines[-1]


# The command


@pytest.mark.parametrize(
    ("name", "way_out"),
    [
        ("frist", "is it first\\?"),
        ("studed", "is it studied or hunted\\?"),
        ("zzz", "`structnet status` names those"),
    ],
)
def test_an_unknown_name_is_refused_with_those_near(name: str, way_out: str, results: str) -> None:
    with pytest.raises(
        UserError, match=f"experiment is '{name}', but there is none of that name .*{way_out}"
    ):
        tables_of(results, name)


@pytest.mark.parametrize("name", [[], ["first"]])
def test_a_folder_that_is_not_there_is_named(name: list[str], tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["status", *name, "--results", str(tmp_path / "resutls")])
    assert isinstance(done.exception, UserError) and "no such folder" in str(done.exception)


def test_the_command_prints_once_without_watch(results: str) -> None:
    done = CliRunner().invoke(app, ["status", "first", "--results", results])
    assert done.exit_code == 0 and done.stdout.count("first: grow on digits") == 1


def test_watching_ends_with_the_experiment(results: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its heartbeat is now; it finishes while the watcher sleeps for the second time."""
    naps: list[float] = []

    def write(state: str) -> None:
        row = experiment(status=state) | {"heartbeat_at": datetime.now(UTC)}
        TableWriter(results, "first").write("experiments", "run", [row])

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 2:
            write("finished")

    write("running")
    monkeypatch.setattr(status, "time", SimpleNamespace(sleep=nap))
    done = CliRunner().invoke(app, ["status", "first", "--results", results, "--watch", "7"])
    assert done.exit_code == 0, done.output
    assert naps == [7, 7]
    heads = [line for line in done.stdout.splitlines() if line.startswith("first: grow")]
    assert [head.split(", ")[1] for head in heads] == ["running", "running", "finished"]


def test_a_watch_of_no_seconds_is_refused(results: str) -> None:
    done = CliRunner().invoke(app, ["status", "--results", results, "--watch", "0"])
    assert isinstance(done.exception, UserError) and "watch is 0" in str(done.exception)


# Heartbeats


@pytest.fixture
def written(tmp_path: Path) -> Experiment:
    return Experiment("grow", CommonOptions(results=str(tmp_path), name="first"), {})


def last(one: Experiment) -> dict[str, Any]:
    return dict(read_table(one.options.results, "experiments", one.name).to_pylist()[0])


def test_heartbeats_come_while_the_work_is_at_something_else(
    written: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiments, "HEARTBEAT_SECONDS", 0.001)
    written.start("", 0)
    before = first = last(written)
    with written.beating(""):
        while before["heartbeat_at"] == first["heartbeat_at"]:
            before = last(written)
        written.end("", "finished", accuracy=0.5)
    after = last(written)
    assert before["status"] == "running" and before["seconds"] > first["seconds"]
    assert (after["status"], after["accuracy"]) == ("finished", 0.5)
    assert last(written) == after, "none comes any more"


def test_a_heartbeat_that_cannot_be_written_does_not_end_the_work(
    written: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiments, "HEARTBEAT_SECONDS", 0.001)
    written.start("", 0)
    tried: list[str] = []

    def refuse(*given: Any) -> str:
        tried.append(given[0])
        raise UserError("no space left")

    monkeypatch.setattr(written.writer, "write", refuse)
    with written.beating(""):
        while len(tried) < 3:
            pass


def test_seconds_count_on_over_a_resume(written: Experiment) -> None:
    written.start("", 0)
    written.end("", "interrupted", seconds=1000.0)
    again = Experiment("grow", written.options.model_copy(update={"resume": True}), {})
    again.start("", 0)
    assert 1000 <= last(again)["seconds"] < 1100
