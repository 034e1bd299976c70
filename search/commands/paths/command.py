"""The options of `paths`."""

from __future__ import annotations

from search.options import GRID, TRAINING, CommonOptions, keep_tune, option, rng_seeds


class PathsOptions(CommonOptions):
    """The options of `paths`; layouts, rules and the rate are those of the source, networks are narrower."""

    variants: str = option("path", "Layouts: some of path, sequential and shuffle.", GRID)
    arms: str = option("plastic,static,resnet", "What is trained of each.", GRID)
    removals: str = option("scalar", "Which paths go: some of scalar, gradient and threshold.", GRID)
    growths: str = option("uniform", "Where paths come: some of uniform and gradient.", GRID)
    frequencies: str | None = option(
        None, "Steps from change to change, one number or more.", GRID, shown="those of an epoch"
    )
    rng_seeds: int = rng_seeds(3, ge=1)
    budget: int | None = option(None, "Paths of a network.", GRID, shown="15; for sequential, 20")
    width: float = option(1 / 16, "Times the channels of the wide network.", GRID)
    threshold: float | None = option(
        None, "Of the scalar, for the removal of that name.", GRID, shown="0.5; for sequential, 0.05"
    )
    new_scalars: str = option("uniform", "Of paths that come: uniform in [0, 1), or a number.", GRID)
    until: float = option(0.75, "Share of the training with changes.", GRID)
    limit: int = option(1000, "Refuse more networks.", GRID, changes_result=False, ge=1)
    images: int | None = option(None, "Training images, the first ones.", TRAINING, shown="all")
    epochs: int = option(20, "Passes over the training images.", TRAINING, ge=1)
    batch_size: int | None = option(
        None, "Images per step.", TRAINING, shown="a 32nd of the training images, at most 128"
    )
    learning_rate: float = option(1e-3, "Of Adam, in the first step.", TRAINING, gt=0)
    schedule: str = option("constant", "Of the learning rate: constant, or cosine or linear to 0.", TRAINING)
    shift: int = option(0, "Augmentation: pixels each way.", TRAINING)
    flip: bool = option(False, "Augmentation: half of the images turned left to right.", TRAINING)
    keep_tune: bool = keep_tune()
