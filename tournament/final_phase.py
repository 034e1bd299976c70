"""The final phase of a tournament: overshoot with the credits that were saved, move, prune, anneal."""

from __future__ import annotations

from dataclasses import replace

from structnet.training.shrinking import Shrinking
from tournament.winning_line import WinningLine
from tournament.workers.work import Shrink


def start_final_phase(line: WinningLine, reason: str, seconds: float) -> None:
    """Growth has ended for this reason, so many seconds into the run; plans the rest of the line.

    Credits pay for exploration: connections are added with them first - with those that were saved while growing
    and those that are earned meanwhile - and pruned again on the way to the limit or, without one, back to the size
    that growth reached.
    """
    progress, settings = line.progress, line.settings
    remaining = max(line.per_epoch, line.total_steps - progress.step)
    if settings.minutes is not None:
        left = max(1.0, 60 * settings.minutes - seconds)
        remaining = max(line.per_epoch, min(remaining, int(left / max(1e-6, progress.seconds_per_step))))
    progress.phase, progress.reason = "final", reason
    progress.final_start, progress.final_stop = progress.step, progress.step + remaining
    progress.final_size = progress.final_largest = line.parameters


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
    work = Shrink(line.recipe, shrinking, steps, line.settings.learning_rate, line.uses_probe)
    shrunk, (state,) = line.do(work)
    line.measured = shrunk.measured
    progress.step += steps
    progress.steps_all += steps
    progress.parameter_steps += shrunk.parameter_steps
    progress.parameter_steps_all += shrunk.parameter_steps
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
        limit=settings.max_parameters or progress.final_size,
    )
    if not line.policy.grows or not shrinking.may_grow(progress.step):
        return shrinking
    affordable = progress.final_size + int(line.ledger.balance)
    most = affordable if settings.overshoot is None else min(affordable, settings.overshoot)
    return replace(shrinking, peak=max(progress.final_size, most))
