"""The options of `evolve`."""

from __future__ import annotations

from search.options import GRID, TRAINING, BatchOptions, Command, allocation, option, rng_seeds


class EvolveOptions(BatchOptions):
    """The options of `evolve`."""

    methods: str = option(
        "rigl,set,granet,cht,chts,pruning,static,dense",
        "Some of rigl,set,granet,cht,chts,pruning,static,dense; the others are compared with the first.",
        GRID,
        shown="all",
    )
    parameters: str = option("2000,4000,8000,16000,30000", "Sizes, biases included.", GRID)
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


COMMAND = Command(
    "evolve",
    "SET, RigL, GraNet, CHT, pruning, static and dense networks of stated sizes: what a grown network has to beat.",
    EvolveOptions,
    "search.commands.evolve.run:run",
)
