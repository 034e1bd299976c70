"""The options of `evolve`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search.options import (
    GRID,
    TRAINING,
    BatchOptions,
    Command,
    CommonOptions,
    allocation,
    one_of,
    option,
    rng_seeds,
)
from structnet.data.datasets import defaults_of
from structnet.errors import UserError

# Zhang et al. 2025 (CHTs): 99 % sparse but for the output, once an epoch. An option that is given goes before it.
PRESETS: dict[str, dict[str, Any]] = {
    "chts": {
        "methods": "chts,cht,rigl,granet,set,static",
        "architecture": "input-1568-1568-1568-classes",
        "allocation": "dense_output",
        "density": 0.01,
        "batch_size": 32,
        "epochs": 100,
        "rng_seeds": 3,
        "learning_rate": 3e-3,
    }
}


class EvolveOptions(BatchOptions):
    """The options of `evolve`."""

    methods: str = option(
        "rigl,set,granet,cht,chts,pruning,static,dense",
        "Some of rigl,set,granet,cht,chts,pruning,static,dense; the others are compared with the first.",
        GRID,
        shown="all",
    )
    preset: str = option("", f"The conditions of a paper: {one_of(PRESETS)}.", GRID, shown="none")
    parameters: str = option("2000,4000,8000,16000,30000", "Sizes, biases included.", GRID)
    density: float | None = option(
        None, "In their place the share of connections, but for those of a full output.", GRID, gt=0, le=1
    )
    architecture: str = option("input-300-100-classes", "What is sparse, or is pruned.", GRID)
    rng_seeds: int = rng_seeds(5, ge=1)
    zeta: float | None = option(
        None, "Share of the connections moved at first.", GRID, shown="0.3; for granet 0.5"
    )
    interval: int | None = option(None, "Steps between changes.", GRID, shown="at most 100; for pruning, 50")
    allocation: str = allocation(GRID)
    limit: int = option(1000, "Refuse more networks.", GRID, changes_result=False, ge=1)
    epochs: int = option(20, "Passes over the training images.", TRAINING, ge=1)
    learning_rate: float = option(4e-3, "Annealed along a cosine.", TRAINING, gt=0)


def defaults(told: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the dataset, and those of the preset before them; raises UserError for an unknown one."""
    preset, dataset = (
        told.get("preset") or "",
        told.get("dataset", CommonOptions.model_fields["dataset"].default),
    )
    if preset and preset not in PRESETS:
        raise UserError(f"preset is '{preset}', but must be one of {', '.join(PRESETS)}")
    chosen = dict(PRESETS.get(preset, {}))
    if "parameters" in told:
        chosen.pop("density", None)
    return {**defaults_of(str(dataset), "evolve"), **chosen}


COMMAND = Command(
    "evolve",
    "SET, RigL, GraNet, CHT, pruning, static and dense networks of stated sizes: what a grown network has to beat.",
    EvolveOptions,
    "search.commands.evolve.run:run",
    defaults,
)
