"""Commands with `--tracker`: what Trackio has equals their tables, also where a command was killed and resumed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from helpers.command_cases import GROWN, structnet
from helpers.fault_cases import below, end_all
from helpers.process_cases import process, wait_until
from helpers.tracker_cases import NAME, Told, in_trackio

from structnet.storage.schemas import INT, KEYS, REAL, SCHEMAS
from structnet.storage.tables import list_parts, read_table

pytestmark = pytest.mark.slow

STEPS = {
    "rounds": "steps",
    "epochs": "epoch",
    "fronts": "parameters",
    "measurements": "item",
    "experiments": "steps",
}
COMMANDS = {
    "grow": ("grow", *GROWN, "--repeats=2"),
    "hunt": ("hunt", "--architectures=input-classes input-8-classes", "--densities=0.1,0.3", "--rng-seeds=2"),
    "evolve": ("evolve", "--methods=set,static", "--parameters=200", "--rng-seeds=2"),
    "study": ("study", "allocation", "--quick", "--dataset=digits"),
}


def in_tables(results: Path) -> Told:
    """Every number of every row that is followed; of `networks` without its step, which is when the row came."""
    told: Told = Counter()
    for table, step in [*STEPS.items(), ("networks", "")]:
        hidden = {*KEYS[table], "rng_seed"}
        names = [
            field.name for field in SCHEMAS[table] if field.type in (INT, REAL) and field.name not in hidden
        ]
        for row in read_table(str(results), table, NAME).to_pylist():
            trial = "" if table == "networks" else row["trial"]
            run = "/".join(
                part for part in (NAME, trial, row["network"] if table == "epochs" else "") if part
            )
            for name in names:
                if row[name] is not None:
                    shown = row["quantity"] if table == "measurements" else name
                    told[run, f"{table}/{shown}", (row[step] or 0) if step else 0, row[name]] += 1
    return told


def in_tracker(results: Path) -> Told:
    """What Trackio has; the steps of networks are 1, 2, 3…"""
    told: Told = Counter()
    steps = set()
    for (run, name, step, value), count in in_trackio(results).items():
        if name.startswith("networks/"):
            steps.add(step)
            step = 0
        told[run, name, step, value] += count
    assert steps == set(range(1, len(steps) + 1))
    return told


@pytest.mark.parametrize("command", COMMANDS)
def test_the_tracker_has_what_the_tables_have(command: str, tmp_path: Path, ray_session: None) -> None:
    pytest.importorskip("trackio")
    few = [] if command in ("grow", "study") else ["--epochs=3"]
    done = structnet(*COMMANDS[command], *few, "--name", NAME, "--tracker", "trackio", cwd=tmp_path)
    assert done.code == 0, done.out + done.err
    assert "In trackio: TRACKIO_DIR=results/trackers/trackio trackio show" in done.out
    assert not [line for line in done.out.splitlines() if line.startswith("Tracker")]
    results = tmp_path / "results"
    assert in_tracker(results) == in_tables(results)


def test_a_command_that_was_killed_goes_on_in_its_run(tmp_path: Path, short: Path) -> None:
    pytest.importorskip("trackio")
    results = tmp_path / "results"
    line = ("grow", *GROWN, "--rounds=6", "--epochs=12", "--name", NAME, "--tracker", "trackio")
    driver = process(*line, cwd=tmp_path, RAY_TMPDIR=str(short))
    family: dict[int, Any] = {}
    try:
        wait_until(lambda: len(list_parts(str(results), "rounds", NAME)) > 2, "two rounds were done")
        family = below(driver.pid)
    finally:
        driver.kill()
        driver.communicate()
        end_all(family)
    again = process(*line, "--resume", cwd=tmp_path, RAY_TMPDIR=str(short))
    out, err = again.communicate()
    assert again.returncode == 0, out + err
    assert in_tracker(results) == in_tables(results)
