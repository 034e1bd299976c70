"""`--tracker`, as an experiment and the line have it: a process beside the work, which nothing there can hold up."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest
from helpers import tracker_cases
from helpers.process_cases import wait_until
from helpers.tracker_cases import NAME, single, write, write_begun, write_ended

from search.commands.grow.command import GrowOptions
from search.options import checked
from search.session.experiment import Experiment
from search.trackers import process
from search.trackers.registry import TRACKERS, look_at
from structnet.errors import UserError

# As the process itself, but for how often it looks.
OFTEN = """
import sys
import search.trackers.__main__ as beside
beside.SECONDS = 0.1
beside.main(*sys.argv[1:])
"""


def experiment_of(results: Path, **options: Any) -> Experiment:
    return Experiment("grow", GrowOptions(results=str(results), name=NAME, **options))


def test_an_experiment_has_its_trackers_follow(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    experiment = experiment_of(tmp_path, tracker=("tensorboard",))
    experiment.start("", 0)
    write(tmp_path, "rounds", "round-0000", {"trial": "", "round": 0, "steps": 7, "loss": 0.5})
    experiment.end("", "finished", test_accuracy=0.25)
    told = tracker_cases.in_tensorboard(tmp_path)
    seconds = experiment.rows[""]["seconds"]
    assert told == single(
        Counter(
            {
                (NAME, "rounds/steps", 7, 7.0): 1,
                (NAME, "rounds/loss", 7, 0.5): 1,
                (NAME, "experiments/seconds", 0, seconds): 1,
                (NAME, "experiments/test_accuracy", 0, 0.25): 1,
            }
        )
    )


def test_the_process_looks_without_being_asked(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    words = [sys.executable, "-c", OFTEN, str(tmp_path), NAME, "tensorboard"]
    with subprocess.Popen(words, stdin=subprocess.PIPE) as follows:
        expected = write_begun(tmp_path)
        wait_until(
            lambda: tracker_cases.in_tensorboard(tmp_path) == single(expected), "it has what was begun"
        )
        # When its input ends it looks once more.
        follows.send_signal(signal.SIGSTOP)
        expected += write_ended(tmp_path)
        assert follows.stdin is not None
        follows.stdin.close()
        follows.send_signal(signal.SIGCONT)
    assert follows.returncode == 0
    assert tracker_cases.in_tensorboard(tmp_path) == single(expected)


def test_who_joins_an_experiment_has_no_trackers_of_its_own(tmp_path: Path) -> None:
    experiment_of(tmp_path).start("", 0)
    options = GrowOptions(results=str(tmp_path), name=NAME, resume=True, tracker=("tensorboard",))
    assert Experiment("grow", options, joins=True)._trackers == []


def test_ctrl_c_does_not_reach_the_process_and_it_ends_with_its_experiment(tmp_path: Path) -> None:
    before = set(psutil.Process().children())
    experiment = experiment_of(tmp_path, tracker=("tensorboard",))
    experiment.start("", 0)
    (follows,) = set(psutil.Process().children()) - before
    assert os.getpgid(follows.pid) != os.getpgrp()
    del experiment
    gc.collect()
    follows.wait(30)


def instead(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    """Has a shell script run in the place of the process that follows."""
    file = folder / "instead"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    monkeypatch.setattr(process.sys, "executable", str(file))


def test_a_tracker_that_hangs_does_not_hold_the_experiment_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    instead(monkeypatch, tmp_path, "exec sleep 9")
    monkeypatch.setattr(process, "PATIENCE", 2.0)
    experiment = experiment_of(tmp_path, tracker=("mlflow",))
    began = time.monotonic()
    for trial in ("one", "two", "three"):
        experiment.start(trial, 0)
        experiment.end(trial, "finished")
    assert 2 < time.monotonic() - began < 5
    said = "Tracker mlflow is not done after 2 seconds: it gets the rest in the background"
    assert capsys.readouterr().out == f"{said}\n"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("exit 3", "its process ended with 3"),
        ("kill -9 $$", "its process ended with -9"),
    ],
)
def test_a_process_that_dies_is_said_and_left(
    script: str,
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    instead(monkeypatch, tmp_path, script)
    experiment = experiment_of(tmp_path, tracker=("mlflow",))
    experiment.start("", 0)
    experiment.end("", "interrupted")
    experiment.start("", 0)
    experiment.end("", "finished")
    assert (
        capsys.readouterr().out == f"Tracker mlflow is left ({reason}): the experiment goes on without it\n"
    )
    assert experiment.finished("")


def test_a_process_that_cannot_be_started_is_said_and_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(process.sys, "executable", str(tmp_path / "nothing"))
    experiment = experiment_of(tmp_path, tracker=("mlflow",))
    experiment.start("", 0)
    experiment.end("", "interrupted")
    experiment.start("", 0)
    experiment.end("", "finished")
    (said,) = capsys.readouterr().out.splitlines()
    assert said.startswith("Tracker mlflow is left (FileNotFoundError: ")
    assert experiment.finished("")


def test_trackers_are_checked_before_anything_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="'sacred', but must be one of tensorboard, mlflow, wandb, trackio"):
        checked(GrowOptions, {"tracker": ["sacred"]})
    monkeypatch.setattr("search.trackers.registry.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"mlflow is not installed: pip install 'structnet\[mlflow\]'"):
        checked(GrowOptions, {"tracker": ["mlflow"]})


@pytest.mark.parametrize("name", TRACKERS)
def test_a_tracker_of_results_in_a_store_needs_a_place(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.trackers.registry.find_spec", lambda name: name)
    for place in TRACKERS[name].places:
        monkeypatch.delenv(place, raising=False)
    told = {"tracker": [name], "results": "memory://results"}
    way = f"set {TRACKERS[name].places[0]}" if TRACKERS[name].places else "choose another tracker"
    with pytest.raises(UserError, match=f"results is 'memory://results': {way}, or choose a folder"):
        checked(GrowOptions, told)
    for place in TRACKERS[name].places:
        monkeypatch.setenv(place, "somewhere")
        assert checked(GrowOptions, told).tracker == (name,)
        assert look_at(name, "memory://results") == f"In {name}: where {place} says"
        monkeypatch.delenv(place)


def test_where_to_look_is_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert (
        look_at("tensorboard", "results")
        == "In tensorboard: tensorboard --logdir results/trackers/tensorboard"
    )
