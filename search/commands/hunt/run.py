"""`structnet hunt`: which small sparse networks are worth growing, out of thousands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from search.commands.hunt.command import HuntOptions
from search.grid.options import GridOptions
from search.grid.progress import GridProgress
from search.grid.train_grid import fitted, saved, train_grid
from search.grid.trials import by_trial
from search.options import numbers
from search.session.console import Console, outcome
from search.session.experiment import Experiment
from search.session.run import (
    architecture_of,
    check_maps,
    load_data,
    on_ray,
    one_thread,
    print_outcome,
    recorded,
    unfinished,
)
from search.session.tables import table_of
from search.tune.trials import Factory
from structnet.data.dataset import Dataset
from structnet.storage.snapshot import load_snapshot, remove_snapshot
from structnet.storage.tables import TableWriter
from structnet.training.evaluation import chance_accuracy, evaluate
from structnet.trials.champions import MARGIN, champions
from structnet.trials.cohort import CohortWork
from structnet.trials.grid import Member, blocks_of, grid

# Hidden widths of the default grid, beside none: single layers, funnels, columns.
HIDDEN = (
    "16 32 64 128 256 512 24 48 96 64-32 128-32 128-64 256-64 256-128 512-64 512-128 512-256 128-64-32 "
    "256-128-64 256-64-32 512-256-128 512-128-64 512-256-64 1024 2048 64-64-64 64-64-64-64-64"
)
GRID = " ".join(["input-classes", *(f"input-{widths}-classes" for widths in HIDDEN.split())])
DENSITIES = "0.001,0.002,0.005,0.01,0.02,0.05,0.1,0.2"


def run(options: HuntOptions) -> None:
    """Runs the command."""
    console = Console()
    data = load_data(options)
    options = fitted(options, data)
    hunt(members_of(options, data), data, options, console)


def hunt(
    members: Sequence[Member],
    data: Dataset,
    options: HuntOptions,
    console: Console,
    *,
    factory: Factory = CohortWork,
    progress: Callable[..., GridProgress] = GridProgress,
) -> None:
    """Everything from the experiment's first row to the champions on the console.

    factory and progress: what trains a block, and what is told of it; a benchmark has its own.
    """
    experiment = unfinished("hunt", options, console, data)
    if experiment is None:
        return
    console.say(
        f"Hunting among {len(members):,} networks in {len(blocks_of(members))} blocks on {data.name}, "
        f"{options.epochs} epochs each{', culled at 40 and 60 %' if options.cull else ''}, {options.workers} workers; "
        f"experiment {experiment.name}"
    )
    with on_ray(options), recorded(experiment, console, rng_seed=options.rng_seed):
        rows = train_grid(members, data, options, experiment, console, factory=factory, progress=progress)
        found = judge_champions(rows, data, options, experiment)
        experiment.end("", "finished", **summary_columns(found))
    print_status(rows, console)
    print_champions(found, chance_accuracy(data.validation.labels, data.classes), console)
    columns = "network, density, parameters, accuracy, efficiency, patchability, test_accuracy, snapshot"
    sql = f"select {columns} from networks where experiment = '{experiment.name}' order by accuracy desc limit 20"
    print_outcome(experiment, sql, console)


def members_of(options: HuntOptions, data: Dataset) -> list[Member]:
    """The grid of the options; raises UserError for what does not fit the data."""
    texts = options.architectures.replace(",", " ").split()
    architectures = [architecture_of(text, data) for text in texts]
    for shape in architectures:
        check_maps(shape, options)
    densities = numbers("densities", options.densities)
    seeds = range(options.rng_seed, options.rng_seed + options.rng_seeds)
    return grid(architectures, densities, seeds, [options.allocation], limit=options.limit)


Champions = dict[tuple[str, float | None], dict[str, Any]]


def judge_champions(rows: pa.Table, data: Dataset, options: GridOptions, experiment: Experiment) -> Champions:
    """Reads the test set once for the champions alone, and gives up the snapshots of all others.

    rows: of all networks, sorted by block. Every block saved its best networks, so the champions are among them. A
    snapshot goes before its row is written again, so a run that dies in between finds what is left to give up when it
    is resumed.
    """
    there = saved(rows)
    found = champions(there)
    tested = {row["network"]: row for row in found.values()}
    with one_thread():
        for row in tested.values():
            network = load_snapshot(row["snapshot"]).state.network
            row["test_accuracy"] = evaluate(network, data.test).accuracy
    given_up = [row["snapshot"] for row in there if row["network"] not in tested]
    for path in given_up:
        remove_snapshot(path)
    writer = TableWriter(options.results, experiment.name)
    for block, members in by_trial(rows):
        if any(row["snapshot"] for row in members):
            judged = [tested.get(row["network"], row | {"snapshot": None}) for row in members]
            writer.write("networks", block, judged)
    return found


def summary_columns(found: Champions) -> dict[str, Any]:
    """The columns of the experiment: those of the most accurate network."""
    row = found.get(("accuracy", None))
    names = ("parameters", "accuracy", "test_accuracy", "snapshot")
    return {name: row[name] for name in names} if row else {}


def print_status(rows: pa.Table, console: Console) -> None:
    """How many networks ended in which way."""
    counts = {found["values"]: found["counts"] for found in pc.value_counts(rows["status"]).to_pylist()}
    console.say(", ".join(f"{count:,} {name}" for name, count in sorted(counts.items())))


def print_champions(found: Champions, chance: float, console: Console) -> None:
    """The best by every criterion, of all and of each density."""
    headings = (
        "parameters",
        "multiply-adds",
        "accuracy",
        "points/1,000 parameters",
        "patchability",
        "test",
    )
    table = table_of(("best by", "density", "network"), headings)
    for (criterion, density), row in found.items():
        patchability = row["patchability"]
        table.add_row(
            criterion,
            "all" if density is None else f"{density:g}",
            row["network"],
            f"{row['parameters']:,}",
            "" if row["macs"] is None else f"{row['macs']:,}",
            f"{row['accuracy']:.4f}",
            f"{1e5 * row['efficiency']:.1f}",
            "" if patchability is None else f"{patchability:.3f}",
            f"{row['test_accuracy']:.4f}",
        )
    console.show(table)
    outcome(
        champions=[{"by": name, "density": density, **row} for (name, density), row in found.items()],
        chance=chance,
    )
    console.say(
        f"Chance on validation is {chance:.4f}. Patchable is the one with the largest error of those with hidden "
        f"units that have learned (accuracy from {chance + MARGIN:.4f} on): a patch is predicted to gain most there."
    )
