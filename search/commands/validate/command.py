"""The options of `validate`."""

from __future__ import annotations

from search.options import GROWTH, TRAINING, BatchSizeOptions, allocation, option


class ValidateOptions(BatchSizeOptions):
    """The options of `validate`; density and batch size follow from the data as in `grow`."""

    architecture: str = option(
        "input,100,classes", "The base network's groups, such as 784,100,10 or 1@28,8@14,10.", GROWTH
    )
    density: float | None = option(None, "Share of connections that exist in it.", GROWTH, shown="0.01")
    allocation: str = allocation(GROWTH)
    epochs: int = option(3, "Length of each short training.", TRAINING, ge=1)
    learning_rate: float = option(
        0.012, "Annealed; the dense version also tries a quarter of it.", TRAINING, gt=0
    )
    margin: float = option(
        0.1, "Part of the way from chance to 100 % that counts as learning.", TRAINING, gt=0, lt=1
    )
