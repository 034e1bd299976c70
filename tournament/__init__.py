"""Who decides: the tournament over growth actions, its score and its credits.

The public names are imported when they are first used, so that the names of policies do not cost a command line the
seconds that torch takes.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tournament.classifier import GrownClassifier
    from tournament.coordinator import Result, Tournament
    from tournament.rules.ledger import Economy
    from tournament.settings import Settings

__all__ = ["Economy", "GrownClassifier", "Result", "Settings", "Tournament"]

_HOMES = {
    "Economy": "tournament.rules.ledger",
    "GrownClassifier": "tournament.classifier",
    "Result": "tournament.coordinator",
    "Settings": "tournament.settings",
    "Tournament": "tournament.coordinator",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tournament' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
