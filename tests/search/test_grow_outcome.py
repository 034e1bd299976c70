"""What `grow` compares its network with: a rival of the same size and cost, in the table and in what is printed."""

from __future__ import annotations

import re
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

import search.commands.grow.run as grow
from search.commands.grow import fitting
from search.commands.grow.command import GrowOptions
from search.session.console import Console
from search.session.experiment import Experiment
from structnet.data.datasets import load_dataset
from structnet.storage.tables import TableWriter, read_table
from structnet.training.loop import Diverged
from tournament.workers import work
from tournament.workers.pool import InlinePool

SMALL = {
    "architecture": "64-32-10",
    "epochs": 4,
    "rounds": 1,
    "max_parameters": 200,
    "batch_size": 32,
    "repeats": 2,
}


@pytest.fixture
def grown(tmp_path: Path) -> Callable[..., tuple[str, list[dict[str, Any]]]]:
    """Grows in this process with these rng_seeds: (what was printed, rows of `experiments`)."""

    def go(*seeds: int, **given: Any) -> tuple[str, list[dict[str, Any]]]:
        data, said = load_dataset("digits"), StringIO()
        told = {"results": str(tmp_path), "name": "first", **SMALL, **given}
        options = fitting.fitted_to(GrowOptions(**told), data)
        experiment, pool, console = (
            Experiment("grow", options),
            InlinePool(data),
            Console(file=said, width=200),
        )
        for seed in seeds:
            grow.grow_one(options, data, experiment, pool, seed, f"seed-{seed:04d}", console)
        pool.close()
        grow._summarise([], options, experiment, console)
        return said.getvalue(), read_table(str(tmp_path), "experiments", "first").to_pylist()

    return go


def test_the_printed_opponent_has_the_size_and_the_cost_of_the_run(
    grown: Callable[..., tuple[str, list[dict[str, Any]]]],
) -> None:
    said, rows = grown(0, 1)
    numbers = r"RigL of ([\d,]+) parameters in ([\d-]+), for ([\d.]+) million parameter-steps \(the run took ([\d.]+)\)"
    shares = r": validation ([\d.]+)%, test ([\d.]+)%"
    found = re.findall(numbers + shares, said)
    assert len(found) == len(rows) == 2
    for (size, shape, given, took, validation, test), row in zip(found, rows):
        assert int(size) == row["parameters"] and shape == "64-32-10"
        cost = row["parameter_steps_all"] / 1e6
        assert float(took) == round(cost, 2) and float(given) == pytest.approx(cost, abs=0.006)
        assert float(validation) == round(100 * row["rival_accuracy"], 2)
        assert float(test) == round(100 * row["rival_test_accuracy"], 2)
        assert row["dense_accuracy"] and row["dense_test_accuracy"]
    assert "Dense network of" not in said
    mean = sum(row["rival_test_accuracy"] for row in rows) / 2
    assert f"rival_test_accuracy: mean {mean:.4f}" in said and "dense_test_accuracy" not in said


def test_an_opponent_that_diverges_does_not_lose_the_run(
    grown: Callable[..., tuple[str, list[dict[str, Any]]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverges(*_: Any) -> None:
        raise Diverged("the loss is nan")

    monkeypatch.setattr(work, "evolve_steps", diverges)
    said, (row,) = grown(0)
    assert "No opponent: RigL in 64-32-10 failed (Diverged: the loss is nan)" in said
    assert row["status"] == "finished" and row["test_accuracy"] > 0.2 and row["dense_test_accuracy"]
    assert row["rival_accuracy"] is None and row["rival_test_accuracy"] is None


def test_without_opponents_there_is_nothing_to_compare_with(
    grown: Callable[..., tuple[str, list[dict[str, Any]]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work.TrainRigl, "run", lambda *_: pytest.fail("trained"))
    monkeypatch.setattr(work.TrainDense, "run", lambda *_: pytest.fail("trained"))
    said, (row,) = grown(0, opponents=False)
    assert "Grown:" in said and "Its opponent trains" not in said and "RigL" not in said
    assert row["status"] == "finished" and row["rival_accuracy"] is None and row["dense_accuracy"] is None


def test_repeats_that_ended_before_there_was_a_rival_are_summarised(
    grown: Callable[..., tuple[str, list[dict[str, Any]]]], tmp_path: Path
) -> None:
    _, (row,) = grown(0)
    # As an older version wrote it.
    old = {name: value for name, value in row.items() if name != "experiment" and "rival" not in name}
    TableWriter(str(tmp_path), "first").write("experiments", "seed-0000", [old])
    said, rows = grown(1, resume=True)
    assert [row["rival_accuracy"] is None for row in rows] == [True, False]
    assert re.search("^test_accuracy: .* over 2 rng_seeds$", said, re.MULTILINE)
    assert "rival_test_accuracy" not in said  # one number has no spread
    said, _ = grown(2, resume=True)
    assert re.search("^rival_test_accuracy: .* over 2 rng_seeds$", said, re.MULTILINE)
