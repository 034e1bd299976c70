"""Sets of heads that compete for removal: each is taken out of a copy that trains on for a short heat.

Beside them a control trains on the same batches with all heads it has. The fork that loses least per parameter it
frees, on validation data and by image or text against the control, becomes the network. What others cost is counted.
Heads that were removed may come back: a fork may take one more out and grow one again.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from structnet.data.dataset import Dataset, Split
from structnet.errors import UserError, one_line
from structnet.heads.layers import HeadModel
from structnet.heads.scores import SCORES, Measured, chosen
from structnet.heads.surgery import Head, regrow, remove
from structnet.heads.training import HeadState, Tuning, judge, touch, train
from structnet.measure.statistics import paired_gain
from structnet.seeds import stream, torch_seed

CONTROL, EXCHANGE = "control", "exchange"


@dataclass(frozen=True)
class Fork:
    """What is done to a copy. name: the score that chose the heads, or `control`, or `exchange`."""

    name: str
    removed: tuple[Head, ...] = ()
    regrown: tuple[Head, ...] = ()

    @property
    def site(self) -> str:
        """For tables: heads as layer.number, those that come back behind a plus."""
        out = [f"{layer}.{number}" for layer, number in self.removed]
        return " ".join([*out, *(f"+{layer}.{number}" for layer, number in self.regrown)])


@dataclass(frozen=True)
class Heat:
    """What all forks of a round share. rate: of learning, constant. keys: of the round's random streams."""

    tuning: Tuning
    steps: int
    rate: float
    keys: tuple[int, ...]


@dataclass(frozen=True)
class Trained:
    """A fork at the end of its heat. log2_likelihood: (n,) on validation data. error: why there is no state."""

    fork: Fork
    state: HeadState | None
    log2_likelihood: np.ndarray
    loss: float
    accuracy: float
    freed: int
    seconds: float
    error: str = ""


@dataclass(frozen=True)
class Result:
    """A fork against the control. gain: bits an image or a character, usually negative, with its standard error.

    score: that per thousand parameters freed.
    """

    trained: Trained
    gain: float
    error: float
    score: float


# Trains forks of a state in a heat on the training and validation data of a dataset; what came of each, in their order.
RunForks = Callable[[HeadState, Sequence[Fork], Heat, Dataset], list[Trained]]


def forks_of(
    measured: Measured,
    count: int,
    model: HeadModel,
    floor: int,
    gone: Sequence[Head],
    keys: tuple[int, ...],
) -> list[Fork]:
    """The control, and for every score the heads that it would remove, each set once.

    gone: heads that were removed before. With any, a fork removes one head more by saliency and grows one again.
    keys: rng_seed and step.
    """
    rng = stream(keys[0], "random heads", *keys[1:])
    sets: dict[frozenset[Head], Fork] = {}
    for name, score in SCORES.items():
        heads = chosen(score(measured, rng), count, model, floor)
        sets.setdefault(frozenset(heads), Fork(name, tuple(sorted(heads))))
    found = [Fork(CONTROL), *sets.values()]
    if gone and (exchange := _exchange(measured, count, model, floor, gone, rng)):
        found.append(exchange)
    return found


def _exchange(
    measured: Measured,
    count: int,
    model: HeadModel,
    floor: int,
    gone: Sequence[Head],
    rng: np.random.Generator,
) -> Fork | None:
    """None where so many heads cannot go."""
    back = gone[int(rng.integers(len(gone)))]
    try:
        heads = chosen(SCORES["saliency"](measured, rng), count + 1, model, floor)
    except UserError:
        return None
    return Fork(EXCHANGE, tuple(sorted(heads)), (back,))


def apply(state: HeadState, fork: Fork, keys: tuple[int, ...]) -> None:
    """Makes of a state what the fork says, in place; keys: rng_seed and step."""
    generator = torch.Generator().manual_seed(torch_seed(keys[0], "regrown heads", *keys[1:]))
    remove(state.model, fork.removed, state.optimizer)
    regrow(state.model, fork.regrown, generator, state.optimizer)
    state.begun = {head: step for head, step in state.begun.items() if head not in fork.removed}
    state.begun |= dict.fromkeys(fork.regrown, state.step)
    touch(state, [*fork.removed, *fork.regrown])


def run_fork(state: HeadState, fork: Fork, heat: Heat, training: Split, validation: Split) -> Trained:
    """Trains a copy with what the fork changes; one that fails says why."""
    started = time.perf_counter()
    mine = copy.deepcopy(state)
    apply(mine, fork, heat.keys)
    freed = state.parameters - mine.parameters
    try:
        train(mine, training, heat.tuning, heat.steps, lambda step: heat.rate)
        found = judge(mine.model, validation)
    except Exception as error:  # whatever it is, the others go on
        return failed(fork, error, freed, time.perf_counter() - started)
    seconds = time.perf_counter() - started
    return Trained(fork, mine, found.log2_likelihood, found.loss, found.accuracy, freed, seconds)


def failed(fork: Fork, error: BaseException, freed: int = 0, seconds: float = 0.0) -> Trained:
    """A fork that did not come to its end."""
    nothing = float("nan")
    return Trained(fork, None, np.empty(0), nothing, nothing, freed, seconds, one_line(error))


def run_here(state: HeadState, forks: Sequence[Fork], heat: Heat, data: Dataset) -> list[Trained]:
    """All forks one after the other, in this process."""
    return [run_fork(state, fork, heat, data.train, data.validation) for fork in forks]


def results_of(trained: Sequence[Trained]) -> list[Result]:
    """The control first, then the others in their order; those that failed have no gain."""
    control = next(one for one in trained if one.fork.name == CONTROL)
    found = []
    for one in trained:
        gain, error = (float("nan"),) * 2
        if one.state is not None and control.state is not None:
            gain, error = paired_gain(one.log2_likelihood, control.log2_likelihood)
        found.append(Result(one, gain, error, 1000 * gain / max(1, one.freed)))
    return found


def winner_of(results: Sequence[Result]) -> Result | None:
    """The fork that loses least per parameter it frees; None where all failed. The control frees none."""
    able = [one for one in results if one.trained.fork.name != CONTROL and np.isfinite(one.score)]
    return max(able, key=lambda one: one.score, default=None)


def columns_of(results: Sequence[Result], won: Result | None, steps: int) -> list[dict[str, Any]]:
    """What the table `candidates` has on each."""
    rows = []
    for number, one in enumerate(results):
        trained, is_control = one.trained, one.trained.fork.name == CONTROL
        is_failed = trained.state is None
        rows.append(
            {
                "candidate": number,
                "heat": 1,
                "action": "control" if is_control else f"remove heads:{trained.fork.name}",
                "site": trained.fork.site,
                "control": is_control,
                "parameters_added": -trained.freed,
                "gain": None if is_failed else one.gain,
                "gain_se": None if is_failed or not np.isfinite(one.error) else one.error,
                "score": None if is_failed or is_control else one.score,
                "loss": None if is_failed else trained.loss,
                "accuracy": None if is_failed else trained.accuracy,
                "affordable": True,
                "eligible": not is_failed and not is_control,
                "survived": True,
                "won": one is won,
                "steps": steps,
                "seconds": trained.seconds,
                "status": "failed" if is_failed else "finished",
                "error": trained.error or None,
                "audit": False,
            }
        )
    return rows
