"""CHT and CHTs: connections come where the shape of the network predicts them, without a gradient.

Zhang et al. 2024, Epitopological learning and Cannistraci-Hebb network shape intelligence, and Zhang et al. 2025, whose
soft rule (CHTs) draws what stays and what comes, and scores by units instead of paths: both are in
structnet.growth.cannistraci_hebb. Published with one share to the end, for fair comparisons on the schedule of all.
"""

from __future__ import annotations

from typing import ClassVar

from typing_extensions import override

from structnet.data.dataset import Split
from structnet.experiments.baselines import Moving
from structnet.growth.cannistraci_hebb import cannistraci_hebb_step
from structnet.growth.rewiring import with_random
from structnet.network.state import TrainState
from structnet.seeds import stream


class Cht(Moving):
    """CHT, scored by CH2-L3n: the least important go, and the largest scores come."""

    is_constant: ClassVar[bool] = True

    @override
    def moved(self, state: TrainState, split: Split, share: float) -> TrainState:
        rng = stream(self.rng_seed, "rewiring", state.step)
        return cannistraci_hebb_step(state, share, rng, power=self._power(state.step))

    @override
    def placed(self, state: TrainState, split: Split, count: int) -> TrainState:
        return with_random(
            state, count, stream(self.rng_seed, "placing", state.step), scale=float(state.step == 0)
        )

    def _power(self, step: int) -> float | None:
        return None


class Chts(Cht):
    """CHTs: both are drawn; what stays ever less by chance, as the power of its importance rises from 1 to 3."""

    last_power: ClassVar[float] = 3.0

    @override
    def _power(self, step: int) -> float | None:
        return 1 + (self.last_power - 1) * step / self.steps
