"""Forks of a heat trained together: as one cohort instead of one network after the other.

On a CPU a fork comes out with the same bits either way (structnet.training.cohort), so a heat decides the same however
its forks are dealt to workers.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from structnet.actions.base import Proposal
from structnet.data.dataset import Split
from structnet.errors import one_line
from structnet.network.state import TrainState
from structnet.training.cohort import Cohort, shared_by_members
from structnet.training.loop import Diverged, train_steps
from structnet.training.recipe import Recipe
from structnet.training.schedules import constant
from tournament.workers.fork import NOT_FINITE, Arrays, ForkReport, Measured, measure_all, start_fork

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
    a report with an error and no state; the others go on. Seconds of a report: its own for the edit, by its parameters
    a share of what its cohort trained, and an equal one of the measures.
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
    whole = [index for index in range(len(forks)) if index not in failed]
    started = time.perf_counter()
    found = dict(zip(whole, _measures([states[index] for index in whole], validation, with_probe)))
    seconds[whole] += (time.perf_counter() - started) / max(1, len(whole))
    results: list[ForkResult] = []
    for index in range(len(forks)):
        measured = found.get(index)
        if isinstance(measured, Exception):
            failed[index], measured = one_line(measured), None
        report = ForkReport(measured, float(seconds[index]), worker, failed.get(index, ""))
        results.append((report, None if index in failed else states[index].to_arrays()))
    return results


def _measures(states: list[TrainState], validation: Split, with_probe: bool) -> list[Measured | Exception]:
    """The measure of each, or what kept it from one."""
    try:
        found = measure_all(states, validation, with_probe=with_probe)
    except Exception as error:
        if len(states) == 1:
            return [error]
        return [one for state in states for one in _measures([state], validation, with_probe)]
    return [Diverged(NOT_FINITE) if one is None else one for one in found]


def _cohorts(states: dict[int, TrainState]) -> list[list[int]]:
    """Which forks train together: those that agree in what the members of a cohort must."""
    groups: dict[Any, list[int]] = {}
    for index, state in states.items():
        groups.setdefault(shared_by_members(state), []).append(index)
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
            train_steps(state, train, recipe, steps, constant(rate))
            trained.append(state)
        except Exception as error:
            trained.append(error)
    return trained


def _train_together(
    states: list[TrainState], train: Split, recipe: Recipe, steps: int, rate: float
) -> list[TrainState | Exception]:
    cohort = Cohort(states, [rate] * len(states))
    losses = cohort.train(train, recipe, steps, constant(1.0))
    bad = cohort.diverged() | ~torch.isfinite(losses).all(dim=1).numpy()
    return [
        Diverged(f"training diverged within {steps} steps of step {cohort.step}")
        if bad[index]
        else cohort.take(index)
        for index in range(len(states))
    ]
