"""`structnet hunt`: every network has its row, the champions are kept trained, mistakes are told in one line."""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.grid_cases import shared_for, timeless, train_block
from helpers.process_cases import process

from search.cli import main
from search.commands.hunt import COMMAND
from search.commands.hunt import run as hunt
from search.commands.hunt.command import HuntOptions
from search.commands.hunt.run import judge_champions, members_of
from search.commands.query.run import print_query
from search.grid.train_grid import fitted
from search.grid.trials import trial_rows
from search.session.experiment import Experiment
from structnet.data.dataset import Dataset
from structnet.data.datasets import load_dataset
from structnet.storage.snapshot import load_snapshot
from structnet.storage.tables import TableWriter, list_parts, read_table
from structnet.training.batches import steps_per_epoch
from structnet.training.evaluation import chance_accuracy, evaluate
from structnet.trials.champions import CRITERIA, MARGIN, champions
from structnet.trials.grid import blocks_of

torch.set_num_threads(1)

SMALL: dict[str, Any] = {
    "architectures": "input-classes input-8-classes input-12-classes",
    "densities": "0.1,0.3",
    "rng_seeds": 2,
    "epochs": 5,
    "learning_rate": 0.02,
    "batch_size": 64,
}
NETWORKS = 3 * 2 * 2
LINE = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


def run(results: Path, **given: Any) -> str:
    """Runs the command in this process, on the Ray of the session; what it printed."""
    said = StringIO()
    with redirect_stdout(said):
        COMMAND.run({**SMALL, "results": str(results), "name": "first", **given})
    return said.getvalue()


@pytest.fixture(scope="module")
def hunted(tmp_path_factory: pytest.TempPathFactory, ray_session: None) -> tuple[Path, str]:
    """A finished hunt by two workers, and what it printed."""
    results = tmp_path_factory.mktemp("hunted")
    return results, run(results)


@pytest.fixture
def copied(hunted: tuple[Path, str], tmp_path: Path) -> Path:
    """The finished hunt once more, to be damaged."""
    return Path(shutil.copytree(hunted[0], tmp_path / "copied"))


@pytest.fixture(scope="module")
def rows(hunted: tuple[Path, str]) -> list[dict[str, Any]]:
    return timeless(hunted[0], "networks", "first")


# What it leaves behind


def test_every_network_of_the_grid_has_one_row(rows: list[dict[str, Any]]) -> None:
    keys = [
        f"{shape}_d{density}_s{seed}"
        for shape in ("64-10", "64-8-10", "64-12-10")
        for density in ("0.1", "0.3")
        for seed in (0, 1)
    ]
    assert len(rows) == NETWORKS
    assert sorted(row["network"] for row in rows) == sorted(keys)
    assert {row["status"] for row in rows} == {"finished"}
    assert {row["epochs"] for row in rows} == {5}
    assert len({row["trial"] for row in rows}) == 4, "a depth and a density each"


def test_every_epoch_of_every_network_has_one_row(hunted: tuple[Path, str]) -> None:
    found = timeless(hunted[0], "epochs", "first")
    assert len(found) == len({(row["network"], row["epoch"]) for row in found}) == NETWORKS * 5


def test_champions_alone_are_kept_and_tested(hunted: tuple[Path, str], rows: list[dict[str, Any]]) -> None:
    best = {row["network"] for row in champions(rows).values()}
    assert {row["network"] for row in rows if row["snapshot"]} == best
    assert {row["network"] for row in rows if row["test_accuracy"] is not None} == best
    assert 0 < len(best) < NETWORKS
    files = {path.name for path in (hunted[0] / "snapshots" / "first").iterdir()}
    assert files == {f"{key}{ending}" for key in best for ending in (".json", ".safetensors")}
    assert not (hunted[0] / "ray" / "first").exists(), "nothing of Tune's"


def test_champions_are_saved_trained(
    hunted: tuple[Path, str], rows: list[dict[str, Any]], digits: Dataset
) -> None:
    for row in rows:
        if row["snapshot"]:
            state = load_snapshot(str(hunted[0] / row["snapshot"])).state
            assert state.step == 5 * steps_per_epoch(len(digits.train), 64)
            assert evaluate(state.network, digits.validation).accuracy == row["accuracy"]
            assert evaluate(state.network, digits.test).accuracy == row["test_accuracy"]


def test_the_experiment_ends_with_its_most_accurate_network(
    hunted: tuple[Path, str], rows: list[dict[str, Any]]
) -> None:
    (experiment,) = read_table(str(hunted[0]), "experiments", "first").to_pylist()
    best = champions(rows)["accuracy", None]
    assert (experiment["status"], experiment["command"]) == ("finished", "hunt")
    for name in ("accuracy", "parameters", "test_accuracy"):
        assert experiment[name] == best[name]
    assert experiment["snapshot"].endswith(best["snapshot"])


def test_it_says_what_it_does_and_what_came_of_it(
    hunted: tuple[Path, str], rows: list[dict[str, Any]]
) -> None:
    said = hunted[1]
    assert f"Hunting among {NETWORKS} networks in 4 blocks on digits, 5 epochs each, 2 workers" in said
    assert f"{NETWORKS} of {NETWORKS} networks" in said
    assert f"{NETWORKS} finished" in said
    table = [line.split() for line in said.splitlines() if line.split()[:1] in [[name] for name in CRITERIA]]
    assert len(table) == len(champions(rows))
    for (criterion, density), row in champions(rows).items():
        place = "all" if density is None else f"{density:g}"
        (line,) = [line for line in table if line[:2] == [criterion, place]]
        assert line[2] == row["network"]
        assert float(line[5]) == pytest.approx(row["accuracy"], abs=1e-4)
        assert float(line[-1]) == pytest.approx(row["test_accuracy"], abs=1e-4)


def test_the_most_patchable_has_learned_least_of_those_that_learned_and_keeps_the_number_of_the_source(
    rows: list[dict[str, Any]], digits: Dataset
) -> None:
    least = chance_accuracy(digits.validation.labels, digits.classes) + MARGIN
    for (criterion, density), row in champions(rows).items():
        if criterion == "patchable":
            rivals = [one for one in rows if one["hidden_units"] and one["accuracy"] >= least]
            assert row["accuracy"] == min(
                one["accuracy"] for one in rivals if density in (None, one["density"])
            )
            unhealthy = (row["saturated"] + row["dead"]) / row["hidden_units"]
            assert row["patchability"] == pytest.approx(unhealthy * (1 - row["accuracy"]))
    assert ("patchable", None) in champions(rows)


def test_the_line_it_prints_queries_its_tables(
    hunted: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    sql = hunted[1].split('structnet query "')[1].split('"')[0]
    print_query(str(hunted[0]), sql)
    assert "64-12-10_d0.3" in capsys.readouterr().out


def test_one_worker_gives_the_same_tables(
    hunted: tuple[Path, str], rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    said = run(tmp_path, workers=1, resume=True)
    assert "1 workers" in said, "a resume starts where nothing is there"
    assert timeless(tmp_path, "networks", "first") == rows
    assert timeless(tmp_path, "epochs", "first") == timeless(hunted[0], "epochs", "first")


@pytest.mark.slow
def test_a_hunt_in_which_all_diverge_ends_without_champions(tmp_path: Path, ray_session: None) -> None:
    said = run(tmp_path, learning_rate=3e38, densities="0.3", epochs=1)
    assert "6 failed" in said
    assert {row["status"] for row in timeless(tmp_path, "networks", "first")} == {"failed"}
    (experiment,) = read_table(str(tmp_path), "experiments", "first").to_pylist()
    assert experiment["status"] == "finished" and experiment["accuracy"] is None


# Again, and on


def test_a_finished_hunt_is_not_run_again(hunted: tuple[Path, str]) -> None:
    before = {part.path: part.stamp for part in list_parts(str(hunted[0]), "networks")}
    assert "first is finished already" in run(hunted[0], resume=True)
    assert {part.path: part.stamp for part in list_parts(str(hunted[0]), "networks")} == before


class Stopped(KeyboardInterrupt):
    """The process dies here."""


def judged(results: Path, data: Dataset) -> None:
    """The end of a hunt: its blocks are trained, now for the champions."""
    given = {**SMALL, "results": str(results), "name": "first", "resume": True}
    options = fitted(HuntOptions(**given), data)
    blocks = blocks_of(members_of(options, data))
    experiment = Experiment("hunt", options, {})
    rows = trial_rows(str(results), "first", {block.name for block in blocks})
    judge_champions(rows, data, options, experiment)


@pytest.mark.parametrize(("where", "call"), [("remove_snapshot", 1), ("write", 1), ("write", 3)])
def test_judging_that_was_stopped_ends_the_same_when_done_again(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, call: int
) -> None:
    options = fitted(HuntOptions(**SMALL, results=str(tmp_path)), digits)
    shared = shared_for(digits, tmp_path, "first", **SMALL)
    for block in blocks_of(members_of(options, digits)):
        train_block(block, shared)
    calls = 0

    def stopping(original: Any) -> Any:
        def replaced(*arguments: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == call:
                raise Stopped
            return original(*arguments)

        return replaced

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        if where == "write":
            patch.setattr(TableWriter, "write", stopping(TableWriter.write))
        else:
            patch.setattr(hunt, "remove_snapshot", stopping(hunt.remove_snapshot))
        judged(tmp_path, digits)
    judged(tmp_path, digits)
    rows = timeless(tmp_path, "networks", "first")
    best = {row["network"] for row in champions(rows).values()}
    assert {row["network"] for row in rows if row["snapshot"]} == best
    assert {row["network"] for row in rows if row["test_accuracy"] is not None} == best
    files = {
        path.stem if path.suffix == ".json" else None for path in (tmp_path / "snapshots/first").iterdir()
    }
    assert files - {None} == best


@pytest.fixture
def interrupted(tmp_path: Path, ray_session: None) -> Path:
    """The results of a hunt that was stopped when its blocks were trained."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit, match="130"):
        patch.setattr(hunt, "judge_champions", lambda *_: signal.raise_signal(signal.SIGINT))
        run(tmp_path)
    return tmp_path


def test_an_interrupted_hunt_is_ended_without_training_again(
    interrupted: Path, rows: list[dict[str, Any]]
) -> None:
    (experiment,) = read_table(str(interrupted), "experiments", "first").to_pylist()
    assert experiment["status"] == "interrupted"
    before = {part.path: part.stamp for part in list_parts(str(interrupted), "epochs")}
    assert f"{NETWORKS} finished" in run(interrupted, resume=True)
    assert {part.path: part.stamp for part in list_parts(str(interrupted), "epochs")} == before
    assert timeless(interrupted, "networks", "first") == rows


# Mistakes


@pytest.fixture
def refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], hunted: tuple[Path, str]
) -> Iterator[Any]:
    """Runs a command line in this process that must end with exit code 2 and one line, which it returns."""

    def runs(*arguments: str) -> str:
        given = ["structnet", "hunt", *LINE, "--results", str(hunted[0]), *arguments]
        monkeypatch.setattr(sys, "argv", given)
        with pytest.raises(SystemExit) as end:
            main()
        error = capsys.readouterr().err
        assert end.value.code == 2, error
        assert len(error.strip().splitlines()) == 1 and error.startswith("structnet: "), error
        return error

    return runs


BAD = [
    (["--architectures", "63-16-10"], "architecture is 63-16-10, but digits has 64 inputs and 10 classes"),
    (["--architectures", "input-16-9"], "begin with 64 and end with 10"),
    (["--architectures", "input-x-classes"], "must be sizes"),
    (["--architectures", "input-0-classes"], "sizes of at least 1"),
    (["--architectures", " "], "the grid is empty, as there are no architectures"),
    (["--densities", ","], "the grid is empty, as there are no densities"),
    (["--rng-seeds", "0"], "the grid is empty, as there are no rng_seeds"),
    (["--rng-seeds", "-1"], "rng_seeds is -1"),
    (
        ["--limit", "11"],
        "the grid has 12 networks (3 architectures × 2 densities × 2 rng_seeds), but limit is 11",
    ),
    (["--architectures", "input-classes 64-10"], "64-10_d0.1_s0 is twice in the grid"),
    (["--densities", "0"], "density is 0.0, but must be in (0, 1]"),
    (["--densities", "0.1,1.5"], "density is 1.5, but must be in (0, 1]"),
    (["--densities", "nan"], "density is nan"),
    (["--densities", "a,b"], "densities is 'a,b', but must be numbers such as 0.01,0.02"),
    (["--allocation", "luck"], "allocation is 'luck'"),
    (["--epochs", "0"], "epochs is 0"),
    (["--learning-rate", "0"], "learning_rate is 0"),
    (["--batch-size", "0"], "batch_size is 0"),
    (["--input-dropout", "1"], "input_dropout is 1"),
    (["--shift", "1", "--dataset", "teacher", "--architectures", "input-classes"], "shift is 1"),
    (["--workers", "0"], "workers is 0"),
    (["--dataset", "mnist"], "data_dir"),
    (["--name", "../outside"], "../outside"),
    (["--name", "first"], "already exists"),
    (["--name", "first", "--resume", "--epochs", "6"], "epochs was 5, is 6"),
    (["--name", "first", "--resume", "--rng-seeds", "3"], "rng_seeds was 2, is 3"),
    (["--results", "/proc/results", "--name", "new"], "/proc/results"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[" ".join(arguments) for arguments, _ in BAD])
def test_bad_input_gets_one_line_and_exit_code_2(refused: Any, arguments: list[str], message: str) -> None:
    assert message in refused(*arguments)


def test_a_resume_may_change_where_it_runs(hunted: tuple[Path, str]) -> None:
    assert "finished already" in run(hunted[0], resume=True, workers=7, limit=5000)


def placeless(results: Path, table: str) -> list[dict[str, Any]]:
    """The rows of a table, of which snapshots are known by their name alone."""
    rows = timeless(results, table, "first")
    return [row | {"snapshot": Path(row.get("snapshot") or "").name} for row in rows]


def unfinished(results: Path) -> None:
    """As if the hunt had been stopped before its end."""
    row = read_table(str(results), "experiments", "first").to_pylist()[0]
    row.pop("experiment")
    row["status"] = "running"
    TableWriter(str(results), "first").write("experiments", "run", [row])


@pytest.mark.slow
def test_blocks_whose_rows_are_damaged_are_trained_again(
    hunted: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though Tune knows them as done: the hunt was stopped after its last block, before its end."""
    monkeypatch.setattr("search.session.run._forget_tune", lambda experiment: None)
    run(tmp_path)
    unfinished(tmp_path)
    for table, name in (("networks", "block-0001"), ("epochs", "block-0002-epoch-0003")):
        part = tmp_path / "tables" / table / "experiment=first" / f"{name}.parquet"
        part.write_bytes(part.read_bytes()[:100])
    said = run(tmp_path, resume=True)
    assert "2 of 4 trials lack results and are run: block-0001, block-0002" in said
    for table in ("networks", "epochs"):
        assert placeless(tmp_path, table) == placeless(hunted[0], table)


@pytest.mark.slow
def test_without_what_tune_keeps_the_blocks_that_are_done_stay_done(
    hunted: tuple[Path, str], tmp_path: Path
) -> None:
    results = Path(shutil.copytree(hunted[0], tmp_path / "results"))
    unfinished(results)
    (results / "tables/networks/experiment=first/block-0002.parquet").unlink()
    before = {part.path: part.stamp for part in list_parts(str(results), "epochs")}
    assert "1 of 4 trials lack results and are run: block-0002" in run(results, resume=True)
    after = {part.path: part.stamp for part in list_parts(str(results), "epochs")}
    assert {path for path in before if after[path] != before[path]} == {
        path for path in before if "block-0002" in path
    }
    for table in ("networks", "epochs"):
        assert placeless(results, table) == placeless(hunted[0], table)


@pytest.mark.slow
def test_in_a_process_of_its_own_too(copied: Path, tmp_path: Path) -> None:
    """Without a traceback, and before Ray is started; both at once, as starting takes its time."""
    (copied / "tables" / "experiments" / "experiment=first" / "run.parquet").write_bytes(b"PAR1")
    here = ["--results", str(copied)]
    lines = [
        ([*here, "--name", "first", "--resume"], "run.parquet is not a whole part of its table"),
        ([*here, "--name", "new", "--limit", "5"], "the grid has 12 networks"),
    ]
    started = [process("hunt", *LINE, *line, cwd=tmp_path) for line, _ in lines]
    for one, (_, message) in zip(started, lines, strict=True):
        out, err = one.communicate(timeout=300)
        assert one.returncode == 2, out + err
        assert len(err.strip().splitlines()) == 1 and message in err, err
