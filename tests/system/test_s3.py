"""Results in S3-compatible storage: a real server on this machine, and commands in processes of their own."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.grid_cases import timeless
from helpers.process_cases import process
from moto.moto_api._internal import moto_api_backend
from moto.server import ThreadedMotoServer

from search.cli import main
from search.tune.trials import ray_folder
from structnet import open_results
from structnet.storage.tables import TableWriter, list_parts, open_folder, read_table

NOBODY = "http://127.0.0.1:9"  # nothing listens there
GROW = [
    "grow",
    *["--dataset", "digits", "--epochs", "2", "--rounds", "2", "--candidates", "2", "--workers", "1"],
    *["--policy", "score", "--fork-price", "0"],
]
BLOCKS, NETWORKS, EPOCHS = 10, 20, 30
HUNT = [
    "hunt",
    "--architectures=input-classes",
    "--densities=0.04,0.06,0.08,0.1,0.15,0.2,0.25,0.3,0.35,0.4",
    "--rng-seeds=2",
    f"--epochs={EPOCHS}",
    "--workers=1",
]
PATIENCE_SECONDS = 600.0


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The URL of a bucket; the environment of this process, and of what it starts, says where that is."""
    import s3fs

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("AWS_", "FSSPEC_"))]:
            patch.delenv(name)
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "of-this-test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "of-this-test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        patch.setenv("NO_PROXY", host)
        s3fs.S3FileSystem.clear_instance_cache()
        moto_api_backend.reset()  # servers of one process share their buckets
        s3fs.S3FileSystem().mkdir("bucket")
        yield "s3://bucket"
        s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def run(*arguments: str, cwd: Path, **environment: str) -> str:
    """What the command prints."""
    began = time.monotonic()
    started = process(*arguments, cwd=cwd, **environment)
    out, err = started.communicate(timeout=PATIENCE_SECONDS)
    print(f"{time.monotonic() - began:.0f} s: {' '.join(arguments[:2])}")
    assert started.returncode == 0, out + err
    assert "Traceback" not in err, err
    return out


@pytest.mark.slow
def test_a_grown_network_lies_in_the_bucket_and_is_found_there(
    bucket: str, tmp_path: Path, short: Path
) -> None:
    results = f"{bucket}/grown"
    line = [*GROW, "--results", results, "--name", "same"]
    done = run(*line, cwd=tmp_path, RAY_TMPDIR=str(short))
    assert f"Snapshot: {results}/snapshots/same/" in done
    tables = ("experiments", "rounds", "candidates")
    before = {table: read_table(results, table, "same").to_pylist() for table in tables}
    assert [row["status"] for row in before["experiments"]] == ["finished"]
    assert before["rounds"][-1]["decision"] == "final" and before["candidates"]

    told = run("query", "select count(*) as found from rounds", "--results", results, cwd=tmp_path)
    assert told.split()[-1] == str(len(before["rounds"]))
    assert "finished" in run("status", "same", "--results", results, cwd=tmp_path)

    again = run(*line, "--resume", cwd=tmp_path, RAY_TMPDIR=str(short))
    assert "finished already" in again
    assert {table: read_table(results, table, "same").to_pylist() for table in tables} == before
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_an_interrupted_hunt_goes_on_from_the_bucket(bucket: str, tmp_path: Path, short: Path) -> None:
    """What Ray Tune keeps lies there too, through the same client: only fsspec is told where the server is."""
    results = f"{bucket}/hunted"
    line = [*HUNT, "--results", results, "--name", "same"]
    where = {"FSSPEC_S3_ENDPOINT_URL": os.environ["AWS_ENDPOINT_URL"], "AWS_ENDPOINT_URL": NOBODY}
    files, root = open_folder(results)
    # Tune notes what has ended every ten seconds; here every second, or the hunt would be over before.
    hunt = process(*line, cwd=tmp_path, RAY_TMPDIR=str(short), TUNE_GLOBAL_CHECKPOINT_S="1", **where)
    try:
        began = time.monotonic()
        while not (ended := noted_as_ended(files, f"{root}/ray/same")):
            assert hunt.poll() is None, "".join(hunt.communicate())
            assert time.monotonic() - began < PATIENCE_SECONDS
            time.sleep(0.05)
        hunt.send_signal(signal.SIGINT)
        out, err = hunt.communicate(timeout=PATIENCE_SECONDS)
    finally:
        hunt.kill()
    assert hunt.returncode == 130, out + err
    finished = [part.name for part in list_parts(results, "networks", "same")]
    assert ended <= len(finished) < BLOCKS
    kept = stamps(results, finished[:ended])
    assert len(kept) == ended * EPOCHS

    run(*line, "--resume", cwd=tmp_path, RAY_TMPDIR=str(short), **where)
    assert stamps(results, finished[:ended]) == kept, "what had ended is not trained again"
    networks = timeless(results, "networks", "same")
    assert len({row["network"] for row in networks}) == len(networks) == NETWORKS
    assert {row["status"] for row in networks} == {"finished"}
    assert read_table(results, "epochs", "same").num_rows == NETWORKS * EPOCHS
    files.invalidate_cache()
    assert not files.exists(f"{root}/ray/same")
    assert not list(tmp_path.iterdir())


def noted_as_ended(files: Any, folder: str) -> int:
    """Trials that are over in what Tune has stored, so that it would not run them again."""
    files.invalidate_cache()
    stored = sorted(files.glob(f"{folder}/experiment_state-*.json"))
    return files.cat_file(stored[-1]).count(b"TERMINATED") if stored else 0


def stamps(results: str, blocks: list[str]) -> dict[str, str]:
    """When the epochs of these blocks were written."""
    return {
        part.name: part.stamp
        for part in list_parts(results, "epochs", "same")
        if part.name.rsplit("-epoch-", 1)[0] in blocks
    }


def test_results_in_a_bucket_are_asked_from_python_and_the_command_line(
    bucket: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results = f"{bucket}/asked"
    TableWriter(results, "one").write("rounds", "round-0", [{"trial": "", "round": 0, "action": "patch"}])
    opened = open_results(results)
    assert opened.rounds.project("experiment, round, action").fetchall() == [("one", 0, "patch")]
    # As another machine that goes on with the experiment.
    TableWriter(results, "one").write("rounds", "round-1", [{"trial": "", "round": 1, "action": "widen"}])
    assert [*opened.frame("rounds", "one")["action"]] == ["patch", "widen"]
    assert opened.experiments() == ["one"]

    line = ["query", "growth", "--results", results, "--output", f"{bucket}/answers/growth.csv"]
    monkeypatch.setattr("sys.argv", ["structnet", *line])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0 and f"2 rows: {bucket}/answers/growth.csv" in capsys.readouterr().out
    files, root = open_folder(bucket)
    assert b'"widen"' in files.cat_file(f"{root}/answers/growth.csv")


def test_ray_keeps_its_state_on_the_file_system_of_the_tables(bucket: str, tmp_path: Path) -> None:
    assert ray_folder(str(tmp_path)) == (None, f"{tmp_path}/ray")
    for results, folder in ((f"{bucket}/x/", "bucket/x/ray"), ("memory://x", "/x/ray")):
        files, where = ray_folder(results)
        assert where == folder
        files.create_dir(where)
        with files.open_output_stream(f"{where}/state") as stream:
            stream.write(b"of Ray")
        assert open_folder(results)[0].cat_file(f"{folder}/state") == b"of Ray"
