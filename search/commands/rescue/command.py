"""The options of `rescue`."""

from __future__ import annotations

from search.grid.options import GridOptions
from search.options import GRID, GROWTH, allocation, option, rng_seeds
from structnet.actions import growing


class RescueOptions(GridOptions):
    """The options of `rescue`."""

    mechanism: str = option(
        growing()[0], f"The growth action that is tested: {', '.join(growing())}.", GROWTH
    )
    architecture: str = option("input-256-classes", "Such as 784-256-10 or 1@28-8@14-10.", GROWTH)
    density: float = option(0.001, "Of the start, below the cliff that ladder finds.", GROWTH)
    allocation: str = allocation(GROWTH)
    budget: int | None = option(
        None, "Parameters to add.", GROWTH, shown="as many as the start has connections"
    )
    growths: int = option(5, "Over so many moments in the first half of the training.", GROWTH, ge=1)
    plateau: float | None = option(
        None,
        "Accuracy of networks that are dense enough.",
        GROWTH,
        shown="measured at density 0.5, 0.2, 0.1",
    )
    rng_seeds: int = rng_seeds(5, ge=2)
    limit: int = option(
        10_000, "Refuse to train more networks for the plateau.", GRID, changes_result=False, ge=1
    )
