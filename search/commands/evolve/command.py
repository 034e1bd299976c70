"""The options of `evolve`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search.options import (
    GRID,
    TRAINING,
    CommonOptions,
    activation,
    allocation,
    keep_tune,
    one_of,
    option,
    rng_seeds,
)
from search.training_options import BatchOptions
from structnet.data.datasets import defaults_of
from structnet.errors import UserError

# chts: Zhang et al. 2025, 99 % sparse but for the output, once an epoch. set: Mocanu et al. 2018 on CIFAR-10, whose
# images are also turned by up to 10 degrees. An option that is given goes before these.
PRESETS: dict[str, dict[str, Any]] = {
    "chts": {
        "methods": "chts,cht,rigl,granet,set,static",
        "architecture": "input-1568-1568-1568-classes",
        "allocation": "dense_output",
        "density": 0.01,
        "moves": "published",
        "standardise": True,
        "l1": 0.0,
        "batch_size": 32,
        "epochs": 100,
        "rng_seeds": 3,
        "learning_rate": 0.025,
        "schedule": "linear",
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "decay": "coupled",
    },
    "set": {
        "methods": "set_published,static,full",
        "architecture": "input-4000-1000-4000-classes",
        "epsilon": 20,
        "activation": "srelu",
        "initial_values": "full",
        "standardise": True,
        "dropout": 0.3,
        "shift": 3,
        "flip": True,
        "l1": 0.0,
        "batch_size": 100,
        "epochs": 50,
        "rng_seeds": 1,
        "learning_rate": 0.01,
        "momentum": 0.9,
        "schedule": "constant",
    },
}


class EvolveOptions(BatchOptions):
    """The options of `evolve`."""

    methods: str = option(
        "rigl,set,granet,cht,chts,pruning,static,dense",
        "Some of rigl,set,set_published,granet,cht,chts,pruning,static,dense,full; the others are compared with the "
        "first.",
        GRID,
        shown="all",
    )
    preset: str = option("", f"The conditions of a paper: {one_of(PRESETS)}.", GRID, shown="none")
    parameters: str = option("2000,4000,8000,16000,30000", "Sizes, biases included.", GRID)
    density: float | None = option(
        None, "In their place the share of connections, but for those of a full output.", GRID, gt=0, le=1
    )
    epsilon: float | None = option(
        None, "In their place the connections of a link, by its units in and out; at most all.", GRID, gt=0
    )
    architecture: str = option(
        "input-300-100-classes", "What is sparse, or is pruned, such as 784-300-10 or 1@28-8@14-10.", GRID
    )
    rng_seeds: int = rng_seeds(5, ge=1)
    zeta: float | None = option(
        None, "Share of the connections moved at first.", GRID, shown="0.3; for granet 0.5"
    )
    moves: str = option(
        "shared", "One schedule of moves is shared by all methods, or each has its published one.", GRID
    )
    interval: int | None = option(None, "Steps between changes.", GRID, shown="at most 100; for pruning, 50")
    allocation: str = allocation(GRID)
    activation: str = activation(GRID)
    initial_values: str = option(
        "existing", "Spread by the connections of a unit that are existing, or by those of a full link.", GRID
    )
    limit: int = option(1000, "Refuse more networks.", GRID, changes_result=False, ge=1)
    epochs: int = option(20, "Passes over the training images.", TRAINING, ge=1)
    learning_rate: float = option(4e-3, "Of the first step.", TRAINING, gt=0)
    schedule: str = option("cosine", "Of the learning rate: cosine or linear, to 0, or constant.", TRAINING)
    momentum: float | None = option(None, "Of gradient descent.", TRAINING, shown="Adam in its place")
    weight_decay: float = option(0.0, "Of connections.", TRAINING)
    decay: str = option("decoupled", "decoupled, or, with momentum, coupled or bare.", TRAINING)
    keep_tune: bool = keep_tune()


def defaults(told: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the dataset, and those of the preset before them.

    Raises UserError for an unknown preset, and for sizes that are told in more than one way.
    """
    preset, dataset = (
        told.get("preset") or "",
        told.get("dataset", CommonOptions.model_fields["dataset"].default),
    )
    if preset and preset not in PRESETS:
        raise UserError(f"preset is '{preset}', but must be one of {', '.join(PRESETS)}")
    chosen = dict(PRESETS.get(preset, {}))
    sizes = [name for name in ("parameters", "density", "epsilon") if name in told]
    if len(sizes) > 1:
        raise UserError(f"{' and '.join(sizes)} all say how large networks are: give one of them")
    if sizes:
        theirs = {"density", "epsilon"} | ({"allocation"} if sizes == ["epsilon"] else set())
        chosen = {name: value for name, value in chosen.items() if name not in theirs}
    return {**defaults_of(str(dataset), "evolve"), **chosen}
