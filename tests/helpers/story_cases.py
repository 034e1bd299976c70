"""Experiments written by hand, one of every command whose story is of many networks, and what their reports say."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from typing import Any, NamedTuple

from helpers.report_cases import BEGAN, write_run

from search.report.blocks import Page, Story, Table
from search.report.page import html_of
from search.report.records import Records
from search.report.reports import page_of
from search.report.stories import story_of

Row = dict[str, Any]
# What later versions have added: null in rows of before, and no option.
ADDED_LATER = (
    "majority",
    "balanced_accuracy",
    "bytes",
    "macs",
    "sides",
    "window",
    "flat",
    "data_fingerprint",
)
FOUND_LATER = ("plan", "base", "input_shape", "smaller_batches")
CHANCE = 0.1


@dataclass
class Case:
    """An experiment. trials: rows of `experiments` beside the one of the run. columns: of that."""

    command: str
    config: Row
    tables: dict[str, list[Row]]
    trials: list[Row] = field(default_factory=list)
    columns: Row = field(default_factory=dict)

    def write(self, results: Path, status: str = "finished") -> None:
        """All of its rows, as the experiment `first`."""
        config = json.dumps({"dataset": "digits", "architecture": "input-4-classes", **self.config})
        columns = {"command": self.command, "config": config, "status": status, **self.columns}
        writer = write_run(results, "first", **columns)
        for trial in self.trials:
            write_run(results, "first", **{**columns, **trial})
        for table, rows in self.tables.items():
            if rows:
                writer.write(table, "rows", rows)

    def of_before(self) -> Case:
        """The same, written by a version that did not know what has come since."""
        tables = {
            table: [{name: value for name, value in row.items() if name not in ADDED_LATER} for row in rows]
            for table, rows in self.tables.items()
        }
        config = {name: value for name, value in self.config.items() if name not in FOUND_LATER}
        return Case(self.command, config, tables, self.trials, dict.fromkeys(ADDED_LATER) | self.columns)


class Told(NamedTuple):
    """What a report says: the story, the page around it, the text of that, and its charts by name as Vega-Lite."""

    story: Story
    page: Page
    text: str
    charts: dict[str, dict[str, Any]]


def told(results: Path, *, drawn: bool = True) -> Told:
    """What the report of `first` says. drawn: whether the page is made; else its text is empty."""
    records = Records(str(results), "first")
    story = story_of(records)
    page = page_of(records, story, BEGAN)
    charts = {chart.name: chart.specification for chart in page.charts}
    assert len(charts) == len(page.charts), "charts have names of their own"
    text = re.sub("<(script|style).*?</\\1>", "", html_of(page), flags=re.DOTALL) if drawn else ""
    return Told(story, page, unescape(text), charts)


def values_of(chart: Mapping[str, Any], name: str) -> list[Any]:
    """All values of a field in the rows of a chart, of whichever layer."""
    return [row[name] for rows in chart["datasets"].values() for row in rows if name in row]


def network(name: str, accuracy: float | None, parameters: int = 100, **columns: Any) -> Row:
    """A row of `networks`, as a grid writes it."""
    return {
        "trial": "block-0000",
        "network": name,
        "architecture": [64, 4, 10],
        "density": 0.5,
        "density_real": 0.5,
        "rng_seed": 0,
        "parameters": parameters,
        "parameters_dense": 400,
        "epochs": 2,
        "loss": 1.0,
        "accuracy": accuracy,
        "information": 1.5,
        "hidden_units": 4,
        "saturated": 1,
        "dead": 1,
        "majority": CHANCE,
        "efficiency": None if accuracy is None else (accuracy - CHANCE) / parameters,
        "bytes": 4 * parameters,
        "macs": parameters - 14,
        "status": "finished",
        **columns,
    }


def failed(name: str, **columns: Any) -> Row:
    """A row of a network whose training diverged."""
    row = network(name, None, **columns)
    return {
        **row,
        "status": "failed",
        "error": "training diverged in epoch 1",
        "loss": None,
        "information": None,
    }


def epochs_of(rows: Iterable[Row], count: int = 2, **columns: Any) -> list[Row]:
    """Rows of `epochs` of these networks: half of the accuracy, and then all of it."""
    return [
        {
            "trial": row["trial"],
            "network": row["network"],
            "epoch": epoch,
            "parameters": row["parameters"],
            "learning_rate": 0.01 / epoch,
            "train_loss": 2.0 / epoch,
            "loss": 2.1 / epoch,
            "accuracy": row["accuracy"] * epoch / count,
            "seconds": 0.5,
            **columns,
        }
        for row in rows
        if row["accuracy"] is not None
        for epoch in range(1, count + 1)
    ]


def hunted() -> Case:
    """Six networks: one culled, one failed. The most accurate has 0.9, the most efficient 0.5 with 10 parameters."""
    rows = [
        network(
            "big", 0.9, 300, patchability=0.05, test_accuracy=0.88, snapshot="results/snapshots/first/big"
        ),
        network("lean", 0.5, 10, architecture=[64, 10], hidden_units=0, density=0.1, test_accuracy=0.49),
        network("weak", 0.25, 50, patchability=0.375, density=0.1, test_accuracy=0.24),
        network("middle", 0.7, 100, rng_seed=1, patchability=0.15),
        network("gone", 0.21, 60, status="culled", epochs=1, density=0.1, patchability=0.395),
        failed("wild"),
    ]
    config = {"architectures": "input-4-classes input-classes", "densities": "0.1,0.5", "rng_seeds": 2}
    return Case("hunt", config, {"networks": rows})


LADDER = (0.5, 0.2, 0.1, 0.01, 0.001)


def laddered() -> Case:
    """Two rng_seeds, proportional with a cliff at 10^-2.5 for both, uniform that never falls."""
    curves = {"": [0.92, 0.9, 0.88, 0.7, 0.3], "_uniform": [0.9, 0.9, 0.9, 0.8, 0.75]}
    rows = [
        network(
            f"64-4-10_d{density:g}{share}_s{seed}",
            accuracy,
            14 + round(density * 296),
            density=density,
            density_real=density,
            rng_seed=seed,
        )
        for share, curve in curves.items()
        for density, accuracy in zip(LADDER, curve)
        for seed in (0, 1)
    ]
    config = {"allocation": "both", "densities": ",".join(map(str, LADDER)), "rng_seeds": 2}
    return Case("ladder", config, {"networks": rows, "epochs": epochs_of(rows)})


ARMS = {"static": 0.2, "growth": 0.7, "random": 0.3, "rewire": 0.65}


def rescued() -> Case:
    """Three rng_seeds that are rescued over a plateau of 0.9: growth leads random by 40 points, rewire by 5 ± 10."""
    dense = [
        network(f"64-4-10_d{density:g}_s{seed}", 0.9, density=density, rng_seed=seed)
        for density in (0.5, 0.2, 0.1)
        for seed in (0, 1, 2)
    ]
    # What an arm of one rng_seed has more than its mean.
    more = {
        "static": (0.0, 0.0, 0.0),
        "growth": (0.0, 0.01, -0.01),
        "random": (0.0, 0.01, -0.01),
        "rewire": (0.1, -0.1, 0.0),
    }
    arms = [
        {
            **network(
                arm, ARMS[arm] + more[arm][seed], 60 if arm in ("growth", "random") else 50, rng_seed=seed
            ),
            "trial": f"seed-{seed:04d}",
            "majority": None,
            "snapshot": f"results/snapshots/first/{seed}" if arm == "growth" else None,
        }
        for seed in (0, 1, 2)
        for arm in ARMS
    ]
    config = {
        "mechanism": "patch",
        "density": 0.004,
        "rng_seeds": 3,
        "plateau": None,
        "allocation": "proportional",
    }
    return Case("rescue", config, {"networks": [*dense, *arms]})


def bootstrapped() -> Case:
    """Of two candidates the one of 40 parameters learns; hierarchical is 10 points better than random, each time."""
    grid = [
        network(f"{size}-{seed}", accuracy, size, rng_seed=seed, density=size / 100)
        for size, accuracies in ((20, (0.5, 0.15)), (40, (0.4, 0.5)), (80, (0.6, 0.8)))
        for seed, accuracy in enumerate(accuracies)
    ]
    arms = {"hierarchical": 0.8, "untrained": 0.75, "nested": 0.7, "random": 0.7, "random_longer": 0.72}
    started = [
        {
            **network(arm, accuracy + 0.02 * seed, 200, rng_seed=seed),
            "trial": f"seed-{seed:04d}-hierarchical",
            "snapshot": f"results/snapshots/first/{seed}-{arm}" if arm == "hierarchical" else None,
        }
        for seed in (0, 1)
        for arm, accuracy in arms.items()
    ]
    config = {"architectures": "input-4-classes", "densities": "0.2,0.4,0.8", "rng_seeds": 2, "margin": 0.1}
    return Case("bootstrap", config, {"networks": [*grid, *started]})


def swept() -> Case:
    """Two settings of grow over three rng_seeds: 20 epochs are 10 points better than 10, each time."""
    trials = [
        {
            "trial": f"set-{number:03d}-seed-{seed:04d}",
            "rng_seed": seed,
            "status": "finished",
            "config": json.dumps({"epochs": epochs, "l1": 0.0, "rng_seed": seed}),
            "accuracy": accuracy + 0.02 * seed,
            "test_accuracy": accuracy - 0.01,
            "parameters": parameters,
            "parameter_steps_all": 1000 * parameters,
        }
        for number, (epochs, accuracy, parameters) in enumerate([(10, 0.7, 150), (20, 0.8, 250)])
        for seed in (0, 1, 2)
    ]
    plan = {"set-000": {"epochs": 10}, "set-001": {"epochs": 20}}
    config = {"of": "grow", "set": ["l1=0"], "rng_seeds": 3, "plan": plan, "base": "set-000"}
    return Case("sweep", config, {}, trials)


def evolved() -> Case:
    """Two methods, two sizes, two rng_seeds: rigl is 5 points of test accuracy better than dense at each."""
    rows = [
        {
            **network(f"{method}_p{size}_s{seed}", accuracy, size, rng_seed=seed),
            "trial": "rivals-0000",
            "method": method,
            "max_parameters": size,
            "test_accuracy": accuracy,
            "test_loss": 0.5,
            "chosen_test_accuracy": accuracy - 0.01,
            "best_test_accuracy": accuracy + 0.01,
            "parameter_steps": 1000 * size,
            "multiply_adds": 50_000 * size,
        }
        for method, lead in (("dense", 0.0), ("rigl", 0.05))
        for size, base in ((100, 0.6), (400, 0.8))
        for seed, more in ((0, 0.0), (1, 0.02))
        for accuracy in (base + lead + more,)
    ]
    # Named first is what others are compared with, though it comes last by name.
    config = {"methods": "rigl,dense", "parameters": "100,400", "rng_seeds": 2}
    return Case("evolve", config, {"networks": rows, "epochs": epochs_of(rows)})


def learned_topology() -> Case:
    """SET and its control over three rng_seeds, on 4 × 4 pixels: all of the core of SET is in the centre."""
    rows, epochs, units = [], [], []
    for method, ratio in (("set", 1.5), ("blind", 1.0)):
        for seed in (0, 1, 2):
            name = f"{method}_e3_z0.3_w0_coupled_s{seed}"
            made = {
                **network(
                    name, 0.8, rng_seed=seed, architecture=[16, 4, 10], test_accuracy=0.75, test_loss=0.5
                ),
                "trial": "topology-0000",
                "method": method,
                "epsilon": 3.0,
                "zeta": 0.3,
                "weight_decay": 0.0,
                "decay": "coupled",
                "shrink_per_evolution": 0.0,
                "centre_ratio": 1.1,
                "core_centre_ratio": ratio + 0.01 * seed,
                "core_ring_ratio": 0.9,
            }
            rows.append(made)
            ratios = {"trend": [2.0, 1.0], "core_centre_ratio": ratio + 0.01 * seed}
            epochs += epochs_of([made], **ratios)
            units += [
                {
                    "trial": "topology-0000",
                    "network": name,
                    "epoch": epoch,
                    "link": "0→1",
                    "unit": unit,
                    "connections": 4,
                    "core_connections": (7 if unit in (5, 6, 9, 10) else 2 - epoch)
                    if method == "set"
                    else epoch,
                }
                for epoch in (1, 2)
                for unit in range(16)
            ]
    config = {"epsilons": "3", "rng_seeds": 3, "input_shape": [1, 4, 4]}
    return Case("topology", config, {"networks": rows, "epochs": epochs, "connectivity": units})


def trained() -> Case:
    """Three epochs of one network."""
    rows = epochs_of([{**network("train", 0.9), "trial": ""}], 3)
    columns = {"accuracy": 0.9, "test_accuracy": 0.87, "parameters": 100, "connections": 86}
    columns |= {"snapshot": "results/snapshots/first/epoch-00003"}
    config = {"epochs": 3, "workers": 2, "batch_size": 32, "smaller_batches": {"epoch 2": 16}}
    return Case("train", config, {"epochs": rows}, columns=columns)


CASES = {
    "hunt": hunted,
    "ladder": laddered,
    "rescue": rescued,
    "bootstrap": bootstrapped,
    "sweep": swept,
    "evolve": evolved,
    "topology": learned_topology,
    "train": trained,
}


def said(case: Case, results: Path, status: str = "finished", **how: Any) -> Any:
    case.write(results, status)
    return told(results, **how)


def tables_of(found: Any) -> list[Table]:
    """The tables of a story, in their order, but for those within other blocks."""
    return [block for section in found.story.sections for block in section.blocks if isinstance(block, Table)]
