"""`structnet bench control`: what the process that directs the work costs, measured with work that is simulated.

hunt: a whole hunt whose blocks sleep instead of training. CPU and memory of its driver, which is all that a larger
cluster has one of. round: a round of a tournament whose forks are done at once: how fast they get to the workers.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from io import StringIO
from itertools import cycle, islice
from tempfile import TemporaryDirectory
from time import perf_counter, thread_time
from typing import Any, Self

from search.commands.bench.command import ControlOptions
from search.commands.bench.measuring import (
    CPU,
    Rows,
    benchmark_row,
    check_case,
    console_for_tables,
    ray_with,
    write_rows,
)
from search.commands.bench.processes import Moment, check_proc, forget_peak, peak_bytes, resident_bytes
from search.commands.bench.simulated import SimulatedContender, SimulatedWork, noise, stretch_epochs
from search.commands.hunt.command import ARCHITECTURES, DENSITIES, HuntOptions
from search.commands.hunt.run import hunt, members_of
from search.grid.progress import GridProgress
from search.grid.train_grid import fitted
from search.session.console import Console
from search.session.tables import table_of
from structnet.data.dataset import Dataset
from structnet.errors import UserError, WorkFailed
from structnet.network.network import StructNet
from structnet.storage.tables import read_table
from tournament.observer import Observer
from tournament.rounds import play_round
from tournament.rules.ledger import Economy
from tournament.settings import Settings
from tournament.winning_line import WinningLine
from tournament.workers.pool import Job, RayPool, StateHandle
from tournament.workers.work import TellProcess

NETWORKS, DELAY, CANDIDATES = 100_000, 0.5, 1_000
QUICK = {"networks": 400, "delay": 0.02, "candidates": 60}
MOST_CPU, MOST_MEMORY, MOST_DISPATCH = 0.2, 2**30, 2.0  # of a core; bytes; seconds
MIB = 2**20
VALIDATION_IMAGES = 6000  # as of MNIST: a report of a fork has a number for each
SEED, SEED_DENSITY = (784, 100, 10), 0.05
# How forks become jobs: (name, in batches, as if the workers were on this device).
DEALT = (
    ("one for each worker, as on a CPU", True, "cpu"),
    ("one for 16 forks, as on a GPU", True, "cuda"),
    ("one for each fork", False, "cpu"),
)


@dataclass(frozen=True)
class Simulation:
    """delay: seconds that a block sleeps."""

    networks: int
    delay: float
    candidates: int
    workers: int
    console: Console


def run(options: ControlOptions) -> None:
    """Measures, prints a table per case and writes the rows to `results`, if given.

    case: one of CASES; None for both. networks, delay, candidates: None for those of the targets, or of QUICK.
    workers: processes; they are asleep most of the time, so there may be more than cores. Raises UserError for
    what is none of these, and where there is no /proc to read.
    """
    check_case(options.case, CASES)
    sizes = {"networks": NETWORKS, "delay": DELAY, "candidates": CANDIDATES} | (
        QUICK if options.quick else {}
    )
    given = {name: getattr(options, name) for name in sizes}
    sizes |= {name: value for name, value in given.items() if value is not None}
    for name, value in {**sizes, "workers": options.workers}.items():
        if not 0 < value < float("inf"):
            raise UserError(f"{name} is {value:g}, but must be a number above 0")
    check_proc()
    console = console_for_tables()
    simulated = Simulation(
        int(sizes["networks"]), sizes["delay"], int(sizes["candidates"]), options.workers, console
    )
    with ray_with(options.workers):
        for name in [options.case] if options.case else CASES:
            write_rows(options.results, f"bench-control-{name}", CASES[name](simulated), console)


# A hunt


class SimulatedOptions(HuntOptions):
    """delay: seconds that a block sleeps."""

    delay: float


class Watched(GridProgress):
    """Notes when the blocks begin, and when the driver heard of the last one."""

    def __init__(self, moments: list[Moment], *given: Any) -> None:
        super().__init__(*given)
        self.moments, self.ended = moments, 0
        self.blocks = len(given[1])

    def __enter__(self) -> Self:
        self.moments.append(Moment.now())
        return super().__enter__()

    def report(self, reported: dict[str, Any]) -> None:
        """Takes in what a block says, and notes when the last one has ended."""
        super().report(reported)
        self.ended += reported["done"]
        if self.ended == self.blocks:
            self.moments.append(Moment.now())


def _measure_hunt(simulated: Simulation) -> Rows:
    data = noise(2000, 1000, 1000)
    with TemporaryDirectory(prefix="structnet-bench-") as folder:
        options = fitted(_options(simulated, folder), data)
        # On a terminal the driver also draws a page, so this is the dearer of the two.
        screen = Console(file=StringIO(), force_terminal=True, width=140)
        forget_peak()
        before = resident_bytes()
        moments = [Moment.now()]
        members = members_of(options, data)
        try:
            hunt(
                members,
                data,
                options,
                screen,
                factory=SimulatedWork,
                progress=lambda *given: Watched(moments, *given),
            )
        except SystemExit as ended:
            raise WorkFailed(f"the simulated hunt failed: {screen.file.getvalue()[-300:]}") from ended  # type: ignore[attr-defined]
        moments.append(Moment.now())
        peak = peak_bytes()
        blocks = len(set(read_table(folder, "networks", "control").column("trial").to_pylist()))
    return _hunt_rows(simulated, len(members), blocks, options.epochs, moments, (*before, peak))


def _options(simulated: Simulation, folder: str) -> SimulatedOptions:
    """The default grid of MNIST, with as many rng_seeds as make so many networks, at least."""
    each = len(ARCHITECTURES.split()) * len(DENSITIES.split(","))
    return SimulatedOptions(
        dataset="noise",
        results=folder,
        name="control",
        workers=simulated.workers,
        architectures=ARCHITECTURES,
        densities=DENSITIES,
        rng_seeds=-(-simulated.networks // each),
        limit=10**9,
        delay=simulated.delay,
    )


def _hunt_rows(
    simulated: Simulation,
    networks: int,
    blocks: int,
    epochs: int,
    moments: list[Moment],
    memory: tuple[int, ...],
) -> Rows:
    """Prints the table and returns the rows. memory: resident before, of that without files, and at most; bytes."""
    start, begin, last, end = moments
    wall = end.wall - start.wall
    table = table_of([""], ("s", "CPU s of the driver", "of a core"))
    case = f"hunt of {networks} networks in {blocks} blocks of {simulated.delay:g} s, {simulated.workers} workers"
    rows = []
    for name, first, then in (
        ("making blocks", start, begin),
        ("blocks", begin, last),
        ("the end", last, end),
        ("all", start, end),
    ):
        seconds, cpu = then.wall - first.wall, then.cpu - first.cpu
        table.add_row(name, f"{seconds:,.1f}", f"{cpu:,.1f}", f"{100 * cpu / seconds:.1f} %")
        measured = {"driver_peak_bytes": memory[2]} if name == "all" else {}
        rows.append(
            benchmark_row(
                "control", f"{case}: {name}", cpu, "wall time", seconds, cpu / seconds, 1, CPU, **measured
            )
        )
    simulated.console.print(table)
    training, share = last.wall - begin.wall, (end.cpu - start.cpu) / wall
    reports = -(-epochs // stretch_epochs(epochs))
    simulated.console.print(
        f"{networks:,} networks in {blocks:,} blocks that sleep {simulated.delay:g} s each and report {reports} times; "
        f"{simulated.workers} workers: {networks / training:,.0f} networks, {blocks / training:.1f} blocks and "
        f"{blocks * reports / training:.1f} reports a second.\n"
        f"Driver: {100 * share:.1f} % of a core (aim: below {100 * MOST_CPU:.0f} %), "
        f"{1000 * (last.cpu - begin.cpu) / blocks:.1f} ms of CPU a block; at most {memory[2] / MIB:,.0f} MiB resident "
        f"(aim: below {MOST_MEMORY / MIB:,.0f}), of which {memory[0] / MIB:,.0f} before it began, "
        f"{(memory[0] - memory[1]) / MIB:,.0f} of them files such as torch.\n"
        "The end: Tune's last state, rows read back, champions tested, tables written again, Tune's state removed.\n"
        f"Meanwhile Ray's own processes took {last.of_ray - begin.of_ray:,.1f} CPU s, the workers "
        f"{last.of_workers - begin.of_workers:,.1f}.",
        soft_wrap=True,
    )
    return rows


# A round


class NotingPool(RayPool):
    """Notes of each job when it was sent, in seconds on the clock, and what CPU sending it took, in seconds."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.sent: list[tuple[float, float]] = []

    def _send(self, actor: int, job: Job[Any]) -> tuple[Any, list[StateHandle]]:
        before = thread_time()
        handles = super()._send(actor, job)
        self.sent.append((perf_counter(), thread_time() - before))
        return handles


class Heats(Observer):
    """Of each heat when it began, in seconds on the clock, how many forks it has, and the jobs sent before it."""

    def __init__(self, pool: NotingPool) -> None:
        self.pool = pool
        self.began: list[tuple[float, int, int]] = []

    def heat_started(self, heat: int, heats: int, forks: int) -> None:
        """Notes the moment, and how many jobs were sent before."""
        self.began.append((perf_counter(), forks, len(self.pool.sent)))


@dataclass(frozen=True)
class Sent:
    """A heat, in seconds: from its beginning until the last job was sent, of CPU of the driver to send, in all."""

    forks: int
    jobs: int
    until: float
    cpu: float
    seconds: float


def _measure_round(simulated: Simulation) -> Rows:
    data = noise(2000, VALIDATION_IMAGES, 100)
    with closing(NotingPool(data, simulated.workers, kind=SimulatedContender)) as pool:
        # Every worker imports and fetches the data, before anything is timed.
        pool.run([Job(TellProcess())] * 2 * simulated.workers)
        played = {}
        for name, pool.together, pool.device in DEALT:
            played[name] = _play(simulated, pool, data)
    return _round_rows(simulated, played)


def _round_rows(simulated: Simulation, played: dict[str, list[Sent]]) -> Rows:
    """Prints the table and returns the rows: of the first heat, in which all candidates run."""
    headings = ("forks", "sent", "ms until sent", "CPU ms to send", "a job", "ms in all")
    table, rows = table_of(("jobs", "heat"), headings), []
    for name, heats in played.items():
        for number, heat in enumerate(heats, start=1):
            table.add_row(
                "" if number > 1 else name,
                str(number),
                f"{heat.forks:,}",
                f"{heat.jobs:,}",
                f"{1000 * heat.until:,.0f}",
                f"{1000 * heat.cpu:,.0f}",
                f"{1000 * heat.cpu / heat.jobs:.2f}",
                f"{1000 * heat.seconds:,.0f}",
            )
        first = heats[0]
        case = f"round of {simulated.candidates} candidates, {simulated.workers} workers, {name}: until all are sent"
        ratio, more = first.until / first.seconds, {"jobs": first.jobs, "cpu_seconds": first.cpu}
        rows.append(
            benchmark_row(
                "control", case, first.until, "the whole heat", first.seconds, ratio, 1, CPU, **more
            )
        )
    simulated.console.print(table)
    longest = max(heats[0].until for heats in played.values())
    sending = max(heats[0].cpu for heats in played.values())
    simulated.console.print(
        f"{simulated.candidates:,} candidates, two controls and a twin; {simulated.workers} workers whose forks are "
        f"done at once and come back with {VALIDATION_IMAGES:,} numbers and a state each.\nFrom the call to the last "
        f"job of the first heat: at most {longest:.2f} s (aim: {MOST_DISPATCH:g}), in which the driver also waits "
        f"until the workers take jobs; sending alone takes it at most {sending:.2f} s of CPU.",
        soft_wrap=True,
    )
    return rows


def _play(simulated: Simulation, pool: NotingPool, data: Dataset) -> list[Sent]:
    """The heats of one round."""
    seed = StructNet(list(SEED), SEED_DENSITY)
    settings = Settings(candidates=simulated.candidates, round_steps=10, economy=Economy(opening_credits=1e9))
    line = WinningLine(seed, data, settings, pool)
    line.start(seed)
    line.progress.round = 1
    survey = line.survey(simulated.candidates)
    # In a small network there are some hundred sites.
    proposals = list(islice(cycle(survey.proposals), simulated.candidates))
    pool.sent.clear()
    heats = Heats(pool)
    started = perf_counter()
    play_round(line, replace(survey, proposals=proposals), "", heats)
    # The first heat has what goes before it, and each what comes of it.
    began = [started, *(moment for moment, _, _ in heats.began[1:]), perf_counter()]
    found = []
    for heat, (_, forks, first) in enumerate(heats.began):
        is_last = heat == len(heats.began) - 1
        sent = pool.sent[first : None if is_last else heats.began[heat + 1][2]]
        until, cpu = sent[-1][0] - began[heat], sum(spent for _, spent in sent)
        found.append(Sent(forks, len(sent), until, cpu, began[heat + 1] - began[heat]))
    return found


CASES: dict[str, Callable[[Simulation], Rows]] = {"hunt": _measure_hunt, "round": _measure_round}
