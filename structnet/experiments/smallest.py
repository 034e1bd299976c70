"""Other ways to the smallest network that holds an accuracy: what the path of a tournament has to beat.

- bisection over the size, every size trained alone in full: overshot at random and pruned, or by RigL;
- one network, pruned from dense a fifth at a time while the target holds after a recovery, or a second one;
- asynchronous successive halving (Li et al. 2020) over hidden width and density of static sparse networks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from structnet.data.dataset import Dataset
from structnet.experiments.baselines import evolve_steps
from structnet.experiments.methods import METHODS
from structnet.network.architecture import architecture_of, parameters_dense
from structnet.network.network import StructNet
from structnet.network.random_topology import least_density
from structnet.network.state import TrainState
from structnet.seeds import stream
from structnet.training.batches import steps_per_epoch
from structnet.training.evaluation import evaluate
from structnet.training.loop import train_steps
from structnet.training.recipe import Recipe
from structnet.training.schedules import cosine
from structnet.training.shrinking import Shrinking, shrink_steps

CLOSE = 1.05  # sizes that differ by less end a bisection
KEPT = 0.8  # of the parameters, from one size to the next of the network that is pruned from dense
RECOVERY = 4  # epochs at each of them; with 1 it ends at larger sizes
REDUCTION = 3  # of ASHA: a rung keeps the best third


@dataclass(frozen=True)
class Job:
    """What is searched for. architecture, density: of the seed; rate: of learning at the peak."""

    data: Dataset
    architecture: tuple[int, ...]
    density: float
    target: float
    epochs: int
    rate: float
    recipe: Recipe
    peak: int
    sizes: tuple[int, int]

    def steps(self, epochs: float) -> int:
        """Of so many epochs; at least one."""
        return max(1, round(epochs * steps_per_epoch(len(self.data.train), self.recipe.batch_size)))


@dataclass
class Search:
    """What a search has come to: the smallest that held so far, None before any has, and what all of it cost."""

    job: Job
    network: StructNet | None = None
    spent: int = 0
    accuracies: list[tuple[int, float]] = field(default_factory=list)

    def holds(self, network: StructNet) -> bool:
        """Judges a network that has been trained in full, and keeps it if it is the smallest that holds."""
        accuracy = evaluate(network, self.job.data.validation).accuracy
        self.accuracies.append((network.parameter_count, accuracy))
        if accuracy < self.job.target:
            return False
        if self.network is None or network.parameter_count < self.network.parameter_count:
            self.network = network.fork()
        return True


def bisect(holds: Callable[[int], bool], least: int, most: int) -> None:
    """Asks for sizes between two, halving the ratio; does without smaller ones once `most` does not hold."""
    if not holds(most):
        return
    while most > CLOSE * least:
        middle = round(math.sqrt(least * most))
        if middle in (least, most):
            return
        least, most = (least, middle) if holds(middle) else (middle, most)


def by_bisection(job: Job) -> Search:
    """Over sizes that are reached from a seed, overshot at random to the peak and pruned."""
    search = Search(job)

    def holds(size: int) -> bool:
        state = TrainState.fresh(_seed(job))
        state = _shrunk(search, state, job.steps(job.epochs), size, job.rate, peak=job.peak)
        return search.holds(state.network)

    bisect(holds, *job.sizes)
    return search


def by_rigl(job: Job, rate: Callable[[int], float]) -> Search:
    """Over sizes of networks that are moved by RigL. rate: of learning, for a number of parameters."""
    search = Search(job)

    def holds(size: int) -> bool:
        method = METHODS["rigl"](job.architecture, size, job.steps(job.epochs), job.recipe.rng_seed)
        falling = cosine(rate(size), 0, method.steps)
        state = TrainState.fresh(method.start())
        state, _, spent = evolve_steps(state, method, job.data.train, job.recipe, method.steps, falling)
        search.spent += spent.parameter_steps
        return search.holds(state.network)

    bisect(holds, max(job.sizes[0], sum(job.architecture[1:]) + 1), job.sizes[1])
    return search


def by_pruning(job: Job) -> Search:
    """From dense, half of the epochs, then size by size, each with an anneal, until the target breaks twice.

    The rate rises with the root of what is pruned, as that of the others does, and is theirs at their peak.
    """
    search, dense = Search(job), parameters_dense(job.architecture)
    state = TrainState.fresh(StructNet(job.architecture, 1.0, rng_seed=job.recipe.rng_seed))
    state = _shrunk(search, state, job.steps(job.epochs / 2), dense, job.rate * math.sqrt(job.peak / dense))
    size, least = dense, job.architecture[-1] + 1
    missed = False
    while size > least:
        held = search.holds(state.network)
        if missed and not held:
            break
        missed = not held
        if held:
            size = max(least, round(KEPT * size))
        rate = job.rate * math.sqrt(job.peak / state.network.parameter_count)
        state = _shrunk(search, state, job.steps(RECOVERY), size, rate, move_share=0.0)
    return search


def by_halving(job: Job, samples: int, widths: tuple[int, int], densities: tuple[float, float]) -> Search:
    """By ASHA: networks of one hidden group, of a width and a density drawn evenly on a log axis, one after the other.

    Those that hold are ranked by their size, the smaller the better, and before those that do not.
    """
    search, rungs = Search(job), milestones(job.epochs)
    rng = stream(job.recipe.rng_seed, "halving")
    recorded: dict[int, list[float]] = {epochs: [] for epochs in rungs}
    for number in range(samples):
        width = round(math.exp(rng.uniform(*np.log(widths))))
        density = math.exp(rng.uniform(*np.log(densities)))
        shape = (architecture_of(job.architecture).inputs, width, job.architecture[-1])
        network = StructNet(shape, density, rng_seed=number, ensure_paths=density >= least_density(shape))
        state, stopped = TrainState.fresh(network), False
        for epochs in rungs:
            here = job.steps(epochs) - state.step
            train_steps(state, job.data.train, job.recipe, here, cosine(job.rate, 0, job.steps(job.epochs)))
            search.spent += here * network.parameter_count
            accuracy = evaluate(network, job.data.validation).accuracy
            holding = accuracy >= job.target
            score = 1 + 1 / network.parameter_count if holding else accuracy
            stopped = not goes_on(score, recorded[epochs])
            recorded[epochs].append(score)
            if stopped:
                break
        if not stopped:
            search.holds(network)
    return search


def milestones(epochs: int) -> list[int]:
    """Epochs after which a trial of ASHA is judged: 1, 3, 9, … and all."""
    below = [REDUCTION**power for power in range(20) if REDUCTION**power < epochs]
    return [*below, epochs]


def goes_on(score: float, recorded: Sequence[float]) -> bool:
    """Whether a trial goes on after a milestone: as Ray Tune's ASHA, unless it is below the best third before it."""
    return not recorded or score >= float(np.percentile(recorded, (1 - 1 / REDUCTION) * 100))


def _seed(job: Job) -> StructNet:
    return StructNet(job.architecture, job.density, rng_seed=job.recipe.rng_seed, ensure_paths=True)


def _shrunk(
    search: Search,
    state: TrainState,
    steps: int,
    limit: int,
    rate: float,
    *,
    peak: int = 0,
    move_share: float = 0.3,
) -> TrainState:
    """The state after so many steps in which it is pruned to a limit and annealed; pays for them."""
    job, size, stop = search.job, state.network.parameter_count, state.step + steps
    schedule = Shrinking(state.step, stop, size, max(size, peak), limit, move_share=move_share)
    while state.step < stop:
        here = min(schedule.every, stop - state.step)
        falling = cosine(rate, schedule.start, stop)
        state, _ = shrink_steps(state, job.data.train, job.recipe, here, falling, schedule)
        search.spent += here * state.network.parameter_count
    return state
