"""`structnet bench tournament --case shares`: what the time of a whole `grow` goes into.

Workers time what they do: compiled training and measuring, and everything else of each piece of work. Making batches
is a part of training that cannot be timed from outside, so it is counted: batches × what one takes by itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any, ClassVar, TypeVar

import numpy as np

from search.commands.bench.measuring import Rows, benchmark_row
from search.session.console import Console
from search.session.tables import table_of
from structnet.compiled import step
from structnet.compiled.batch import make_batch
from structnet.data.dataset import Dataset
from structnet.network.network import StructNet
from structnet.training.batches import batch_indices, images_of, noise_of
from structnet.training.recipe import Recipe
from tournament.coordinator import Tournament
from tournament.opponents import train_dense_baseline
from tournament.settings import Settings
from tournament.workers.contender import Contender, Work
from tournament.workers.fork import Arrays
from tournament.workers.pool import Job, RayPool

R = TypeVar("R")
Seconds = defaultdict[str, float]
BATCHES_TIMED = 200


@dataclass(frozen=True)
class TellSeconds:
    """What a timed contender has spent since it was asked last: kind -> seconds, and batches that it made."""

    name: ClassVar[str] = "tell_seconds"
    makes: ClassVar[int] = 0

    def run(self, contender: Contender, states: Sequence[Arrays]) -> tuple[Seconds, Sequence[Arrays]]:
        """The seconds so far, which begin anew."""
        assert isinstance(contender, TimedContender)
        spent, contender.spent = contender.spent, defaultdict(float)
        return spent, []


class TimedContender(Contender):
    """A contender that times what it does."""

    def __init__(self, packed: dict[str, np.ndarray], device: str = "cpu", name: str = "contender-0") -> None:
        super().__init__(packed, device, name)
        self.spent: Seconds = defaultdict(float)
        for function, kind in (("train", "training"), ("judge", "measuring")):
            setattr(step, function, self._timed(getattr(step, function), kind))

    def _timed(self, function: Callable[..., Any], kind: str) -> Callable[..., Any]:
        def timed(*arguments: Any) -> Any:
            started = perf_counter()
            try:
                return function(*arguments)
            finally:
                self.spent[kind] += perf_counter() - started
                if kind == "training":
                    self.spent["batches"] += len(arguments[7])

        return timed

    def do(self, work: Work[R], states: Sequence[Arrays]) -> tuple[R, Sequence[Arrays | None]]:
        """As a contender does it, timed; what is neither training nor measuring counts by the name of the work."""
        started, before = perf_counter(), self.spent["training"] + self.spent["measuring"]
        try:
            return super().do(work, states)
        finally:
            compiled = self.spent["training"] + self.spent["measuring"] - before
            self.spent[f"rest of {work.name}"] += perf_counter() - started - compiled


def measure_shares(
    data: Dataset, seed: StructNet, settings: Settings, workers: int, console: Console
) -> Rows:
    """Grows with timed workers, on a Ray that is running, and prints what the workers' seconds went into."""
    began = perf_counter()
    with closing(RayPool(data, workers, kind=TimedContender)) as pool:
        pool.process_ids()
        ready = perf_counter()
        result = Tournament(seed, data, settings=settings, pool=pool).run()
        train_dense_baseline(result, settings, pool)
        wall = perf_counter() - ready
        spent: Seconds = defaultdict(float)
        # As many jobs as workers, so that each has one.
        for outcome in pool.run([Job(TellSeconds()) for _ in range(workers)]):
            for kind, seconds in outcome.value().items():
                spent[kind] += seconds
    batch = seconds_of_a_batch(data, settings.recipe.batch_size)
    spent["making batches"] = spent.pop("batches") * batch
    spent["training"] -= spent["making batches"]
    spent["waiting, for Ray and for each other"] = workers * wall - sum(spent.values())
    console.print(
        f"Growing on {data.name} with {workers} workers: they were there after {ready - began:.1f} s, tournament and "
        f"dense baseline took {wall:.1f} s"
    )
    table, rows = table_of(["of the workers' seconds"], ("s", "share")), []
    for kind, seconds in sorted(spent.items(), key=lambda item: -item[1]):
        share = seconds / (workers * wall)
        if share >= 0.005:
            table.add_row(kind, f"{seconds:.2f}", f"{share:.1%}")
            case = f"shares of growing on {data.name}, {workers} workers: {kind}"
            rows.append(benchmark_row("tournament", case, seconds, "wall × workers", workers * wall, share))
    console.print(table)
    return rows


def seconds_of_a_batch(data: Dataset, size: int) -> float:
    """Of one training batch with all pixels, without noise."""
    recipe = Recipe(size)
    images = images_of(data.train, np.arange(data.input_units), np.dtype(np.float32))
    inputs, noise = np.zeros((data.input_units, size), dtype=np.float32), noise_of(recipe)
    order = [batch_indices(len(data.train), size, 0, number) for number in range(BATCHES_TIMED)]
    make_batch(images, noise, order[0], 0, inputs)
    times = []
    for number, positions in enumerate(order):
        started = perf_counter()
        make_batch(images, noise, positions, number, inputs)
        times.append(perf_counter() - started)
    return median(times)
