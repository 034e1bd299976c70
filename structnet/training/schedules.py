"""Learning rates by the step of the line."""

from __future__ import annotations

import math
from collections.abc import Callable


def constant(rate: float) -> Callable[[int], float]:
    """One learning rate for all steps."""
    return lambda step: rate


def cosine(rate: float, start: int, stop: int, *, floor: float = 0.0) -> Callable[[int], float]:
    """From `rate` at step `start` along half a cosine to `floor` × rate at `stop` (Loshchilov & Hutter 2017)."""

    def at(step: int) -> float:
        progress = min(1.0, max(0.0, (step - start) / max(1, stop - start)))
        return rate * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress)))

    return at


def linear(rate: float, start: int, stop: int) -> Callable[[int], float]:
    """From `rate` at step `start` along a line to 0 at `stop`."""
    return lambda step: rate * (1 - min(1.0, max(0.0, (step - start) / max(1, stop - start))))


SCHEDULES: dict[str, Callable[[float, int, int], Callable[[int], float]]] = {
    "cosine": cosine,
    "linear": linear,
    "constant": lambda rate, start, stop: constant(rate),
}
