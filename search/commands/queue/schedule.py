"""Which entries of the queue start now: a pure function of what waits, what runs, and what there is.

Entries are looked at by priority, the older one first among equals, and each that fits into what is free then is
started. So a lower entry never takes what a higher one could have used at that moment. What does not fit yet
keeps nothing free: small entries may overtake a big one of higher priority for as long as they keep coming, which
keeps the machine busy. Whoever wants the big one to start pauses the queue, or the small ones, until it has.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

_ROUNDING = 1e-9  # three tenths must fit where a tenth and two tenths are free


class Demand(NamedTuple):
    """What an entry asks for.

    gpus: a share of one device if at most 1, else as many whole devices as it takes. devices: the ones it has, by
    number, while it runs.
    """

    id: int
    priority: int
    cpus: float
    gpus: float = 0.0
    devices: tuple[int, ...] = ()


def to_start(
    waiting: Iterable[Demand], running: Iterable[Demand], *, cpus: float, gpus: int, parallel: int
) -> dict[int, tuple[int, ...]]:
    """The entries to start now, in this order: id -> the devices it gets.

    cpus, gpus: all there are, with those in use; parallel: most entries at once.
    """
    running = list(running)
    free_cpus = cpus - sum(demand.cpus for demand in running)
    free = [1.0] * gpus
    for demand in running:
        _take(demand.gpus, demand.devices, free)
    starts: dict[int, tuple[int, ...]] = {}
    for demand in sorted(waiting, key=lambda demand: (-demand.priority, demand.id)):
        if len(running) + len(starts) >= parallel:
            break
        devices = _place(demand.gpus, free)
        if devices is None or demand.cpus > free_cpus + _ROUNDING:
            continue
        free_cpus -= demand.cpus
        _take(demand.gpus, devices, free)
        starts[demand.id] = devices
    return starts


def fits_at_all(demand: Demand, *, cpus: float, gpus: int) -> bool:
    """Whether it could start if nothing else ran."""
    return bool(to_start([demand], [], cpus=cpus, gpus=gpus, parallel=1))


def _place(gpus: float, free: list[float]) -> tuple[int, ...] | None:
    """The devices for this many GPUs, or None if there is no room; free: the free share of each device.

    A share goes where the least is left that suffices, so that whole devices stay whole.
    """
    if gpus <= 0:
        return ()
    room = [(share, device) for device, share in enumerate(free) if share >= min(gpus, 1.0) - _ROUNDING]
    count = math.ceil(gpus - _ROUNDING)
    return tuple(device for _, device in sorted(room)[:count]) if len(room) >= count else None


def _take(gpus: float, devices: tuple[int, ...], free: list[float]) -> None:
    for device in devices:
        if device < len(free):  # it was started when there were more
            free[device] -= min(gpus, 1.0)
