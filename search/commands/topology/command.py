"""The options of `topology`."""

from __future__ import annotations

from search.options import GRID, TRAINING, BatchSizeOptions, activation, keep_tune, option, rng_seeds


class TopologyOptions(BatchSizeOptions):
    """The options of `topology`; the defaults are those of the study of SET with regularisation.

    input_shape: (channels, height, width) of the images, once the options are fitted to them.
    """

    standardise: bool = option(True, "Zero mean, unit spread: blank pixels are not 0, and learn.", TRAINING)
    architecture: str = option("input-512-128-classes", "What evolves.", GRID)
    weight_decays: str = option("0,1e-5,1e-4,1e-3,1e-2", "Weight decays.", GRID)
    epsilons: str = option("11", "Connections of a link, by its units in and out.", GRID)
    zetas: str = option("0.3", "Shares of the connections of each sign that move.", GRID)
    rng_seeds: int = rng_seeds(3, ge=1)
    control: bool = option(True, "Beside them networks whose moves look at no value.", GRID)
    decays: str = option("coupled", "Some of coupled, decoupled and bare.", GRID)
    new_values: str = option("fan_in", "Of connections that come: fan_in, tenth or zero.", GRID)
    may_return: bool = option(False, "Into a place that was just emptied, too.", GRID)
    input_shape: tuple[int, ...] = option((), "", changes_result=False)
    chance: float | None = option(
        None, "That a link evolves after a step.", GRID, shown="all do after every epoch"
    )
    dense_output: bool = option(True, "The last link has all its connections.", GRID)
    block: int = option(3, "Networks of a trial, which share their batches.", GRID, ge=1)
    epochs: int = option(50, "Passes over the training images.", TRAINING, ge=1)
    learning_rate: float = option(0.01, "Constant.", TRAINING, gt=0)
    momentum: float = option(0.5, "Of gradient descent.", TRAINING)
    activation: str = activation(TRAINING)
    input_dropout: float = option(0.0, "Share of inputs set to zero.", TRAINING)
    dropout: float = option(0.0, "Share of hidden units set to zero, anew for each image.", TRAINING)
    shift: int = option(0, "Augmentation: pixels each way.", TRAINING)
    flip: bool = option(False, "Augmentation: half of the images turned left to right.", TRAINING)
    keep_tune: bool = keep_tune()
