"""TapLockstep: as Lockstep, networks of feature maps, which are normalised by the blocks of images they are trained on.

A block is small enough that the maps of a network stay in the processor's cache from layer to layer. Its means and
variances are those of its images alone (ghost batch normalisation, Hoffer et al. 2017), which is known to help.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from structnet.compiled import sheets as columns
from structnet.compiled.arrays import Moments, Rules, aligned_zeros
from structnet.compiled.sheets import Sheets, joined_sheets
from structnet.data.dataset import Split
from structnet.network.block_normalisation import block_width, follow
from structnet.network.normalisation import folded_values
from structnet.network.state import TrainState
from structnet.network.topology import Topology
from structnet.training.batches import batch_indices, noise_of
from structnet.training.lockstep import Lockstep
from structnet.training.recipe import Recipe, check_dropout


class TapLockstep(Lockstep):
    """As Lockstep. statistics: (2, units behind the input of all members), or None where nothing is normalised."""

    def __init__(
        self,
        like: TrainState,
        topologies: Sequence[Topology],
        values: np.ndarray,
        moments: Moments,
        statistics: np.ndarray | None,
    ) -> None:
        super().__init__(like, topologies, values, moments)
        self.statistics = statistics

    @classmethod
    def of(cls, state: TrainState) -> TapLockstep:
        """A network alone; what is trained is the state itself."""
        alone, kept = Lockstep.of(state), state.network.statistics
        statistics = None if kept is None else kept.numpy()
        return cls(state, alone.topologies, alone.values, alone.moments, statistics)

    @classmethod
    def together(cls, states: Sequence[TrainState]) -> TapLockstep:
        """Several networks, copied."""
        joined = Lockstep.together(states)
        kept = [state.network.statistics for state in states]
        found = [statistics.numpy() for statistics in kept if statistics is not None]
        statistics = np.concatenate(found, axis=1) if found else None
        return cls(states[0], joined.topologies, joined.values, joined.moments, statistics)

    @cached_property
    def plan(self) -> Any:
        """All members as compiled functions walk through them."""
        return joined_sheets([topology.sheets for topology in self.topologies])

    @cached_property
    def unit_spans(self) -> list[slice]:
        """Where the statistics of each member lie."""
        first = self.plan.members[:, columns.FIRST_UNIT].tolist()
        return [slice(start, stop) for start, stop in pairwise(first)]

    def workspace(self, batch: int) -> Any:
        """For batches of so many images."""
        is_normal = self.statistics is not None
        return tap_workspace(self.plan, batch, self.values.dtype, is_normal=is_normal)

    def rules(self, recipe: Recipe, decays: np.ndarray | None = None) -> Rules:
        """As of Lockstep. Raises UserError for dropout of hidden units."""
        check_dropout(recipe, self.topologies[0].architecture)
        return super().rules(recipe, decays)

    def _train(self, *told: Any) -> None:
        from structnet.compiled.tap_step import train_taps

        kept = np.empty((2, 0), dtype=self.values.dtype) if self.statistics is None else self.statistics
        train_taps(self.plan, self.code, self.values, self.moments, kept, *told)

    def gradient_of_part(
        self, split: Split, recipe: Recipe, step: int, part: slice
    ) -> tuple[float, np.ndarray]:
        """As of Lockstep, of a part of whole blocks; behind the gradient is what it adds to means and variances."""
        from structnet.compiled.shares import tap_gradient_of_part

        order = batch_indices(len(split), recipe.batch_size, recipe.rng_seed, step)
        work, parameters = self.workspace(len(order)), len(self.values)
        units = 0 if self.statistics is None else self.statistics.shape[1]
        joined = np.zeros(parameters + 2 * units, dtype=self.values.dtype)
        loss = tap_gradient_of_part(
            self.plan,
            self.code,
            self.values,
            self.images(split),
            noise_of(recipe),
            order,
            part.start,
            part.stop,
            step,
            work._replace(gradient=joined[:parameters]),
            joined[parameters:].reshape(2, units),
        )
        return loss, joined

    def apply_gradient(self, gradient: np.ndarray, recipe: Recipe, rate: float, step: int) -> None:
        """As of Lockstep, by a sum over all parts of what `gradient_of_part` returns."""
        parameters = len(self.values)
        super().apply_gradient(gradient[:parameters], recipe, rate, step)
        if self.statistics is not None:
            seen = torch.from_numpy(gradient[parameters:]).view(2, -1)
            follow(torch.from_numpy(self.statistics), self.topologies[0], seen)

    def _judge(self, *told: Any) -> None:
        from structnet.compiled.tap_step import judge_taps

        values = np.concatenate([self._folded(member) for member in range(len(self))])
        judge_taps(self.plan, self.code, values, *told)

    def _folded(self, member: int) -> np.ndarray:
        network = self.take(member, 0).network
        return folded_values(network, network.values.detach()).numpy()

    def _changed(self) -> tuple[np.ndarray, ...]:
        changed = super()._changed()
        return changed if self.statistics is None else (*changed, self.statistics)

    def _statistics_of(self, member: int) -> np.ndarray | None:
        return None if self.statistics is None else self.statistics[:, self.unit_spans[member]].copy()

    def _read_features(self) -> np.ndarray:
        return np.arange(self.topologies[0].architecture.inputs)


def tap_workspace(plan: Sheets, batch: int, kind: np.dtype, *, is_normal: bool) -> Any:
    """For batches of so many images, in blocks of equal width but for the last; is_normal: maps are normalised."""
    from structnet.compiled.tap_step import TapWorkspace

    width = block_width(batch)
    units = int(np.diff(plan.members[:, columns.FIRST_UNIT]).max())
    before = (plan.map_rows * width if is_normal else 0,)
    return TapWorkspace(
        aligned_zeros((plan.rows, width), kind),
        aligned_zeros((plan.rows, width), kind),
        aligned_zeros(before, kind),
        np.zeros(units),
        np.zeros(units),
        np.zeros(plan.members[-1, columns.FIRST_PARAMETER], dtype=kind),
    )
