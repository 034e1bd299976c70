"""`--augment`: names of augmentations as the shifts and flips that training knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from search.training_options import AUGMENTATIONS, CROP, FLIP, SHIFT, BatchOptions
from structnet.errors import UserError

if TYPE_CHECKING:
    from structnet.data.dataset import Dataset

Options = TypeVar("Options", bound=BatchOptions)

CROPPED = 8  # a crop of a padded image moves it by up to its side divided by this


def augmented(options: Options, data: Dataset) -> Options:
    """The options with the shift and the flip that `augment` comes to for these images.

    Raises UserError for unknown names, for a shift beside them, and for what is no image and should be moved or turned.
    """
    if options.augment is not None and not options.is_augmented:
        named = _named(options)
        if len(data.input_shape) < 2:
            raise UserError(f"augment is '{options.augment}', but {data.name} has no images: leave it out")
        reach = {SHIFT: 1, CROP: max(1, min(data.input_shape[-2:]) // CROPPED)}
        found = {
            "shift": max((reach[name] for name in named if name in reach), default=0),
            "flip": options.flip or FLIP in named,
            "is_augmented": True,
        }
        options = options.model_copy(update=found)
    _check_images(options, data)
    return options


def _named(options: BatchOptions) -> list[str]:
    named = [name.strip() for name in (options.augment or "").split(",")]
    if unknown := [name for name in named if name not in AUGMENTATIONS]:
        raise UserError(
            f"augment is '{options.augment}', but '{unknown[0]}' is none of {', '.join(AUGMENTATIONS)}: leave it out"
        )
    if options.shift:
        raise UserError(
            f"augment is '{options.augment}' and shift is {options.shift}, but both say how far images move: leave one "
            "out"
        )
    return named


def _check_images(options: BatchOptions, data: Dataset) -> None:
    if options.shift and len(data.input_shape) < 2:
        raise UserError(f"shift is {options.shift}, but {data.name} has no images to move: leave it at 0")
    if options.flip and len(data.input_shape) < 2:
        raise UserError(f"flip is given, but {data.name} has no images to turn: leave it out")
