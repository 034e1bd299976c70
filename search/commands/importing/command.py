"""The options of `import`."""

from __future__ import annotations

from search.options import EXPERIMENT, TRAINING, Options, argument, data_dir, option
from structnet.data.datasets import DATASETS

EPOCHS = 5


class ImportOptions(Options):
    """The options of `import`."""

    factory: str = argument(
        ...,
        "A torch network, or a class or function that makes one without arguments, in a module that is imported from "
        "the current folder or from what is installed - which runs its code.",
        metavar="MODULE:FACTORY",
    )
    weights: str | None = option(
        None, "Its state dict, a .safetensors file; every key has to fit.", shown="as the factory makes them"
    )
    max_parameters: int | None = option(
        None,
        "Prune it to so many: by magnitude, or with --dataset little by little while it trains.",
        TRAINING,
        ge=1,
    )
    epochs: int | None = option(
        None, "Of that training; 0 prunes by magnitude.", TRAINING, shown=str(EPOCHS), ge=0
    )
    rng_seed: int = option(0, "Starts every random stream of it.", TRAINING, ge=0, lt=2**32)
    dataset: str | None = option(
        None,
        f"What it was trained on: {', '.join(DATASETS)}, or a path to Parquet, CSV or folders of pictures.",
        EXPERIMENT,
    )
    data_dir: str | None = data_dir()
    standardise: bool | None = option(
        None,
        "It takes inputs of zero mean and unit spread, not numbers in [0, 1].",
        EXPERIMENT,
        shown="for tables",
        deniable=True,
    )
    raw: bool = option(False, "It takes pixels or columns as they are, and scales them itself.", EXPERIMENT)
    label: str | None = option(None, "Column of a table's labels.", EXPERIMENT, shown="label")
    size: str | None = option(
        None, "Pixels that pictures are resampled to, such as 28 or 32x48.", EXPERIMENT, shown="as they are"
    )
    class_names: str | None = option(
        None, "Its outputs, such as cat,dog.", shown="those of the dataset, or none"
    )
    output: str | None = option(
        None, "The snapshot, a path or an fsspec URL.", shown="imported/MODULE-FACTORY"
    )
