"""The options of `ladder`."""

from __future__ import annotations

from search.grid.options import GridOptions
from search.options import GRID, option, rng_seeds


class LadderOptions(GridOptions):
    """The options of `ladder`; allocation: one of topology.ALLOCATIONS, or the first two side by side."""

    architecture: str = option("input-256-classes", "Such as 784-256-10 or 1@28-8@14-10.", GRID)
    densities: str = option(
        "0.5,0.2,0.1,0.05,0.02,0.01,0.005,0.002,0.001,0.0005,0.0002,0.0001", "The rungs.", GRID
    )
    rng_seeds: int = rng_seeds(5, ge=0)
    allocation: str = option("both", "proportional, uniform or both.", GRID)
