"""An experiment has its name alone: none is mixed with another, whenever they begin, and no resume with other data."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers.claim_cases import PROCESSES, ROOT, at_once
from helpers.command_cases import Done, assert_refused, structnet

from search.options import CommonOptions
from search.session import experiment as session
from search.session.experiment import Experiment
from structnet.data.datasets import load_dataset
from structnet.errors import UserError
from structnet.storage.tables import TableWriter, list_parts, open_folder, read_table

VALIDATE = ("validate", "--architecture", "input,4,classes", "--density", "0.5", "--epochs", "1")


def names_in(results: Path) -> list[str]:
    return sorted({part.experiment for part in list_parts(str(results), "experiments")})


def begun(results: Path, **options: str | bool) -> Experiment:
    return Experiment("grow", CommonOptions(results=str(results), **options), {})


@pytest.fixture
def this_second(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name that every experiment begins with, as if all began in the same second."""
    monkeypatch.setattr(session, "default_name", lambda command, about: "of-this-second")
    return "of-this-second"


# At once


def test_of_twenty_with_one_name_one_begins_and_the_others_are_refused(tmp_path: Path) -> None:
    outcomes = at_once(str(tmp_path), "same", cwd=tmp_path)
    assert Counter(what for _, what, _ in outcomes) == {"wrote": 1, "refused": PROCESSES - 1}
    refusals = [text for _, what, text in outcomes if what == "refused"]
    assert all("'same' already exists in" in text and "\n" not in text for text in refusals), refusals
    (winner,) = (number for number, what, _ in outcomes if what == "wrote")
    (row,) = read_table(str(tmp_path), "experiments").to_pylist()
    assert (row["experiment"], row["rng_seed"], row["status"]) == ("same", winner, "finished")
    assert [path.name for path in tmp_path.iterdir()] == ["tables"]


def test_twenty_default_names_of_one_second_are_twenty_experiments(tmp_path: Path) -> None:
    outcomes = at_once(str(tmp_path), "", cwd=tmp_path)
    stem = "validate-of-this-second"
    expected = {stem, *(f"{stem}-{number}" for number in range(2, PROCESSES + 1))}
    assert {text for _, _, text in outcomes} == expected
    rows = read_table(str(tmp_path), "experiments").to_pylist()
    assert {row["experiment"]: row["rng_seed"] for row in rows} == {
        name: number for number, _, name in outcomes
    }
    assert {row["accuracy"] for row in rows} == {number / PROCESSES for number in range(PROCESSES)}


def test_of_twenty_that_resume_one_name_one_goes_on(tmp_path: Path) -> None:
    written = Experiment("validate", CommonOptions(results=str(tmp_path), name="same"))
    written.start("", 0)
    written.end("", "interrupted")
    del written
    outcomes = at_once(str(tmp_path), "same", resume=True, cwd=tmp_path)
    assert Counter(what for _, what, _ in outcomes) == {"wrote": 1, "refused": PROCESSES - 1}
    assert all("is running in another process" in text for _, what, text in outcomes if what == "refused")


# One after the other


def test_a_default_name_that_is_there_gets_a_number(tmp_path: Path, this_second: str) -> None:
    TableWriter(str(tmp_path), this_second).write("experiments", "run", [{"trial": ""}])
    held = [begun(tmp_path), begun(tmp_path)]
    assert [one.name for one in held] == [f"{this_second}-2", f"{this_second}-3"]
    held[1].start("", 0)
    assert names_in(tmp_path) == [this_second, f"{this_second}-3"]


def test_a_name_without_rows_is_free_again_when_its_process_has_ended(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be resumed so"):
        one = begun(tmp_path, name="run")
        raise UserError(f"{one.name} cannot be resumed so")
    code = (
        "import os, sys; from search.options import CommonOptions; from search.session.experiment import Experiment;"
        "mine = Experiment('grow', CommonOptions(results=sys.argv[1], name='killed'), {});"
        f"os.kill(os.getpid(), {int(signal.SIGKILL)})"
    )
    environment = {**os.environ, "PYTHONPATH": ROOT}
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (tmp_path / "claims" / "killed.json").exists()
    for resume in (False, True):
        begun(tmp_path, name="killed", resume=resume)
    begun(tmp_path, name="killed", resume=True).start("", 0)
    assert names_in(tmp_path) == ["killed"]


def test_in_a_store_resume_takes_over_what_another_machine_has_begun() -> None:
    results = "memory://test_names"
    files, root = open_folder(results)
    about = {"token": "theirs", "host": "far", "pid": 1, "since": "now", "machine": "far"}
    files.pipe_file(f"{root}/claims/run.json", json.dumps(about).encode())
    with pytest.raises(
        UserError, match=r"'run' already exists in 'memory://test_names', begun on far.*--resume"
    ):
        Experiment("grow", CommonOptions(results=results, name="run"), {})
    mine = Experiment("grow", CommonOptions(results=results, name="run", resume=True), {})
    mine.start("", 0)
    assert read_table(results, "experiments").num_rows == 1


def test_a_worker_writes_to_what_its_driver_has_begun(tmp_path: Path) -> None:
    """The driver has the name, so a worker, which is another process, must not ask for it."""
    data = load_dataset("digits")
    driver = Experiment("sweep", CommonOptions(results=str(tmp_path), name="run"), {}, data=data)
    driver.start("", 0)
    claim = (tmp_path / "claims" / "run.json").read_text()
    code = (
        "import sys; from search.options import CommonOptions; from search.session.experiment import Experiment;"
        "options = CommonOptions(results=sys.argv[1], name='run', resume=True);"
        "Experiment('sweep', options, {}, joins=True).start('trial-0', 1)"
    )
    environment = {**os.environ, "PYTHONPATH": ROOT}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment, check=True)
    rows = read_table(str(tmp_path), "experiments").to_pylist()
    assert [row["trial"] for row in rows] == ["", "trial-0"]
    assert len({row["data_fingerprint"] for row in rows}) == 1 and rows[0]["data_fingerprint"]
    assert (tmp_path / "claims" / "run.json").read_text() == claim


# The data of a resume


def table(path: Path, order: np.ndarray, labels: np.ndarray) -> None:
    """A CSV of 400 rows of three numbers in an order, with labels by row."""
    values = np.random.default_rng(0).normal(size=(400, 3))
    lines = [",".join(f"{value:.4f}" for value in values[row]) + f",{labels[row]}" for row in order]
    path.write_text("a,b,c,label\n" + "\n".join(lines) + "\n")


def validated(folder: Path, *more: str) -> Done:
    return structnet(*VALIDATE, "--dataset", "rows.csv", "--name", "run", *more, cwd=folder)


def test_a_resume_with_other_data_is_refused_with_what_changed(tmp_path: Path) -> None:
    order, labels = np.arange(400), np.arange(400) % 2
    rows = tmp_path / "rows.csv"
    table(rows, order, labels)
    first = validated(tmp_path)
    assert "experiment run" in first.out, first.err
    assert not (tmp_path / "results" / "claims").exists()
    before = read_table(str(tmp_path / "results"), "experiments").to_pylist()
    other = np.roll(labels, 1)
    table(rows, order, other)
    assert_refused(
        validated(tmp_path, "--resume"),
        "experiment 'run' was started with other data (the labels of the training, validation and test data are "
        "others than when it began): bring that data back, or choose another --name",
    )
    table(rows, order[::-1], labels)
    assert_refused(validated(tmp_path, "--resume"), "rows")
    table(rows, order, labels)
    done = validated(tmp_path, "--resume")
    assert "finished already" in done.out, done.err
    assert read_table(str(tmp_path / "results"), "experiments").to_pylist() == before


def test_an_experiment_of_before_there_were_fingerprints_is_resumed(tmp_path: Path) -> None:
    begun(tmp_path, name="run").start("", 0)
    assert read_table(str(tmp_path), "experiments").to_pylist()[0]["data_fingerprint"] is None
    options = CommonOptions(results=str(tmp_path), name="run", resume=True)
    resumed = Experiment("grow", options, {}, data=load_dataset("digits"))
    resumed.start("", 0)
    assert read_table(str(tmp_path), "experiments").to_pylist()[0]["data_fingerprint"]


def test_an_option_that_came_later_is_no_other_option_unless_it_is_given(tmp_path: Path) -> None:
    now = CommonOptions(results=str(tmp_path), name="old")
    before = {name: value for name, value in now.model_dump(mode="json").items() if name != "balance"}
    before["standardise"] = False  # as it was where None stands now
    experiment = Experiment("grow", now, before)
    experiment.start("", 0)
    experiment.end("", "interrupted")
    resumed = now.model_copy(update={"resume": True})
    assert Experiment("grow", resumed).rows[""]["status"] == "interrupted"
    with pytest.raises(UserError, match=r"other options \(balance was None, is True\)"):
        Experiment("grow", resumed.model_copy(update={"balance": True}))
