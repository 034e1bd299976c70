"""The final phase of a tournament: overshoot with what was saved, move, sell, anneal."""

from __future__ import annotations

from structnet.shrinking import Shrinking
from tournament.line import Line


def start_final_phase(line: Line, reason: str, seconds: float) -> None:
    """Growth has ended for this reason, so many seconds into the run; plans the rest of the line.

    The credits saved while growing pay for exploration: connections are bought with them first, and sold again
    on the way to the limit or, without one, back to the size that growth reached.
    """
    progress, settings = line.progress, line.settings
    progress.phase, progress.reason = "final", reason
    remaining = max(line.per_epoch, line.total_steps - progress.step)
    if settings.minutes is not None:
        left = max(1.0, 60 * settings.minutes - seconds)
        seconds_per_step = seconds * line.workers.workers / max(1, progress.steps_all)
        remaining = max(line.per_epoch, min(remaining, int(left / max(1e-6, seconds_per_step))))
    progress.final_start, progress.final_stop = progress.step, progress.step + remaining
    progress.final_size = progress.final_largest = line.parameters


def final_stretch(line: Line) -> None:
    """One epoch of the final phase."""
    progress = line.progress
    steps = min(line.per_epoch, progress.final_stop - progress.step)
    stretch = {
        "start": progress.final_start,
        "stop": progress.final_stop,
        "steps": steps,
        "rate": line.settings.learning_rate,
        "with_probe": line.uses_probe,
    }
    (line.measured, spent, largest), state = line.call(
        "shrink", line.state, line.recipe, _shrinking(line), stretch
    )
    progress.step += steps
    progress.steps_all += steps
    progress.parameter_steps += spent
    progress.parameter_steps_all += spent
    progress.final_largest = max(progress.final_largest, largest)
    line.set_state(state)


def settle(line: Line) -> tuple[float, float]:
    """Pays for what the final phase bought and takes the refund for what it sold; (spent, refunded)."""
    progress = line.progress
    spent, _ = line.ledger.trade(progress.final_largest - progress.final_size)
    _, refunded = line.ledger.trade(line.parameters - progress.final_largest)
    return spent, refunded


def _shrinking(line: Line) -> Shrinking:
    """The schedule: up to what the saved credits buy, then down to the limit or, without one, back to the size."""
    progress = line.progress
    saved = int(line.ledger.balance) if line.policy.grows else 0
    return Shrinking(
        start=progress.final_start,
        stop=progress.final_stop,
        size=progress.final_size,
        peak=progress.final_size + saved,
        limit=line.settings.max_parameters or progress.final_size,
    )
