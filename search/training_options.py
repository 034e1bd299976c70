"""How networks are trained, as options: what all commands share that train on batches, whichever way they find them."""

from __future__ import annotations

from search.options import TRAINING, BatchSizeOptions, option

L1 = "L1 on connections."
SHIFT, FLIP, CROP = AUGMENTATIONS = ("shift", "flip", "crop")


class BatchOptions(BatchSizeOptions):
    """How networks are trained. is_augmented: whether shift and flip are what augment comes to for the data."""

    l1: float | None = option(None, L1, TRAINING, shown="5e-05, of feature maps 0")
    input_dropout: float = option(0.0, "Share of inputs set to zero.", TRAINING)
    dropout: float = option(0.0, "Share of hidden units set to zero, anew for each image.", TRAINING)
    augment: str | None = option(
        None,
        "Augmentation by name, with commas: shift (a pixel each way), crop (an eighth of the side), flip (left to "
        "right).",
        TRAINING,
    )
    shift: int = option(0, "Augmentation: pixels each way.", TRAINING)
    flip: bool = option(
        False, "Augmentation: half of the images turned left to right.", TRAINING, deniable=True
    )
    is_augmented: bool = False
