"""Sparse networks that grow: the bottom floor, torch only.

The public names are imported when they are first used, so that `structnet.errors` does not cost a command
line the seconds that torch takes.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from structnet.data.datasets import load_dataset
    from structnet.network.from_module import from_module
    from structnet.network.network import StructNet
    from structnet.storage.results import open_results
    from structnet.training.fit import fit

__all__ = ["StructNet", "fit", "from_module", "load_dataset", "open_results"]

_HOMES = {
    "StructNet": "structnet.network.network",
    "fit": "structnet.training.fit",
    "from_module": "structnet.network.from_module",
    "load_dataset": "structnet.data.datasets",
    "open_results": "structnet.storage.results",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'structnet' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
