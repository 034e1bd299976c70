"""Contender: holds the dataset on its device between rounds, and does one piece of work at a time.

A plain class: the tests call it directly, `tournament.workers.pool` puts a Ray actor around it. What there is to do is
in `tournament.workers.work`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

import numpy as np
import torch

from structnet.data.dataset import Split
from structnet.data.packing import unpack
from structnet.growth.scales import pooled_split, zoom
from structnet.network.architecture import architecture_of
from structnet.training.recipe import Recipe
from tournament.workers.fork import Arrays

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Work(Protocol[R_co]):
    """A piece of work, as plain numbers that can be sent anywhere; it reports an R_co."""

    @property
    def name(self) -> str:
        """On Ray's dashboard."""

    @property
    def makes(self) -> int:
        """How many states come of it, of which some may be None."""

    def run(self, contender: Contender, states: Sequence[Arrays]) -> tuple[R_co, Sequence[Arrays | None]]:
        """(report, states that were made). Whatever it raises is the outcome of its job."""


class Contender:
    """The dataset on a device, as work needs it.

    A network of fewer inputs than the images have pixels sees them average-pooled.
    """

    def __init__(self, packed: dict[str, np.ndarray], device: str = "cpu", name: str = "contender-0") -> None:
        # One thread per worker: small sparse products lose more to starting threads than they win, and one
        # thread gives the same sums on every machine and with any number of workers.
        torch.set_num_threads(1)
        self.name = name
        self.splits = unpack(packed, device)
        self._pooled: dict[tuple[str, int], Split] = {}

    @property
    def device(self) -> torch.device:
        """Where the dataset lies, and the networks that train on it."""
        return self.splits["train"].labels.device

    def do(self, work: Work[R], states: Sequence[Arrays]) -> tuple[R, Sequence[Arrays | None]]:
        """(report, states that were made) of a piece of work on these states."""
        return work.run(self, states)

    def split(self, name: str, architecture: Sequence[int]) -> Split:
        """A split as a network of these groups sees it; pooled once for every resolution."""
        split = self.splits[name]
        factor = zoom(split.shape, architecture_of(architecture).inputs)
        if factor == 1:
            return split
        if (name, factor) not in self._pooled:
            self._pooled[name, factor] = pooled_split(split, factor)
        return self._pooled[name, factor]

    def recipe(self, recipe: Recipe, architecture: Sequence[int]) -> Recipe:
        """The recipe at the resolution of such a network: shifts are told in pixels of the data."""
        factor = zoom(self.splits["train"].shape, architecture_of(architecture).inputs)
        return replace(recipe, shift=recipe.shift // factor)
