"""The options of `study`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search.options import GRID, CommonOptions, argument, keep_tune, option


class StudyOptions(CommonOptions):
    """The options of `study`. rng_seeds: how many; None for five, or two with quick."""

    study: str = argument(..., "Its name; `list` names them all.")
    quick: bool = option(False, "In minutes, with two rng_seeds: to see that it runs.")
    rng_seeds: int | None = option(
        None, "How many, from --rng-seed on.", GRID, shown="5, or 2 with --quick", ge=2
    )
    gpus_per_worker: float = 0.0
    device: str = "cpu"
    keep_tune: bool = keep_tune()


def dataset_of(told: Mapping[str, Any]) -> Mapping[str, Any]:
    """The dataset that the study is about."""
    from search.commands.study.registry import STUDIES

    study = STUDIES.get(told.get("study", ""))
    return {"dataset": study.dataset} if study else {}
