"""The options of `hunt`."""

from __future__ import annotations

from search.grid.options import GridOptions
from search.options import GRID, option, rng_seeds

# Hidden widths of the default grid, beside none: single layers, funnels, columns.
HIDDEN = (
    "16 32 64 128 256 512 24 48 96 64-32 128-32 128-64 256-64 256-128 512-64 512-128 512-256 128-64-32 "
    "256-128-64 256-64-32 512-256-128 512-128-64 512-256-64 1024 2048 64-64-64 64-64-64-64-64"
)
ARCHITECTURES = " ".join(["input-classes", *(f"input-{widths}-classes" for widths in HIDDEN.split())])

DENSITIES = "0.001,0.002,0.005,0.01,0.02,0.05,0.1,0.2"


class HuntOptions(GridOptions):
    """The options of `hunt`."""

    architectures: str = option(
        ARCHITECTURES,
        "Such as 'input-64-classes input-8@14-classes'.",
        GRID,
        shown="28 of them",
    )
    densities: str = option(DENSITIES, "Of each of them.", GRID)
    rng_seeds: int = rng_seeds(10, ge=0)
    cull: bool = option(False, "Give up the worst at 40 and 60 % of the training (successive halving).", GRID)
    keep_best: bool = True
