"""The final phase of a tournament: overshoot with the credits that were saved, move, prune, anneal.

There is one, or one for every size on the way to the smallest that does a stated job (tournament.descent).
"""

from __future__ import annotations

import math
from dataclasses import replace

from structnet.training.shrinking import Shrinking
from tournament.winning_line import WinningLine
from tournament.workers.work import Shrink

# With a stated job every size is reached from above, from so many times its parameters. MNIST, validation, geometric
# means of 8 rng_seeds: 97 and 98 % are held by 768 and 1,639 parameters with 3, for 38 and 93 million parameter-steps;
# by 729 and 1,520 with 4, for 45 and 110 million; and by 817 and 2,785 where only the first size is, for 40 and 85.
OVERSHOOT = 3
# Where there is one size, it is reached twice, the first time for this share of what the run costs. Against once at
# equal cost, test, 5 to 8 rng_seeds: a table of 50 columns +1.7 (0.9 to 2.4) points, digits +1.2 (0.1 to 2.3), MNIST
# with 4,000 parameters +0.12 (0.03 to 0.21), moons, CIFAR-10, the teacher and MNIST with 1,600 within their noise. A
# peak of 8 times the size is better than 4 on MNIST (1,600) and digits, and than 16 on the table, the teacher and
# MNIST (4,000).
CYCLE = 0.15
OVERSHOOT_ALONE = 8
# The learning rate is meant for a network of this share of the dense one, and rises with the root of what is missing.
# Where there is one size, it falls with the root of what is more: MNIST, test, 4 rng_seeds, 20,000 parameters with a
# dense peak 97.91 at 0.012, 98.17 at 0.007 and 98.12 at 0.004; 4,000 from 32,000 98.03, 98.08, 98.09.
FULL_SHARE = 1 / 6


def start_final_phase(line: WinningLine, reason: str, seconds: float) -> None:
    """Growth has ended for this reason, so many seconds into the run; plans the rest of the line.

    Credits pay for exploration: connections are added with them first - with those that were saved while growing
    and those that are earned meanwhile - and pruned again on the way to the limit or, without one, back to the size
    that growth reached.
    """
    progress, steps = line.progress, line.total_steps - line.progress.step
    progress.phase, progress.reason = "final", reason
    if line.policy.contests and not line.settings.has_job:
        next_cycle(line, seconds)
    else:
        plan(line, steps, line.settings.max_parameters or 0, seconds)


def next_cycle(line: WinningLine, seconds: float) -> bool:
    """Plans the next way up and down again to the one size that is asked for; False if all is spent.

    What shapes have cost is part of what the run costs, and so is a first short way: where that comes before the long
    one, networks of the same cost are better (see CYCLE).
    """
    progress, limit = line.progress, line.settings.max_parameters or line.parameters
    if progress.cycles == 2:
        return False
    whole = planned_cost(line, limit)
    left = CYCLE * whole - progress.parameter_steps
    if progress.cycles == 0 and left < CYCLE / 3 * whole:  # shapes have done so much of it
        progress.cycles = 1
    if progress.cycles:
        left = whole - progress.parameter_steps_all
    progress.cycles += 1
    plan(line, round(left / max(1.0, _phase(line, limit).mean_parameters)), limit, seconds)
    return True


def planned_cost(line: WinningLine, limit: int) -> float:
    """Parameter-steps of a run that leads to so many parameters: its budget, or what it comes to in its minutes."""
    minutes, steps = line.settings.minutes, line.total_steps
    whole = line.settings.budget or whole_cost(line, limit)
    if minutes is not None:
        within = max(line.per_epoch, int(60 * minutes / max(1e-6, line.progress.seconds_per_step)))
        whole *= min(1.0, within / steps)
    return whole


def whole_cost(line: WinningLine, limit: int) -> float:
    """Parameter-steps of a run whose one final phase, of all epochs, leads to so many parameters."""
    steps, peak = line.total_steps, max(limit, peak_of(line, limit, line.reference_dense))
    return steps * Shrinking(0, steps, line.seed_parameters, peak, limit).mean_parameters


def peak_of(line: WinningLine, limit: int, dense: int) -> int:
    """Parameters on the way to a size, of a shape that has at most `dense`."""
    times = OVERSHOOT if line.settings.has_job else OVERSHOOT_ALONE
    most = times * limit if line.settings.overshoot is None else line.settings.overshoot
    return min(most, dense)


def _phase(line: WinningLine, limit: int) -> Shrinking:
    """A phase from here to a size, of any length."""
    phase = Shrinking(0, line.total_steps, line.parameters, line.parameters, limit)
    most = peak_of(line, limit, line.dense_of(line.hidden))
    if not (line.policy.contests or line.settings.has_job):
        # Credits alone limit it, with those that are earned on the way.
        rising = phase.grown_until * (line.total_steps - line.progress.step)
        credits = line.ledger.balance + line.ledger.worth(rising, line.measured.accuracy)
        most = min(line.settings.overshoot or line.dense_of(line.hidden), line.parameters + int(credits))
    return replace(phase, peak=max(line.parameters, most))


def plan(line: WinningLine, steps: int, limit: int, seconds: float) -> None:
    """A final phase of about so many steps, from here to the limit; 0 for the size of now.

    It has at least an epoch, and no more than what is left of the minutes or of the budget.
    """
    progress, minutes, budget = line.progress, line.settings.minutes, line.settings.budget
    steps = max(line.per_epoch, steps)
    if budget is not None:
        mean = _phase(line, limit or line.parameters).mean_parameters
        within = round((budget - progress.parameter_steps_all) / max(1.0, mean))
        # Growths are followed by one phase, which has what they have left.
        is_last = not (line.settings.has_job or line.policy.contests)
        steps = max(line.per_epoch, within if is_last else min(steps, within))
    if minutes is not None:
        left = max(1.0, 60 * minutes - seconds)
        steps = max(line.per_epoch, min(steps, int(left / max(1e-6, progress.seconds_per_step))))
    progress.final_start, progress.final_stop = progress.step, progress.step + steps
    progress.final_size = progress.final_largest = line.parameters
    progress.final_limit, progress.final_cost, progress.final_earned = limit, 0, 0.0


def refine_at_last(line: WinningLine) -> tuple[str, float, float]:
    """Refines an input that is still coarse to full resolution before the final phase; (site, spent, refunded).

    The size that growth reached is the one after that.
    """
    refined = line.refine()
    line.progress.final_size = line.progress.final_largest = line.parameters
    return refined


def final_stretch(line: WinningLine) -> None:
    """One epoch of the final phase; what it earns while connections are added can be spent in the next."""
    progress, shrinking = line.progress, _shrinking(line)
    steps = min(line.per_epoch, progress.final_stop - progress.step)
    widths = tuple(progress.grown_architecture) if line.settings.has_job else ()
    if line.policy.contests:
        widths = (line.architecture[0], *line.hidden, line.architecture[-1])
    work = Shrink(line.recipe, shrinking, steps, _rate(line), widths, line.uses_probe)
    shrunk, (state,) = line.do(work)
    line.measured = shrunk.measured
    progress.step += steps
    progress.steps_all += steps
    progress.parameter_steps += shrunk.parameter_steps
    progress.parameter_steps_all += shrunk.parameter_steps
    progress.final_cost += shrunk.parameter_steps
    progress.final_largest = max(progress.final_largest, shrunk.largest)
    line.set_state(state)
    progress.final_earned += line.earn()
    progress.balance = line.ledger.balance


def settle(line: WinningLine) -> tuple[float, float]:
    """Pays for what the final phase added and takes the refund for what it pruned; (spent, refunded)."""
    progress = line.progress
    spent, _ = line.ledger.trade(progress.final_largest - progress.final_size)
    _, refunded = line.ledger.trade(line.parameters - progress.final_largest)
    return spent, refunded


def _shrinking(line: WinningLine) -> Shrinking:
    """The schedule: up to what the credits allow, then down to the limit or, without one, back to the size."""
    progress, settings = line.progress, line.settings
    shrinking = Shrinking(
        start=progress.final_start,
        stop=progress.final_stop,
        size=progress.final_size,
        peak=progress.final_largest,
        limit=progress.final_limit or progress.final_size,
        limit_bytes=settings.max_bytes,
        limit_macs=settings.max_macs,
    )
    if not line.policy.grows or not shrinking.may_grow(progress.step):
        return shrinking
    affordable = progress.final_size + int(line.ledger.balance)
    most = settings.overshoot
    if line.policy.contests:
        most = peak_of(line, progress.final_limit or progress.final_size, line.dense_of(line.hidden))
    elif most is None and settings.has_job:
        most = min(OVERSHOOT * progress.final_limit, line.ledger.parameters_dense)
    return replace(
        shrinking, peak=max(progress.final_size, affordable if most is None else min(affordable, most))
    )


def _rate(line: WinningLine) -> float:
    """The learning rate at the peak of this phase."""
    return rate_of(line, line.progress.final_size, line.progress.final_limit, line.hidden)


def rate_of(line: WinningLine, size: int, limit: int, hidden: tuple[int, ...]) -> float:
    """The learning rate at the peak of a phase from a size to a limit, of a network with these hidden groups."""
    settings = line.settings
    if settings.has_job:
        share = FULL_SHARE * line.reference_dense / max(size, OVERSHOOT * limit)
        return settings.learning_rate * math.sqrt(max(1.0, share))
    if not line.policy.contests:
        return settings.learning_rate
    dense = line.dense_of(hidden)
    share = FULL_SHARE * dense / max(size, peak_of(line, limit, dense))
    return settings.learning_rate * math.sqrt(min(1.0, share))
