"""Which lock step members are trained in: with feature maps or without."""

from __future__ import annotations

from collections.abc import Sequence

from structnet.network.state import TrainState
from structnet.training.lockstep import Lockstep
from structnet.training.tap_lockstep import TapLockstep


def alone(state: TrainState) -> Lockstep:
    """A network alone; what is trained is the state itself."""
    return _kind(state).of(state)


def together(states: Sequence[TrainState]) -> Lockstep:
    """Several networks, all with feature maps or all without, copied."""
    return _kind(states[0]).together(states)


def _kind(state: TrainState) -> type[Lockstep]:
    return TapLockstep if state.network.topology.architecture.has_maps else Lockstep
