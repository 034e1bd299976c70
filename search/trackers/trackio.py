"""Trackio: its SQLite file in the results, unless TRACKIO_DIR or another variable of its own says otherwise."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from search.trackers.registry import PROJECT, Begun, Point


class Adapter:
    """See search.trackers.registry.

    Trackio sends what it is told in a thread of its own, and has one run at a time. A run is therefore taken up for
    every few points, and given back: what is logged is stored when `log` returns, or has failed.
    """

    def __init__(self, folder: Path, experiment: str) -> None:
        self.experiment = experiment
        self.params: dict[str, dict[str, Any]] = {}
        # It reads this when it is imported, and never again.
        os.environ.setdefault("TRACKIO_DIR", str(folder.resolve()))

    def begin(self, run: str, params: Mapping[str, Any], before: Begun | None) -> str:
        if before is None:
            self.params[run] = dict(params)  # a run without points is not kept
        return run

    def log(self, run: str, points: Sequence[Point]) -> None:
        import trackio

        config = self.params.pop(run, None)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            taken = trackio.init(
                PROJECT,
                name=run,
                group=self.experiment,
                config=config,
                resume="allow" if config is None else "never",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
            for point in points:
                taken.log(point.named(), step=point.step)
            taken.finish()
        # It raises nothing where it could not store something, but warns.
        for warning in said:
            if str(warning.message).startswith(("trackio", "Could not flush")):
                raise RuntimeError(str(warning.message))

    def end(self, run: str, status: str) -> None:
        """Nothing is open, and it has no status."""
