"""The options of `bootstrap`."""

from __future__ import annotations

from search.commands.hunt.command import HuntOptions
from search.options import GRID, GROWTH, TRAINING, option


class BootstrapOptions(HuntOptions):
    """The options of `bootstrap`."""

    architectures: str = option(
        "input-classes input-4-classes input-8-classes input-16-classes input-32-classes input-16-8-classes",
        "Candidates, such as 'input-classes input-8-classes'.",
        GRID,
        shown="6 small ones",
    )
    densities: str = option("0.0005,0.001,0.002,0.005,0.01,0.02,0.05", "Of each of them.", GRID)
    rng_seeds: int = option(5, "So many, from --rng-seed on; a seed must learn with all.", GRID, ge=2)
    margin: float = option(0.1, "Accuracy above chance that counts as learning.", GRID, gt=0, lt=1)
    cull: bool = False
    keep_best: bool = False
    larger: str = option("input-64-classes", "The network to start from the seed.", GROWTH)
    parameters: int | None = option(
        None,
        "Its size, exactly.",
        GROWTH,
        shown="1500, or half of all it has room for",
    )
    scales: int | None = option(
        None,
        "Scales of the images, each half as fine as the next; 1 for none.",
        GROWTH,
        shown="3 at most",
        ge=1,
    )
    epochs: int = option(5, "Of a candidate.", TRAINING, ge=1)
    larger_epochs: int = option(3, "Of the larger network.", TRAINING, ge=1)
    scale_epochs: int = option(1, "At each scale.", TRAINING, ge=1)
    learning_rate: float = option(6e-3, "Annealed along a cosine.", TRAINING, gt=0)
