"""Twenty processes that begin at once do not mix: on a disk and in S3-compatible storage, with a name and without."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.claim_cases import PROCESSES, ROOT, at_once
from helpers.process_cases import PATIENCE_SECONDS, wait_until
from moto.s3.responses import S3Response
from test_s3 import bucket  # noqa: F401

from structnet.storage.tables import open_folder, read_table

# With so few epochs its checks may fail, which is code 1; it has run all the same.
RAN = (0, 1)
VALIDATE = ("validate", "--architecture=input,4,classes", "--density=0.5", "--epochs=2")
# As the command itself, once there is a file; all of them in the same second.
WAITING = """
import sys, time
from pathlib import Path
import search.cli, search.commands.validate.run, structnet.experiments.validation
from search.session import experiment
experiment.default_name = lambda command, about: f"{command}-{about}-of-this-second"
Path(sys.argv[1], "ready", sys.argv[2]).touch()
while not Path(sys.argv[1], "go").exists():
    time.sleep(0.01)
del sys.argv[1:3]
search.cli.script()
"""


@pytest.fixture
def results(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """A folder for results, or a URL. The server looks and then writes, which a store does in one step."""
    if request.param == "disk":
        yield str(tmp_path / "results")
        return
    whole, one_at_a_time = S3Response.put_object, threading.Lock()

    def put_object(self: S3Response) -> object:
        with one_at_a_time:
            return whole(self)

    monkeypatch.setattr(S3Response, "put_object", put_object)
    yield f"{request.getfixturevalue('bucket')}/{request.node.name.translate(dict.fromkeys(map(ord, '[]-')))}"


def commands(folder: Path, results: str, *more: str) -> list[tuple[int, str, str]]:
    """Code, output and errors of as many `structnet validate`, which begin at once."""
    (folder / "ready").mkdir()
    running = [
        subprocess.Popen(
            [sys.executable, "-c", WAITING, str(folder), str(number), *VALIDATE, *more]
            + [f"--rng-seed={number}", f"--results={results}"],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": ROOT, "COLUMNS": "200"},
        )
        for number in range(PROCESSES)
    ]
    wait_until(lambda: len(list((folder / "ready").iterdir())) == PROCESSES, "all are ready")
    (folder / "go").touch()
    said = [process.communicate(timeout=PATIENCE_SECONDS) for process in running]
    return [(process.returncode, *texts) for process, texts in zip(running, said)]


def claims_in(results: str) -> list[str]:
    files, root = open_folder(results)
    files.invalidate_cache()
    return list(files.find(f"{root}/claims"))


both = pytest.mark.parametrize("results", ["disk", "store"], indirect=True)


@pytest.mark.slow
@both
def test_of_twenty_commands_with_one_name_one_runs(results: str, tmp_path: Path) -> None:
    done = commands(tmp_path, results, "--name=same")
    (winner,) = (number for number, (code, _, _) in enumerate(done) if code in RAN)
    for number, (code, _, err) in enumerate(done):
        refused = code == 2 and "'same' already exists" in err and len(err.splitlines()) == 1
        assert number == winner or refused, err
    (row,) = read_table(results, "experiments").to_pylist()
    assert (row["experiment"], row["rng_seed"], row["status"]) == ("same", winner, "finished")
    networks = read_table(results, "networks").to_pylist()
    assert [network["rng_seed"] for network in networks] == [winner, winner]
    assert claims_in(results) == []


@pytest.mark.slow
@both
def test_of_twenty_commands_without_a_name_each_has_its_own(results: str, tmp_path: Path) -> None:
    done = commands(tmp_path, results)
    assert all(code in RAN for code, _, _ in done), done
    stem = "validate-digits-of-this-second"
    names = {stem, *(f"{stem}-{number}" for number in range(2, PROCESSES + 1))}
    rows = read_table(results, "experiments").to_pylist()
    assert {row["experiment"] for row in rows} == names
    assert sorted(row["rng_seed"] for row in rows) == list(range(PROCESSES))
    assert {row["status"] for row in rows} == {"finished"}
    seeds = {row["experiment"]: row["rng_seed"] for row in rows}
    networks = read_table(results, "networks").to_pylist()
    assert Counter(row["experiment"] for row in networks) == dict.fromkeys(names, 2)
    assert all(row["rng_seed"] == seeds[row["experiment"]] for row in networks)
    assert claims_in(results) == []


@pytest.mark.parametrize("processes", [3, pytest.param(PROCESSES, marks=pytest.mark.slow)])
@pytest.mark.parametrize("results", ["store"], indirect=True)
def test_in_a_store_one_process_of_several_has_a_name(results: str, processes: int, tmp_path: Path) -> None:
    outcomes = at_once(results, "same", processes=processes, cwd=tmp_path)
    assert Counter(what for _, what, _ in outcomes) == {"wrote": 1, "refused": processes - 1}
    (winner,) = (number for number, what, _ in outcomes if what == "wrote")
    (row,) = read_table(results, "experiments").to_pylist()
    assert (row["rng_seed"], row["status"]) == (winner, "finished")
    assert claims_in(results) == []


@pytest.mark.slow
@pytest.mark.parametrize("results", ["store"], indirect=True)
def test_in_a_store_too_twenty_default_names_are_twenty_experiments(results: str, tmp_path: Path) -> None:
    outcomes = at_once(results, "", cwd=tmp_path)
    assert len({text for _, _, text in outcomes}) == PROCESSES
    rows = read_table(results, "experiments").to_pylist()
    assert {row["experiment"]: row["rng_seed"] for row in rows} == {
        name: number for number, _, name in outcomes
    }


@pytest.mark.slow
@both
def test_what_a_killed_command_has_claimed_is_resumed_by_one_of_twenty(results: str, tmp_path: Path) -> None:
    line = [
        sys.executable,
        "-m",
        "search.cli",
        *VALIDATE,
        "--epochs=100000",
        f"--results={results}",
        "--name=same",
    ]
    environment = {**os.environ, "PYTHONPATH": ROOT}
    running = subprocess.Popen(line, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)
    wait_until(lambda: read_table(results, "experiments").num_rows, "it has begun")
    refused = subprocess.run(
        [*line, "--resume"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert (
        refused.returncode == 2 and f"is running in another process (process {running.pid} " in refused.stderr
    )
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert len(claims_in(results)) == 1
    outcomes = at_once(results, "same", resume=True, cwd=tmp_path)
    assert Counter(what for _, what, _ in outcomes) == {"refused": PROCESSES}
    assert Counter("other options" in text for _, _, text in outcomes)[True] == 1, outcomes
