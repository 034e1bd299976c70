"""What training costs in multiply-adds, counted where networks are trained, for comparisons at equal cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from structnet.measure.size import training_multiply_adds
from structnet.network.topology import Topology


@dataclass
class Meter:
    """multiply_adds: of all training since it was opened, forward and backward."""

    multiply_adds: int = 0


_OPEN: ContextVar[Meter | None] = ContextVar("meter", default=None)


@contextmanager
def metered() -> Iterator[Meter]:
    """A meter of what is trained in this thread while it is open; of two, the inner one counts."""
    meter = Meter()
    token = _OPEN.set(meter)
    try:
        yield meter
    finally:
        _OPEN.reset(token)


def count(topologies: Sequence[Topology], images: int) -> None:
    """To be called by whoever trains: networks of these topologies have learned from so many images each."""
    if meter := _OPEN.get():
        meter.multiply_adds += images * sum(map(training_multiply_adds, topologies))
