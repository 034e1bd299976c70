"""From a network that has grown to the smallest that does its job: a path of sizes, each annealed and measured.

Every size is a final phase of its own that begins where the one before ended, as a learning rate that is wound back
after each pruning loses nothing (Renda et al. 2020). The way up and down again within each explores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from structnet.measure.size import multiply_adds, stored_bytes
from structnet.network.state import TrainState
from tournament.final_phase import plan
from tournament.records import bits_of
from tournament.rules.front import knee, nearest, shortfall, size_it_would_take, smallest_holding
from tournament.rules.goal import FIGURES
from tournament.rules.sizes import Sizes, Visit, almost, next_for_knee, next_for_target, next_of
from tournament.winning_line import WinningLine
from tournament.workers.fork import Arrays, Measured
from tournament.workers.pool import Job
from tournament.workers.work import Measure

# Shares of --epochs: of the first size, of each that follows, and of one that follows when no size has held yet, as it
# may be training that lacks: with 0.25 `teacher` at 98.5 % was given up for 2 of 4 rng_seeds, with 0.5 for none of 6.
FIRST, LATER, UNHELD = 0.3, 0.25, 0.5
INSISTING = 1.0  # of the size that came closest, once, where the path would end without one that holds
START_SHARE = 1 / 24  # of the dense network, if growth has reached less


@dataclass(frozen=True)
class Choice:
    """Which network of a path to return: that after a round.

    held: whether it does the job. shortfall: of the target's figure on fresh images, estimated. would_take: parameters
    at which the target would hold, by extrapolation. bits: that a doubling gains less than, of a knee.
    """

    round: int
    held: bool
    shortfall: float | None = None
    would_take: int | None = None
    bits: float | None = None


def visits_of(line: WinningLine) -> list[Visit]:
    """The sizes that were reached so far."""
    names = ("round", "size", "parameters", "information", "error")
    return [Visit(*(row[name] for name in names)) for row in line.progress.front]


def go_on(line: WinningLine, seconds: float) -> bool:
    """Plans the phase of the next size; False if no other is worth it, or the minutes or the budget are used up.

    A network that has lost a whole group does not get it back: then it begins with
    the smallest that held, or the largest, or a seed.
    """
    settings, visits, progress = line.settings, visits_of(line), line.progress
    if not visits:
        progress.grown_architecture = [line.architecture[0], *line.arrays()["architecture"][1:]]
        if line.policy.contests:
            progress.grown_architecture[1:-1] = line.hidden
        else:
            progress.grown_size = line.parameters
    holds = any(visit.holds for visit in visits)
    share = FIRST if not visits else LATER if holds else UNHELD
    size = None if progress.insisted and not holds else _next_size(line, visits)
    if size is None and settings.target and not progress.insisted and (closest := almost(visits)):
        progress.insisted = True
        size, share, progress.begins_with = closest.size, INSISTING, closest.round
    if size is None or (visits and _used_up(line, seconds)):
        return False
    if len(line.arrays()["architecture"]) < len(progress.grown_architecture):
        base = smallest_holding(visits) if settings.target else None
        base = base or max(visits, key=lambda visit: visit.parameters, default=None)
        if base:
            progress.begins_with = base.round
        else:
            seed = TrainState.fresh(line.seed_of(line.hidden)).to_arrays()
            line.set_state(line.workers.put({**seed, "step": progress.step}))
    plan(line, round(share * settings.epochs * line.per_epoch), size, seconds)
    return True


def begin_phase(line: WinningLine, arrays_of: Callable[[int], Arrays]) -> None:
    """Where a phase does not go on from the network before it, takes the one that it begins with."""
    progress = line.progress
    if progress.begins_with < 0:
        return
    line.set_state(line.workers.put({**arrays_of(progress.begins_with), "step": progress.step}))
    progress.final_size = progress.final_largest = line.parameters
    progress.begins_with = -1


def _used_up(line: WinningLine, seconds: float) -> bool:
    minutes, budget = line.settings.minutes, line.settings.budget
    late = minutes is not None and seconds >= 60 * minutes
    return late or (budget is not None and line.progress.parameter_steps_all >= budget)


def first_size(line: WinningLine) -> int:
    """The size that the final phase leads to, or the first of the path."""
    if line.settings.has_job:
        return _next_size(line, []) or line.parameters
    return line.settings.max_parameters or line.seed_parameters


def _next_size(line: WinningLine, visits: Sequence[Visit]) -> int | None:
    settings = line.settings
    if size := next_of(visits, settings.front):
        return size
    least = line.architecture[-1] + 1
    most = settings.max_parameters or max(line.reference_dense, line.dense_of(line.hidden))
    start = max(line.progress.grown_size, round(START_SHARE * line.reference_dense), least)
    sizes = Sizes(min(start, most), least, most)
    if settings.target:
        return next_for_target(visits, sizes)
    return None if settings.front else next_for_knee(visits, sizes, settings.bits_at_knee(line.entropy))


def reached(line: WinningLine, trial: str, snapshot: str) -> dict[str, Any]:
    """The row of the fronts table for the size that a phase has ended with."""
    progress, measured, target = line.progress, line.measured, line.settings.target
    seen = measured.right, measured.bits, line.labels
    found = target.found(*seen) if target else 0.0
    error = target.error(found) if target else 0.0
    topology = TrainState.from_arrays(line.arrays()).network.topology
    row = {
        "trial": trial,
        "round": progress.round,
        "size": progress.final_limit,
        "parameters": line.parameters,
        "connections": line.connections,
        "bytes": stored_bytes(topology),
        "macs": multiply_adds(topology),
        "accuracy": measured.accuracy,
        "balanced_accuracy": FIGURES["balanced_accuracy"].of(*seen),
        "loss": measured.loss,
        "information": bits_of(measured, line.entropy, line.settings.information),
        "found": found,
        "error": error,
        "holds": error <= 1,
        "chosen": False,
        "steps": progress.step - progress.final_start,
        "parameter_steps": progress.final_cost,
        "parameter_steps_all": progress.parameter_steps_all,
        "snapshot": snapshot or None,
    }
    progress.front.append(row)
    return row


def choose(line: WinningLine, arrays_of: Callable[[int], Arrays]) -> Choice:
    """The network to return, of all that were reached. arrays_of: the state after a round."""
    settings, visits = line.settings, visits_of(line)
    if settings.target is None:
        bits = settings.bits_at_knee(line.entropy)
        return Choice(knee(visits, bits).round, True, bits=bits)
    found = smallest_holding(visits)
    if found is None:
        return Choice(nearest(visits).round, False, would_take=size_it_would_take(visits))
    measured = measure_again(line, [arrays_of(visit.round) for visit in visits], "validation")
    right = np.stack([one.right for one in measured])
    likelihoods = np.stack([one.bits for one in measured])
    sizes = [visit.parameters for visit in visits]
    lacking = shortfall(right, likelihoods, line.labels, sizes, settings.target)
    return Choice(found.round, True, shortfall=lacking)


def read_test(line: WinningLine, choice: Choice, arrays_of: Callable[[int], Arrays]) -> list[dict[str, Any]]:
    """Measures on test what is kept: the network that is returned, and those of sizes asked for by name.

    Returns their rows.
    """
    kept = {choice.round}
    for size in line.settings.front:
        of_size = [visit for visit in visits_of(line) if visit.size == size]
        kept |= {max(of_size, key=lambda visit: visit.information).round} if of_size else set()
    rows = [row for row in line.progress.front if row["round"] in kept]
    tested = measure_again(line, [arrays_of(row["round"]) for row in rows], "test")
    for row, test in zip(rows, tested):
        row |= {
            "test_accuracy": test.accuracy,
            "test_loss": test.loss,
            "chosen": row["round"] == choice.round,
        }
    return rows


def measure_again(line: WinningLine, states: Sequence[Arrays], split: str) -> list[Measured]:
    """Networks on a split, all workers at once."""
    jobs = [Job(Measure(split), (line.workers.put(state),)) for state in states]
    return [outcome.value() for outcome in line.workers.run(jobs)]
