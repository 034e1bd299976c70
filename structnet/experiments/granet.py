"""GraNet: gradual pruning, and after every cut as many weak connections give way to strong gradients.

Liu et al. 2021, Sparse training via boosting pruning plasticity with neuroregeneration, sparse to sparse: from half of
all connections, pruned on the cubic schedule of Zhu & Gupta (2017) for the first half of the training, while half of
each link, less and less along a cosine, is moved as RigL moves it (Evci et al. 2020).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from typing_extensions import override

from structnet.data.dataset import Split
from structnet.experiments.baselines import Rigl
from structnet.growth.rewiring import prune_step
from structnet.network.architecture import possible_connections, unit_parameters
from structnet.network.network import StructNet
from structnet.network.state import TrainState
from structnet.training.shrinking import Shrinking


class Granet(Rigl):
    """GraNet (Liu et al. 2021), which prunes over all links together.

    The paper moves to the end; here moves end after 75 % of the training, as those of all methods. A network that is to
    have more than half of all connections begins with as many.
    """

    usual_share: ClassVar[float] = 0.5
    pruned_until: ClassVar[float] = 0.5

    @property
    @override
    def mean_parameters(self) -> float:
        return float(np.mean([self.size_at(step) for step in range(0, self.steps, self.every)]))

    @override
    def start(self) -> StructNet:
        return self._random(self._schedule.size)

    @override
    def change(self, state: TrainState, split: Split) -> TrainState:
        if state.step:
            state = prune_step(state, self.size_at(state.step))
        return super().change(state, split)

    @override
    def size_at(self, step: int) -> int:
        return self._schedule.target(step)

    @property
    def _schedule(self) -> Shrinking:
        own = unit_parameters(self.architecture, self.shape_numbers)
        half = possible_connections(self.architecture) // 2 + own
        size = max(self.parameters, half)
        return Shrinking(
            0, self.steps, size, size, self.parameters, pruned_until=self.pruned_until, interval=self.every
        )
