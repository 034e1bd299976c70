"""The growth actions by name: a new one is a file and an entry here."""

from __future__ import annotations

from structnet.actions import clone, insert_layer, patch, prune, rewire, rewire_and_patch, widen
from structnet.actions.base import Action

ACTIONS: dict[str, Action] = {
    action.name: action
    for action in (
        patch.ACTION,
        widen.ACTION,
        insert_layer.ACTION,
        clone.ACTION,
        prune.ACTION,
        rewire.ACTION,
        rewire_and_patch.ACTION,
    )
}


def action_of(name: str) -> Action:
    """The action that applies a proposal of this name; `patch:random` is applied by `patch`."""
    return ACTIONS[name.partition(":")[0]]
