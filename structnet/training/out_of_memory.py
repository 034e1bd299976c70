"""Out of memory: what runs out of memory is tried again in smaller pieces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeVar

import torch

Found = TypeVar("Found")


def halved(bounds: Sequence[int]) -> list[int]:
    """Where pieces begin and the last ends, with each of more than one member cut in two: [0, 5, 6] -> [0, 2, 5, 6]."""
    cut = [bounds[0]]
    for start, stop in pairwise(bounds):
        if stop - start > 1:
            cut.append((start + stop) // 2)
        cut.append(stop)
    return cut


def retry_smaller(work: Callable[[], Found], smaller: Callable[[], bool]) -> Found:
    """What `work` returns; each time that torch runs out of memory it is called again, once `smaller` is through.

    smaller: undoes what work has begun and cuts it smaller; False if that cannot be, and the error is raised.
    """
    while True:
        try:
            return work()
        except torch.OutOfMemoryError as error:
            # The traceback would keep alive what the failed attempt had on the device.
            lack = error.with_traceback(None)
        if not smaller():
            raise lack
