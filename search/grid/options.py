"""The options that all grids of networks share."""

from __future__ import annotations

from search.options import GRID, TRAINING, allocation, keep_tune, option
from search.training_options import L1, BatchOptions


class GridOptions(BatchOptions):
    """How the networks of a grid are trained."""

    epochs: int = option(5, "Passes over the training images.", TRAINING, ge=1)
    learning_rate: float = option(2e-3, "Annealed along a cosine.", TRAINING, gt=0)
    l1: float = option(0.0, L1, TRAINING)
    allocation: str = allocation(GRID)
    cull: bool = False
    keep_best: bool = False
    limit: int = option(10_000, "Refuse a larger grid.", GRID, changes_result=False, ge=1)
    keep_tune: bool = keep_tune()
