"""Forks of a heat trained together: as one cohort instead of one network after the other.

A fork comes out with the same bits either way (structnet.training.cohort), so a heat decides the same however its forks
are dealt to workers. For that a fork is computed by sparse rows wherever it trains, or trains alone: see
`training_kernel`. Forks of different depths share a cohort all the same: a shallow one is given groups without
units, which compute nothing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import torch

from structnet.actions.base import Proposal
from structnet.data.dataset import Split
from structnet.errors import one_line
from structnet.network.state import TrainState
from structnet.network.topology import Topology
from structnet.training.cohort import Cohort, shared_by_members
from structnet.training.loop import Diverged, Recipe, constant
from tournament.workers.fork import (
    Arrays,
    ForkReport,
    measure,
    seen_as,
    start_fork,
    train_fork,
    training_kernel,
)

ForkResult = tuple[ForkReport, dict[str, Any] | None]


def run_forks(
    forks: Sequence[tuple[Arrays, Proposal | None]],
    train: Split,
    validation: Split,
    recipe: Recipe,
    steps: int,
    rate: float,
    with_probe: bool,
    worker: str = "",
) -> list[ForkResult]:
    """Applies the proposals, trains all forks for so many steps at this rate and measures them, in their order.

    forks: (state, proposal), where None adds nothing: a control or a survivor. A fork that raises or diverges is
    a report with an error and no state; the others go on. Seconds of a report: its own for the edit and the
    measure, and by its parameters a share of what its cohort trained.
    """
    seconds = np.zeros(len(forks))
    failed: dict[int, str] = {}
    states: dict[int, TrainState] = {}
    for index, (state, proposal) in enumerate(forks):
        started = time.perf_counter()
        try:
            states[index] = start_fork(state, proposal, train.labels.device)
        except Exception as error:  # whatever a fork raises must not end the experiment
            failed[index] = one_line(error)
        seconds[index] += time.perf_counter() - started
    for members in _cohorts(states):
        started = time.perf_counter()
        together = [states[index] for index in members]
        for index, outcome in zip(members, _train(together, train, recipe, steps, rate)):
            if isinstance(outcome, TrainState):
                states[index] = outcome
            else:
                failed[index] = one_line(outcome)
        sizes = np.array([state.network.parameter_count for state in together])
        seconds[members] += (time.perf_counter() - started) * sizes / sizes.sum()
    results: list[ForkResult] = []
    for index in range(len(forks)):
        started = time.perf_counter()
        measured, arrays = None, None
        if index not in failed:
            try:
                measured = measure(states[index], validation, with_probe=with_probe)
                arrays = states[index].to_arrays()
            except Exception as error:
                failed[index] = one_line(error)
        spent = float(seconds[index]) + time.perf_counter() - started
        results.append((ForkReport(measured, spent, worker, failed.get(index, "")), arrays))
    return results


def _cohorts(states: dict[int, TrainState]) -> list[list[int]]:
    """Which forks train together: those that agree in all but their shape and need no dense matrix."""
    groups: dict[Any, list[int]] = {}
    for index, state in states.items():
        network = state.network
        on_cpu = network.values.device.type == "cpu"
        # On a CPU only sparse rows give a fork the same bits in company.
        joins = not on_cpu or training_kernel(network) == "sparse_rows"
        agreed = tuple(pair for pair in shared_by_members(state) if pair[0] != "groups")
        groups.setdefault(agreed if joins else index, []).append(index)
    return list(groups.values())


def _train(
    states: list[TrainState], train: Split, recipe: Recipe, steps: int, rate: float
) -> list[TrainState | Exception]:
    """Each trained, or what ended it; in halves where memory is short, one by one where they fail together."""
    half = 0
    if len(states) > 1:
        try:
            return _train_together(states, train, recipe, steps, rate)
        except torch.OutOfMemoryError:
            half = len(states) // 2
        except Exception:  # alone, whoever is to blame fails alone
            pass
    if half:
        parts = states[:half], states[half:]
        return [outcome for part in parts for outcome in _train(part, train, recipe, steps, rate)]
    trained: list[TrainState | Exception] = []
    for state in states:
        try:
            train_fork(state, train, recipe, steps, rate)
            trained.append(state)
        except Exception as error:
            trained.append(error)
    return trained


def _train_together(
    states: list[TrainState], train: Split, recipe: Recipe, steps: int, rate: float
) -> list[TrainState | Exception]:
    deepest = max((state.network.topology.architecture for state in states), key=len)
    padded = [
        seen_as(state, padded_topology(state.network.topology, deepest), training_kernel(state.network))
        for state in states
    ]
    cohort = Cohort(padded, [rate] * len(states))
    losses = cohort.train(train, recipe, steps, constant(1.0))
    bad = cohort.diverged() | ~torch.isfinite(losses).all(dim=1).cpu().numpy()
    return [
        Diverged(f"training diverged within {steps} steps of step {cohort.step}")
        if bad[index]
        else seen_as(cohort.take(index), state.network.topology, state.network.kernel)
        for index, state in enumerate(states)
    ]


def padded_topology(topology: Topology, deepest: Sequence[int]) -> Topology:
    """The same connections with as many groups as the deepest network: what it lacks are groups of 0 units.

    Units keep their numbers and connections their order. Hidden groups are put beside those of the deepest
    network that are nearest in width, so that a cohort has few links.
    """
    hidden, places = topology.architecture[1:-1], range(1, len(deepest) - 1)

    def apart(chosen: tuple[int, ...]) -> int:
        return sum(abs(deepest[place] - width) for place, width in zip(chosen, hidden))

    chosen = min(combinations(places, len(hidden)), key=apart)
    sizes = [topology.architecture[0]] + [0] * len(places) + [topology.architecture[-1]]
    for place, width in zip(chosen, hidden):
        sizes[place] = width
    return Topology(tuple(sizes), topology.source, topology.target)
