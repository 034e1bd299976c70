"""`structnet bench hunt`: what a hunt gains by training many networks at once, and what it spends beside training.

cohort: a step of a cohort against the same step of the same networks one at a time as weights × mask. tune: a
whole hunt against one Ray Tune trial per network. overhead: the share of a real hunt in which its workers do not
train or evaluate. The other side of the first two is in `search.commands.bench.trials`; it sees the same batches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from statistics import mean, median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np

from search.commands.bench.command import HuntOptions as HuntBenchOptions
from search.commands.bench.measuring import (
    CPU,
    Pairs,
    Rows,
    benchmark_row,
    check_case,
    check_repeats,
    console_for_tables,
    ray_with,
    row_of_pairs,
    seconds_of,
    time_pairs,
    write_rows,
)
from search.commands.bench.sides import ADAMS, LEARNING_RATE, STEPS_IN_A_CALL
from search.commands.bench.trials import WAYS, MaskedTrial, fastest_adam, masked_steps, run_plain
from search.commands.hunt import COMMAND
from search.commands.hunt.run import members_of
from search.commands.hunt.run import run as run_hunt
from search.grid.train_grid import GridOptions, fitted, train_grid
from search.session.console import Console
from search.session.experiment import Experiment
from search.session.run import one_thread
from search.session.tables import table_of
from structnet.data.dataset import Dataset
from structnet.data.datasets import load_dataset
from structnet.data.packing import pack
from structnet.errors import UserError
from structnet.network.architecture import possible_connections
from structnet.network.network import StructNet
from structnet.network.state import TrainState
from structnet.storage.tables import read_table
from structnet.training.batches import steps_per_epoch
from structnet.training.cohort import Cohort
from structnet.training.loop import train_steps
from structnet.training.recipe import Recipe
from structnet.training.schedules import constant
from structnet.trials.grid import Member, grid

HIDDEN, DENSITY, BATCH = 64, 0.02, 128
COHORTS, MAIN_COHORT = (16, 64, 256, 1024), 256
# Hidden widths: 64 units on average, as HIDDEN.
MIXED: tuple[tuple[int, ...], ...] = ((), (16,), (32, 16), (64,), (96,), (64, 32, 16), (112,))
Shapes = tuple[tuple[int, ...], ...]
AGREEMENT_STEPS, AGREEMENT_NETWORKS = 24, 4
WORKERS, NETWORKS = 2, 200
# Trials of the shorter and of the longer run of each of WAYS; the difference is what further trials cost.
TRIALS = (6, 24), (10, 40)
COHORT_REPEATS, TUNE_REPEATS = 7, 1
# Hidden units of the networks in the hunt of the case overhead. Small ones cost the most beside their training.
MOST_HIDDEN = 256


@dataclass(frozen=True)
class HuntBench:
    """What is measured on. repeats: None for those of the case."""

    data: Dataset
    data_dir: str | None
    repeats: int | None
    minutes: float
    console: Console

    @property
    def architecture(self) -> tuple[int, ...]:
        """Of every network that is measured."""
        return self.data.input_units, HIDDEN, self.data.classes

    @property
    def shape(self) -> str:
        """For the names of cases."""
        return f"{'-'.join(map(str, self.architecture))} density {DENSITY} batch {BATCH} {self.data.name}"

    def members(self, count: int) -> list[Member]:
        """So many networks that differ in their rng_seed alone."""
        return grid([self.architecture], [DENSITY], range(count), limit=count)

    def network(self, rng_seed: int) -> StructNet:
        """One of them, untrained."""
        return StructNet(self.architecture, DENSITY, rng_seed=rng_seed)

    def mixed_architectures(self) -> list[tuple[int, ...]]:
        """Of several widths and depths, with as many units on average as `architecture` has."""
        return [(self.data.input_units, *hidden, self.data.classes) for hidden in MIXED]

    def cohort(self, members: int, architectures: Shapes = ()) -> Cohort:
        """So many of them as one cohort, or of these architectures in turn with as many connections on average."""
        states = []
        for rng_seed in range(members):
            network = self.network(rng_seed)
            if architectures:
                shape = architectures[rng_seed % len(architectures)]
                share = network.connection_count / possible_connections(shape)
                network = StructNet(shape, min(1.0, share), rng_seed=rng_seed)
            states.append(TrainState.fresh(network))
        return Cohort(states, [LEARNING_RATE] * members)

    def fastest_adam(self) -> str:
        """The implementation of Adam that serves the other side best here."""
        with one_thread():
            return fastest_adam(self.network(0), self.data.train, BATCH)


def run(options: HuntBenchOptions) -> None:
    """Measures, prints a table per case and writes the rows to `results`, if given.

    case: one of CASES; None for cohort and tune. repeats: pairs that are timed; None for 7 of steps and 1 of
    hunts. minutes: of the hunt of the case overhead, about. Raises UserError for what is none of these, and for
    a dataset that is not there.
    """
    check_case(options.case, CASES)
    check_repeats(options.repeats)
    if not 0 < options.minutes < float("inf"):
        raise UserError(f"minutes is {options.minutes:g}, but must be a number above 0")
    bench = HuntBench(
        load_dataset(options.dataset, data_dir=options.data_dir),
        options.data_dir,
        options.repeats,
        options.minutes,
        console_for_tables(),
    )
    for name in [options.case] if options.case else ["cohort", "tune"]:
        write_rows(options.results, f"bench-hunt-{name}", CASES[name](bench), bench.console)


# A step of a cohort


def _measure_cohorts(bench: HuntBench) -> Rows:
    repeats = bench.repeats or COHORT_REPEATS
    bench.console.print(
        f"A step of {bench.shape}, one thread, its batch taken from the dataset: cohorts against the same "
        f"networks one at a time as dense × mask, {repeats} pairs each"
    )
    headings = ("µs a network, ours", "µs a network, theirs", "times as fast")
    table = table_of(["trained together"], headings)
    adam, rows = bench.fastest_adam(), []
    with one_thread():
        # All networks have the same shape, so a step of one takes the time of a step of any.
        theirs = masked_steps(bench.network(0), bench.data.train, BATCH, adam)
        for members in (1, *COHORTS):
            ours = _cohort_steps(bench, members) if members > 1 else _steps_alone(bench)
            turns = time_pairs(ours, theirs, repeats, CPU)
            pairs = Pairs([seconds / STEPS_IN_A_CALL / members for seconds in turns.ours], turns.theirs)
            table.add_row(
                f"{members:,}" if members > 1 else "our sparse network alone",
                f"{1e6 * median(pairs.ours):,.1f}",
                f"{1e6 * median(pairs.theirs):,.1f}",
                pairs.shown(digits=1),
            )
            name = f"step of a cohort of {members}, {bench.shape}" if members > 1 else f"step, {bench.shape}"
            rows.append(row_of_pairs("hunt", name, pairs, f"dense × mask, one at a time, {adam} Adam"))
        turns = time_pairs(
            _cohort_steps(bench, MAIN_COHORT),
            _cohort_steps(bench, MAIN_COHORT, tuple(bench.mixed_architectures())),
            repeats,
            CPU,
        )
        losses = agreement(bench)
    bench.console.print(table)
    bench.console.print(
        f"Theirs: {adam} Adam, the fastest of {', '.join(ADAMS)} here. Medians of the pairs (smallest-largest).\n"
        f"Losses of both after {AGREEMENT_STEPS} steps on the same batches: "
        f"{', '.join(f'{one:.5f} and {other:.5f}' for one, other in losses)}.\n"
        f"{MAIN_COHORT} of {len(MIXED)} widths and depths, as many units and connections on average: {turns.shown()} "
        f"times the time. Aim: at least 28 times as fast at {MAIN_COHORT}, 22 at 16, and at most 1.2 times the time."
    )
    case = f"step of a cohort of {MAIN_COHORT} of mixed widths and depths, {bench.shape}"
    rows.append(row_of_pairs("hunt", case, turns, "all of one shape"))
    return rows


def agreement(bench: HuntBench) -> list[tuple[float, float]]:
    """(ours, theirs): losses of some networks after the same steps in the main cohort, and one at a time."""
    split = bench.data.train
    ours = bench.cohort(MAIN_COHORT).train(split, Recipe(BATCH), AGREEMENT_STEPS, constant(1.0))
    pairs = []
    for member in np.linspace(0, MAIN_COHORT - 1, AGREEMENT_NETWORKS).astype(int).tolist():
        step = masked_steps(bench.network(member), split, BATCH, "plain")
        theirs = [float(step()) for _ in range(AGREEMENT_STEPS)]
        pairs.append((float(ours[member, -1]), theirs[-1]))
    return pairs


def _cohort_steps(bench: HuntBench, members: int, architectures: Shapes = ()) -> Callable[[], object]:
    """A function that makes STEPS_IN_A_CALL steps, as a hunt makes those of an epoch in one call."""
    cohort, recipe, rate = bench.cohort(members, architectures), Recipe(BATCH), constant(1.0)
    return lambda: cohort.train(bench.data.train, recipe, STEPS_IN_A_CALL, rate)


def _steps_alone(bench: HuntBench) -> Callable[[], object]:
    state, recipe, rate = TrainState.fresh(bench.network(0)), Recipe(BATCH), constant(LEARNING_RATE)
    return lambda: train_steps(state, bench.data.train, recipe, STEPS_IN_A_CALL, rate)


# A hunt against a trial per network


def _measure_hunts(bench: HuntBench) -> Rows:
    repeats = bench.repeats or TUNE_REPEATS
    bench.console.print(
        f"A hunt of {NETWORKS} networks × 1 epoch, {bench.shape}, {WORKERS} workers, Ray already running, until "
        f"all rows are read back: against one Tune trial per network, {repeats} pairs each"
    )
    plain = MaskedTrial(bench.architecture, DENSITY, BATCH, bench.fastest_adam())
    ours: list[float] = []
    theirs: dict[str, list[float]] = {way: [] for way in WAYS}
    each: dict[str, list[float]] = {way: [] for way in WAYS}
    apart: list[float] = []
    with ray_with(WORKERS):
        packed = pack(bench.data)
        for _ in range(repeats):
            seconds, accuracies = _our_hunt(bench)
            ours.append(seconds)
            for way, (few, many) in zip(WAYS, TRIALS):
                short, _ = run_plain(way, few, packed, plain, WORKERS)
                long, others = run_plain(way, many, packed, plain, WORKERS)
                each[way].append((long - short) / (many - few))
                theirs[way].append(long + (NETWORKS - many) * each[way][-1])
                apart += [abs(value - accuracies[rng_seed]) for rng_seed, value in others.items()]
    headings = ("trials run", "s a further trial", f"s for {NETWORKS}", "s ours", "times as fast")
    table, rows = table_of(["theirs"], headings), []
    for way, (few, many) in zip(WAYS, TRIALS):
        pairs = Pairs(ours, theirs[way])
        numbers = median(pairs.theirs), median(ours), pairs.ratio
        further = f"{median(each[way]):.2f}"
        table.add_row(way, f"{few}, then {many}", further, *(f"{number:,.1f}" for number in numbers))
        case = f"hunt of {NETWORKS} networks, 1 epoch, {WORKERS} workers, {bench.shape}"
        other_side = f"Tune, {way}, dense × mask, scaled from {few} and {many} trials"
        rows.append(row_of_pairs("hunt", case, pairs, other_side))
    bench.console.print(table)
    bench.console.print(
        f"Theirs is scaled to {NETWORKS}: the time of the longer run, and for the trials that it lacks what its "
        f"further trials\ntook each. Theirs: {plain.adam} Adam, data read from the object store without a copy, "
        f"no loggers, no snapshots.\nAccuracies of the same networks on both sides are {mean(apart):.4f} apart in "
        "the mean. Aim: at least 30 times as fast."
    )
    return rows


def _our_hunt(bench: HuntBench) -> tuple[float, dict[int, float]]:
    """Seconds from the call until the rows are read back, and rng_seed -> accuracy."""
    with TemporaryDirectory(prefix="structnet-bench-") as folder:
        started = perf_counter()
        options = GridOptions(
            dataset=bench.data.name,
            results=folder,
            name="ours",
            workers=WORKERS,
            epochs=1,
            batch_size=BATCH,
            learning_rate=LEARNING_RATE,
            keep_best=True,
        )
        experiment = Experiment("hunt", options)
        experiment.start("", options.rng_seed)
        silent = Console(file=StringIO())
        rows = train_grid(bench.members(NETWORKS), bench.data, options, experiment, silent).to_pylist()
        experiment.end("", "finished")
        return perf_counter() - started, {row["rng_seed"]: row["accuracy"] for row in rows}


# What a hunt costs beside training


def _measure_overhead(bench: HuntBench) -> Rows:
    with TemporaryDirectory(prefix="structnet-bench-") as folder:
        own = {"results": folder, "name": "overhead", "rng_seeds": _rng_seeds_for(bench)}
        options = COMMAND.parse(_given(bench) | own)
        began, started = datetime.now(UTC), perf_counter()
        run_hunt(options)
        wall, ended = perf_counter() - started, datetime.now(UTC)
        experiment = read_table(folder, "experiments", "overhead").to_pylist()[0]
        # A row has the network's share of what its block took to train and judge an epoch.
        busy = sum(read_table(folder, "epochs", "overhead").column("seconds").to_pylist())
        networks = len(read_table(folder, "networks", "overhead"))
        blocks = len(list(Path(folder, "tables", "networks").rglob("*.parquet")))
    whole, spent = WORKERS * wall, WORKERS * wall - busy
    before = WORKERS * (experiment["started_at"] - began).total_seconds()
    after = WORKERS * (ended - experiment["finished_at"]).total_seconds()
    table = table_of([""], ("s of workers", "share"))
    for name, seconds in (
        (f"{wall:,.1f} s × {WORKERS} workers", whole),
        ("training and evaluating", busy),
        ("before: reading the dataset, starting Ray", before),
        ("between: processes, Tune, tables, snapshots, waiting for the last block", spent - before - after),
        ("after: stopping Ray", after),
        ("all but training and evaluating", spent),
    ):
        table.add_row(name, f"{seconds:,.1f}", f"{100 * seconds / whole:.2f} %")
    bench.console.print(table)
    bench.console.print(
        f"A hunt of {networks:,} networks in {blocks} blocks, from the call of the command's function to its end. "
        "Aim: at most 5 %."
    )
    case = f"hunt of {networks} networks, {WORKERS} workers, {bench.data.name}: not training or evaluating"
    return [benchmark_row("hunt", case, spent, "wall time × workers", whole, spent / whole)]


def _given(bench: HuntBench) -> dict[str, Any]:
    """The line of the command: the small networks of its default grid, however many rng_seeds."""

    def hidden(architecture: str) -> int:
        return sum(int(width) for width in architecture.split("-")[1:-1])

    architectures = COMMAND.parse({"dataset": bench.data.name}).architectures.split()
    return {
        "dataset": bench.data.name,
        "data_dir": bench.data_dir,
        "workers": WORKERS,
        "limit": 10**6,
        "architectures": " ".join(text for text in architectures if hidden(text) <= MOST_HIDDEN),
    }


def _rng_seeds_for(bench: HuntBench) -> int:
    """How many rng_seeds of the grid make a hunt of about the minutes, by the speed of a cohort here."""
    options = fitted(COMMAND.parse(_given(bench) | {"rng_seeds": 1}), bench.data)
    with one_thread():
        step = _cohort_steps(bench, MAIN_COHORT)
        seconds = min(seconds_of(step, 1, CPU) for _ in range(5)) / STEPS_IN_A_CALL
    per_cost = seconds / sum(member.cost for member in bench.members(MAIN_COHORT))
    steps = options.epochs * steps_per_epoch(len(bench.data.train), options.batch_size or BATCH)
    one_seed = steps * per_cost * sum(member.cost for member in members_of(options, bench.data))
    return max(1, round(60 * bench.minutes * WORKERS / one_seed))


CASES: dict[str, Callable[[HuntBench], Rows]] = {
    "cohort": _measure_cohorts,
    "tune": _measure_hunts,
    "overhead": _measure_overhead,
}
