"""The trials of `heads`; those whose tournaments have workers of their own."""

from __future__ import annotations

from typing import Any

from search.tune.trials import StoredArrays
from structnet.heads.strategies import TOURNAMENT
from structnet.trials.heads import HeadsWork
from structnet.trials.work import Shared


def heads_work(config: dict[str, Any], shared: Shared) -> HeadsWork:
    """A trial; the forks of a tournament run on Ray where the options have workers for them."""
    if config["strategy"] != TOURNAMENT or not shared.options["workers_each"]:
        return HeadsWork(config, shared)
    from tournament.head_forks import RayForks

    assert isinstance(shared.packed, StoredArrays)
    share = {name: shared.options[f"{name}_per_worker"] for name in ("cpus", "gpus")}
    return HeadsWork(config, shared, RayForks(shared.packed.handle, shared.device, **share))
