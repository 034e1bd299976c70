"""What the tests of grids share: a block trained without Ray, and tables without times."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from structnet.data.dataset import Dataset
from structnet.data.packing import description, pack
from structnet.storage.tables import read_table
from structnet.trials.cohort import CohortWork
from structnet.trials.grid import Block
from structnet.trials.work import Shared

MEASURED_ON_THE_WAY = ("seconds",)
OPTIONS = {
    "epochs": 6,
    "batch_size": 64,
    "learning_rate": 0.01,
    "l1": 0.0,
    "input_dropout": 0.0,
    "dropout": 0.0,
    "flip": False,
    "shift": 0,
    "rng_seed": 7,
    "cull": False,
    "keep_best": True,
}


def shared_for(data: Dataset, results: Path, experiment: str = "test", **changed: Any) -> Shared:
    """What a trial gets, without Ray; options as in OPTIONS but for those that are changed."""
    options = {**OPTIONS, **changed, "results": str(results)}
    return Shared(pack(data), description(data), str(results), experiment, options)


def train_block(
    block: Block, shared: Shared, *, stop_after: Iterable[int] = (), folder: Path | None = None
) -> int:
    """Trains a block to its end; after these stretches it is saved, and another object goes on. Stretches."""
    work, stretches, stops = CohortWork(block.to_config(), shared), 0, set(stop_after)
    while True:
        report = work.step()
        stretches += 1
        if stretches in stops:
            assert folder is not None
            place = folder / f"stretch-{stretches}"
            place.mkdir()
            work.save(place)
            work = CohortWork(block.to_config(), shared)
            work.load(place)
        if report["done"]:
            return stretches


def timeless(results: Path, table: str, experiment: str = "test") -> list[dict[str, Any]]:
    """All rows but their times, and where snapshots lie only below the results."""
    rows = read_table(str(results), table, experiment).to_pylist()
    for row in rows:
        for name in MEASURED_ON_THE_WAY:
            row.pop(name, None)
        if row.get("snapshot"):
            row["snapshot"] = row["snapshot"].removeprefix(f"{results}/")
    return rows
