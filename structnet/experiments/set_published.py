"""SET as its authors run it: the same share moves to the end of the training, and units without a way out stay.

Mocanu et al. 2018; as in their program with masks, what comes has the value 0 and may take a place that was just
emptied. Velocities go along with what survives, where that program loses all of them.
"""

from __future__ import annotations

from typing_extensions import override

from structnet.data.dataset import Split
from structnet.experiments.baselines import Method
from structnet.growth.evolution import Evolution, evolve
from structnet.network.state import TrainState
from structnet.seeds import stream


class SetPublished(Method):
    """SET by its paper; the interval is to be an epoch."""

    @override
    def change(self, state: TrainState, split: Split) -> TrainState:
        if state.step == 0:
            return state
        evolution = Evolution(self.first_share, "zero", may_return=True)
        return evolve(state, evolution, stream(self.rng_seed, "evolution", state.step)).state
