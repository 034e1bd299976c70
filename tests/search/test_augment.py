"""`--augment`: what its names come to, what is refused, and that every command that trains on batches knows it."""

from __future__ import annotations

import pytest
import torch

from search.commands.evolve import COMMAND as EVOLVE
from search.commands.evolve.run import fitted_to as evolve_fitted
from search.commands.grow import COMMAND as GROW
from search.commands.hunt import COMMAND as HUNT
from search.commands.train import COMMAND as TRAIN
from search.grid.train_grid import fitted
from search.session.augmentation import augmented
from search.training_options import BatchOptions
from structnet.data.dataset import Dataset, Split
from structnet.data.datasets import load_dataset
from structnet.errors import UserError
from structnet.training.recipe import recipe_of


def images(*shape: int) -> Dataset:
    split = Split(torch.zeros(40, *shape), torch.arange(40) % 2)
    return Dataset("toy", split, split, split, 2, ("a", "b"), {})


@pytest.mark.parametrize(
    ("told", "shape", "shift", "flip"),
    [
        ("shift", (1, 28, 28), 1, False),
        ("flip", (1, 28, 28), 0, True),
        ("crop", (1, 28, 28), 3, False),
        ("crop", (3, 32, 32), 4, False),
        ("crop,flip", (3, 32, 64), 4, True),
        (" flip , shift ", (1, 28, 28), 1, True),
        ("shift,crop,flip", (28, 28), 3, True),
        ("crop", (1, 4, 4), 1, False),
        ("shift,crop", (1, 8, 8), 1, False),
    ],
)
def test_names_are_shifts_and_flips(told: str, shape: tuple[int, ...], shift: int, flip: bool) -> None:
    options = augmented(BatchOptions(augment=told), images(*shape))
    assert (options.shift, options.flip, options.augment) == (shift, flip, told)
    assert (
        augmented(options, images(*shape)) == options
    )  # as a command does that goes on with what it recorded


def test_without_it_nothing_changes() -> None:
    options = BatchOptions(shift=2, flip=True)
    assert augmented(options, images(1, 8, 8)) is options


def test_a_flip_may_stand_beside_it() -> None:
    assert augmented(BatchOptions(augment="shift", flip=True), images(1, 8, 8)).flip


@pytest.mark.parametrize(
    ("given", "shape", "message"),
    [
        (
            {"augment": "shift,turn"},
            (1, 8, 8),
            "augment is 'shift,turn', but 'turn' is none of shift, flip, crop",
        ),
        ({"augment": ""}, (1, 8, 8), "augment is '', but '' is none of shift, flip, crop"),
        (
            {"augment": "shift", "shift": 1},
            (1, 8, 8),
            "augment is 'shift' and shift is 1, but both say how far",
        ),
        ({"augment": "flip", "shift": 2}, (1, 8, 8), "augment is 'flip' and shift is 2"),
        ({"augment": "crop"}, (32,), "augment is 'crop', but toy has no images: leave it out"),
        ({"shift": 1}, (32,), "shift is 1, but toy has no images to move"),
        ({"flip": True}, (32,), "flip is given, but toy has no images to turn"),
    ],
)
def test_what_is_refused(given: dict[str, object], shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        augmented(BatchOptions(**given), images(*shape))  # type: ignore[arg-type]


def test_it_reaches_the_recipe_of_every_command() -> None:
    data = load_dataset("digits")
    given = {"augment": "crop,flip", "dataset": "digits"}
    found = [
        fitted(HUNT.parse(given), data),
        evolve_fitted(EVOLVE.parse(given), data),
        augmented(GROW.parse(given), data),
        augmented(TRAIN.parse(given), data),
    ]
    for options in found:
        recipe = recipe_of({**dict(options), "batch_size": 32, "l1": 0.0})  # both follow from the data
        assert (recipe.shift, recipe.flip) == (1, True)
