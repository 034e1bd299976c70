"""What the tests of trackers share: an experiment in tables, and what the stores of trackers have of it."""

from __future__ import annotations

import json
import os
import sqlite3
import struct
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from search.trackers.registry import Begun, Point
from structnet.storage.tables import TableWriter

NAME = "first"
BEGAN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
CONFIG = {
    "epochs": 2,
    "learning_rate": 0.1,
    "actions": "patch",
    "label": None,
    "balance": False,
    "vary": ["a"],
}

# (run, metric, step, value), each as often as it is there: what a tracker has.
Told = Counter[tuple[str, str, int, float]]


def write(results: Path | str, table: str, part: str, *rows: Mapping[str, Any]) -> None:
    """Writes rows of the experiment; those of `experiments` need no more than what is to be looked at."""
    if table == "experiments":
        always = {"command": "grow", "rng_seed": 3, "started_at": BEGAN, "config": json.dumps(CONFIG)}
        rows = tuple({"status": "running", **always, **row} for row in rows)
    TableWriter(str(results), NAME).write(table, part, rows)


def write_begun(results: Path | str) -> Told:
    """An experiment that runs, with rows in every table that is followed; what a tracker has to have of it."""
    third = 1 / 3
    write(results, "experiments", "run", {"trial": "", "seconds": 1.0})
    write(results, "rounds", "round-0000", {"trial": "", "round": 0, "steps": 0, "accuracy": third})
    write(
        results,
        "rounds",
        "round-0001",
        {
            "trial": "",
            "round": 1,
            "steps": 40,
            "accuracy": 2 * third,
            "gain": -1e-7,
            "parameter_steps": 2**40,
        },
    )
    for network in "ab":
        row = {"trial": "block", "network": network, "epoch": 1, "loss": 2.5, "accuracy": third}
        write(results, "epochs", f"{network}-1", row)
    write(results, "measurements", "task", *_measurements())
    write(
        results,
        "fronts",
        "round-0001",
        {"trial": "", "round": 1, "parameters": 80, "holds": True, "chosen": False},
    )
    return Counter(
        {
            (NAME, "rounds/steps", 0, 0.0): 1,
            (NAME, "rounds/accuracy", 0, third): 1,
            (NAME, "rounds/steps", 40, 40.0): 1,
            (NAME, "rounds/accuracy", 40, 2 * third): 1,
            (NAME, "rounds/gain", 40, -1e-7): 1,
            (NAME, "rounds/parameter_steps", 40, float(2**40)): 1,
            ("first/block/a", "epochs/loss", 1, 2.5): 1,
            ("first/block/a", "epochs/accuracy", 1, third): 1,
            ("first/block/b", "epochs/loss", 1, 2.5): 1,
            ("first/block/b", "epochs/accuracy", 1, third): 1,
            ("first/task", "measurements/too dear:rigl", 0, 0.7): 1,
            ("first/task", "measurements/too dear:rigl", 1, 0.8): 1,
            (NAME, "fronts/parameters", 80, 80.0): 1,
        }
    )


def write_ended(results: Path | str, status: str = "finished") -> Told:
    """The rest of that experiment; what a tracker has to have beside what it had."""
    row = {"trial": "block", "network": "a", "epoch": 2, "loss": 1.5, "accuracy": 0.9}
    write(results, "epochs", "a-2", row)
    networks = [
        {"trial": "block", "network": "b", "status": "culled", "accuracy": 0.25},
        {"trial": "block", "network": "a", "status": "finished", "accuracy": 0.9, "test_accuracy": 0.85},
    ]
    write(results, "networks", "block", *networks)
    # Written again, with what is known at the end alone.
    front = {"trial": "", "round": 1, "parameters": 80, "holds": True, "chosen": True, "test_accuracy": 0.5}
    write(results, "fronts", "round-0001", front)
    write(
        results,
        "experiments",
        "run",
        {"trial": "", "status": status, "seconds": 9.0, "test_accuracy": 0.6, "steps": 40},
    )
    return Counter(
        {
            ("first/block/a", "epochs/loss", 2, 1.5): 1,
            ("first/block/a", "epochs/accuracy", 2, 0.9): 1,
            (NAME, "networks/accuracy", 1, 0.25): 1,
            (NAME, "networks/accuracy", 2, 0.9): 1,
            (NAME, "networks/test_accuracy", 2, 0.85): 1,
            (NAME, "fronts/test_accuracy", 80, 0.5): 1,
            (NAME, "experiments/seconds", 40, 9.0): 1,
            (NAME, "experiments/test_accuracy", 40, 0.6): 1,
            (NAME, "experiments/steps", 40, 40.0): 1,
        }
    )


def _measurements() -> Iterator[dict[str, Any]]:
    for item, value in enumerate((0.7, 0.8)):
        yield {
            "trial": "task",
            "quantity": "too dear:rigl",
            "item": item,
            "arm": "dear",
            "rng_seed": 4,
            "value": value,
        }


class Memory:
    """An adapter that keeps what it is told. calls: what it was asked, in order."""

    def __init__(self) -> None:
        self.told: Told = Counter()
        self.params: dict[str, dict[str, Any]] = {}
        self.calls: list[tuple[Any, ...]] = []

    def begin(self, run: str, params: Mapping[str, Any], before: Begun | None) -> str:
        self.calls.append(("begin", run, before))
        self.params[run] = dict(params)
        return before.id if before else f"id of {run}"

    def log(self, run: str, points: Sequence[Point]) -> None:
        self.calls.append(("log", run, len(points)))
        for point in points:
            self.told.update((run, name, point.step, value) for name, value in point.named().items())

    def end(self, run: str, status: str) -> None:
        self.calls.append(("end", run, status))


def started(results: Path, tracker: str) -> subprocess.Popen[str]:
    """The process that follows the experiment, which answers lines; without variables that say where it writes."""
    apart = ("MLFLOW_", "WANDB_", "TRACKIO_")
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "search.trackers", str(results), NAME, tracker],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={name: value for name, value in os.environ.items() if not name.startswith(apart)},
    )


def answer(process: subprocess.Popen[str]) -> list[str]:
    """What a process that follows has to say, up to its having told all that is written."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    said = []
    while (line := process.stdout.readline()) != "\n":
        assert line, "the process has ended"
        said.append(line.strip())
    return said


# What stores have


def in_tensorboard(results: Path) -> Told:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    root, told = results / "trackers/tensorboard", Counter()
    for folder in {file.parent for file in root.rglob("events.out.*")}:
        events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
        events.Reload()
        for tag in events.Tags()["scalars"]:
            run = str(folder.relative_to(root))
            told.update((run, tag, event.step, event.value) for event in events.Scalars(tag))
    return told


def in_mlflow(results: Path) -> Told:
    told: Told = Counter()
    for run in mlflow_runs(results):
        for metric in run.data.metrics:
            for each in mlflow_client(results).get_metric_history(run.info.run_id, metric):
                told[run.info.run_name, metric, each.step, each.value] += 1
    return told


def mlflow_client(results: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own libraries
        from mlflow.tracking import MlflowClient

        return MlflowClient(f"sqlite:///{results}/trackers/mlflow/mlflow.db")


def mlflow_runs(results: Path) -> list[Any]:
    client = mlflow_client(results)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        project = client.get_experiment_by_name("structnet")
        return list(client.search_runs([project.experiment_id]))


def in_wandb(results: Path) -> Told:
    """Of all files of all runs, whose own steps have to go on from file to file."""
    told: Told = Counter()
    points: Counter[str] = Counter()
    for file in sorted((results / "trackers/wandb/wandb").glob("offline-run-*/run-*.wandb"), key=_age):
        records = list(_records(file))
        (run,) = {record.run.display_name for record in records if record.HasField("run")}
        for record in records:
            if not record.HasField("history"):
                continue
            item = {each.key or "/".join(each.nested_key): each.value_json for each in record.history.item}
            values = {name: json.loads(value) for name, value in item.items() if not name.startswith("_")}
            (table,) = {name.partition("/")[0] for name in values}
            step = values.pop(f"{table}/step")
            told.update((run, name, step, float(value)) for name, value in values.items())
            assert record.history.step.num == points[run]
            points[run] += 1
    return told


def _age(file: Path) -> float:
    return file.stat().st_mtime


def _records(file: Path) -> Iterator[Any]:
    """The records of a file of W&B: 7 bytes, then LevelDB's log, in blocks of 32 KiB."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, whole = file.read_bytes(), 7, b""
    while place + 7 <= len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # all of it, or its last part
            record = Record()
            record.ParseFromString(whole)
            yield record
            whole = b""


def in_trackio(results: Path) -> Told:
    told: Told = Counter()
    with sqlite3.connect(results / "trackers/trackio/structnet.db") as store:
        rows = store.execute("select run_id, run_name, step, metrics from metrics").fetchall()
    assert len({row[0] for row in rows}) == len({row[1] for row in rows})
    for _, run, step, metrics in rows:
        told.update((run, name, step, value) for name, value in json.loads(metrics).items())
    return told


def single(told: Told) -> Told:
    """The same as float32 has it."""
    return Counter(
        {
            (run, name, step, float(np.float32(value))): count
            for (run, name, step, value), count in told.items()
        }
    )
