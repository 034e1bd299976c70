"""The command line: bad input gets one line and exit code 2, good input what it promises."""

from __future__ import annotations

import json
import re
import signal
from contextlib import nullcontext
from pathlib import Path

import pytest
from helpers.command_cases import GROWN, Done, assert_refused, structnet, timeless
from helpers.process_cases import PATIENCE_SECONDS, process
from typer.testing import CliRunner

from search.cli import app
from structnet.data.datasets import load_dataset
from structnet.data.fingerprints import data_fingerprint
from structnet.errors import WorkFailed
from structnet.storage.tables import read_table


def test_grow_says_what_it_did_and_what_it_wrote(grown: tuple[Path, str]) -> None:
    folder, said = grown
    assert "Growth ended because" in said
    assert "RigL of" in said and "Dense network of" not in said
    assert "structnet query" in said
    rows = read_table(str(folder / "results"), "experiments", "first").to_pylist()
    assert len(rows) == 1
    assert rows[0]["status"] == "finished"
    assert 0 < rows[0]["test_accuracy"] <= 1
    assert (folder / f"{rows[0]['snapshot']}.safetensors").exists()


def test_the_row_of_an_experiment_tells_its_data(grown: tuple[Path, str]) -> None:
    (row,) = read_table(str(grown[0] / "results"), "experiments", "first").to_pylist()
    assert json.loads(row["data_fingerprint"]) == data_fingerprint(load_dataset("digits"))


def test_test_columns_are_filled_only_at_the_end(grown: tuple[Path, str]) -> None:
    results = str(grown[0] / "results")
    for table in ("rounds", "candidates"):
        assert not [name for name in read_table(results, table).column_names if name.startswith("test_")]


def test_the_line_it_prints_queries_its_tables(grown: tuple[Path, str]) -> None:
    folder, said = grown
    sql = said.split('structnet query "')[1].split('"')[0]
    done = structnet("query", sql, cwd=folder)
    assert done.code == 0, done.err
    assert "parameters" in done.out


def test_the_tables_prove_the_ledger_in_sql(grown: tuple[Path, str]) -> None:
    sql = """
        select count(*) as broken from (
            select balance, lag(balance) over (partition by trial order by round) as before,
                   credits_earned + credits_refunded - credits_spent as change
            from rounds where experiment = 'first')
        where before is not null and abs(before + change - balance) > 1e-6"""
    done = structnet("query", sql, cwd=grown[0])
    assert done.code == 0, done.err
    assert re.findall(r"\d+", done.out) == ["0"], done.out


def test_predict_reads_a_snapshot_and_a_file(grown: tuple[Path, str]) -> None:
    folder, _ = grown
    snapshot = read_table(str(folder / "results"), "experiments", "first").to_pylist()[0]["snapshot"]
    header = ",".join(f"p{index}" for index in range(64))
    (folder / "rows.csv").write_text(header + "\n" + ",".join(["0"] * 64) + "\n")
    done = structnet("predict", snapshot, "rows.csv", cwd=folder)
    assert done.code == 0, done.err
    assert "prediction" in done.out


def test_a_finished_experiment_is_not_grown_again(grown: tuple[Path, str]) -> None:
    done = structnet("grow", *GROWN, "--name", "first", "--resume", cwd=grown[0])
    assert done.code == 0, done.err
    assert "finished already" in done.out


BAD = [
    (["--dataset", "nonsense"], "nonsense"),
    (["--density", "0"], "density is 0"),
    (["--density", "1.5"], "density is 1.5"),
    (["--architecture", "63,16,10"], "64 inputs"),
    (["--architecture", "64,16,9"], "10 classes"),
    (["--architecture", "64;10"], "must be sizes"),
    (["--name", "../outside"], "../outside"),
    (["--name", "first"], "already exists"),
    (["--name", "first", "--resume", "--density", "0.2"], "other options"),
    (["--actions", "patch,teleport"], "patch,teleport"),
    (["--policy", "luck"], "luck"),
    (["--results", "/proc/results"], "/proc/results"),
    (["--config", "missing.yaml"], "missing.yaml"),
    (["--epochs", "0"], "epochs is 0"),
    (["--max-parameters", "10"], "max_parameters is 10"),
    (["--device", "cuda"], "gpus_per_worker"),
    (["--shift", "1", "--dataset", "teacher"], "shift"),
    (["--dataset", "mnist"], "data_dir"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[" ".join(arguments) for arguments, _ in BAD])
def test_bad_input_gets_one_line_and_exit_code_2(
    grown: tuple[Path, str], arguments: list[str], message: str
) -> None:
    assert_refused(structnet("grow", *GROWN, *arguments, cwd=grown[0]), message)


def test_in_a_process_of_its_own_too(tmp_path: Path) -> None:
    """Where no Ray runs yet, which would otherwise be used whatever the address."""
    started = process("grow", *GROWN, "--address", "127.0.0.1:1", cwd=tmp_path)
    out, err = started.communicate(timeout=60)
    assert_refused(Done(started.returncode, out, err), "no Ray cluster answers")


def test_a_config_file_has_the_names_of_the_options(grown: tuple[Path, str]) -> None:
    folder, _ = grown
    (folder / "bad.yaml").write_text("round-steps: 5\nnonsense: 1\n")
    assert_refused(structnet("grow", "--config", "bad.yaml", cwd=folder), "unknown option 'nonsense'")


def test_a_truncated_snapshot_is_refused_by_name(grown: tuple[Path, str]) -> None:
    folder, _ = grown
    whole = folder / "results" / "snapshots" / "first" / "round-0001.safetensors"
    (folder / "cut.safetensors").write_bytes(whole.read_bytes()[:200])
    (folder / "cut.json").write_bytes(whole.with_suffix(".json").read_bytes())
    (folder / "rows.csv").write_text("a\n0\n")
    assert_refused(structnet("predict", "cut", "rows.csv", cwd=folder), "cut")


@pytest.mark.slow
def test_ctrl_c_keeps_everything_and_resume_ends_as_if_undisturbed(
    grown: tuple[Path, str], tmp_path: Path
) -> None:
    arguments = ["grow", *GROWN, "--name", "first", "--results", str(tmp_path)]
    interrupted = process(*arguments, cwd=tmp_path)
    assert interrupted.stdout is not None
    for line in interrupted.stdout:
        if line.startswith("round 1"):
            interrupted.send_signal(signal.SIGINT)
            break
    out, err = interrupted.communicate(timeout=PATIENCE_SECONDS)
    assert interrupted.returncode == 130, out + err
    assert "--resume" in out
    assert "Traceback" not in err
    status = read_table(str(tmp_path), "experiments", "first").to_pylist()[0]["status"]
    assert status == "interrupted"
    done = structnet(*arguments, "--resume", cwd=tmp_path)
    assert done.code == 0, done.err
    for table in ("rounds", "candidates"):
        assert timeless(tmp_path, table) == timeless(grown[0] / "results", table) != []


def test_grow_gives_its_workers_back_where_it_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    closed = []

    class Pool:
        """Workers that only count how often they are given back."""

        def __init__(self, *_: object, **__: object) -> None:
            pass

        def close(self) -> None:
            closed.append(True)

    def fails(*_: object) -> None:
        raise WorkFailed("no worker is left")

    monkeypatch.setattr("search.commands.grow.run.on_ray", lambda options: nullcontext())
    monkeypatch.setattr("search.commands.grow.run.grow_one", fails)
    monkeypatch.setattr("tournament.workers.pool.RayPool", Pool)
    done = CliRunner().invoke(app, ["grow", "--name", "lost", "--results", str(tmp_path)])
    assert isinstance(done.exception, WorkFailed)
    assert closed == [True]
