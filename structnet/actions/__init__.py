"""The growth actions by name: a new one is a file and an entry here."""

from __future__ import annotations

from structnet.actions.base import Action
from structnet.actions.clone import ACTION as CLONE
from structnet.actions.clone_vertical import ACTION as CLONE_VERTICAL
from structnet.actions.highway import ACTION as HIGHWAY
from structnet.actions.insert_layer import ACTION as INSERT_LAYER
from structnet.actions.patch import ACTION as PATCH
from structnet.actions.proportional import ACTION as PROPORTIONAL
from structnet.actions.prune import ACTION as PRUNE
from structnet.actions.residual_block import ACTION as RESIDUAL_BLOCK
from structnet.actions.rewire import ACTION as REWIRE
from structnet.actions.rewire_and_patch import ACTION as REWIRE_AND_PATCH
from structnet.actions.skip import ACTION as SKIP
from structnet.actions.widen import ACTION as WIDEN

ACTIONS: dict[str, Action] = {
    action.name: action
    for action in (
        PATCH,
        WIDEN,
        INSERT_LAYER,
        CLONE,
        CLONE_VERTICAL,
        HIGHWAY,
        SKIP,
        PROPORTIONAL,
        RESIDUAL_BLOCK,
        PRUNE,
        REWIRE,
        REWIRE_AND_PATCH,
    )
}


def action_of(name: str) -> Action:
    """The action that applies a proposal of this name; `patch:random` is applied by `patch`."""
    return ACTIONS[name.partition(":")[0]]
