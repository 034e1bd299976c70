"""Inputs dropped and images shifted: shares, means, and every move equally often."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.training_cases import image_split
from hypothesis import given
from hypothesis import strategies as st

from structnet.data.dataset import Split
from structnet.errors import UserError
from structnet.training.augmentation import dropped, key_of, mixed, moved
from structnet.training.batches import batch_indices, training_batch
from structnet.training.recipe import Recipe


def test_dropout_keeps_the_mean_and_repeats_by_step() -> None:
    split = Split(torch.ones(100, 50), torch.zeros(100, dtype=torch.int64))
    recipe = Recipe(batch_size=100, input_dropout=0.2, rng_seed=1)
    inputs, _ = training_batch(split, recipe, 3)
    assert set(inputs.unique().tolist()) == {0.0, 1.25}
    assert abs(float((inputs == 0).float().mean()) - 0.2) < 0.02  # 3.5 standard errors
    assert abs(float(inputs.mean()) - 1) < 0.02
    training_batch(split, recipe, 8)
    torch.rand(3)
    assert torch.equal(training_batch(split, recipe, 3)[0], inputs)
    assert not torch.equal(training_batch(split, recipe, 4)[0], inputs)
    assert not torch.equal(training_batch(split, replace(recipe, rng_seed=2), 3)[0], inputs)


def mixed_by_hand(number: int) -> int:
    """The last step of SplitMix64 with numbers that have no width and are cut to 64 bits."""
    number = (number ^ (number >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    number = (number ^ (number >> 27)) * 0x94D049BB133111EB % 2**64
    return number ^ (number >> 31)


@given(st.integers(0, 2**64 - 1))
def test_numbers_are_mixed_as_by_splitmix(number: int) -> None:
    signed = number - 2**64 if number >= 2**63 else number
    assert int(mixed(torch.tensor(signed))) % 2**64 == mixed_by_hand(number)


def test_the_stream_of_a_key_is_that_of_splitmix() -> None:
    """The first outputs of the published generator from 0 (Vigna's splitmix64.c), which adds before it mixes."""
    found = [key_of(0, step) % 2**64 for step in (1, 2, 3)]
    assert found == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


@given(
    st.integers(0, 2**63 - 1), st.integers(0, 10**9), st.integers(0, 40), st.integers(0, 9), st.integers(1, 9)
)
def test_a_share_of_a_batch_has_the_noise_of_the_whole(
    seed: int, step: int, first: int, count: int, features: int
) -> None:
    key = key_of(seed, step)
    inputs, images = torch.rand(features, 49), torch.rand(49, 1, 3, features)
    part = slice(first, first + count)
    assert torch.equal(
        dropped(inputs[:, part], 0.3, key, first),
        dropped(inputs, 0.3, key)[:, part],
    )
    if count:
        assert torch.equal(moved(images[part], 2, key, first), moved(images, 2, key)[part])
        assert torch.equal(
            moved(images[part], 1, key, first, flip=True), moved(images, 1, key, flip=True)[part]
        )


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dropout_takes_its_share_wherever_a_value_stands(share: float, dtype: torch.dtype) -> None:
    """Of 3 values per image, so that the four decisions of one random number fall on different images."""
    kept = dropped(torch.ones(40_001, 3, dtype=dtype), share, key_of(0, 0)) != 0
    standard_error = math.sqrt(share * (1 - share) / 40_001)
    assert np.allclose(kept.double().mean(dim=0), 1 - share, atol=4 * standard_error)
    for one, other in ((kept[:-1], kept[1:]), (kept[:, :-1], kept[:, 1:])):
        assert float((one & other).double().mean()) == pytest.approx((1 - share) ** 2, abs=4 * standard_error)


def moved_by_hand(image: np.ndarray, down: int, right: int) -> np.ndarray:
    """Pixel by pixel."""
    result = np.zeros_like(image)
    height, width = image.shape[-2:]
    for row in range(height):
        for column in range(width):
            if 0 <= row - down < height and 0 <= column - right < width:
                result[..., row, column] = image[..., row - down, column - right]
    return result


@pytest.mark.parametrize("shape", [(2, 3, 4), (3, 4), (1, 1, 1)])
def test_shifts_are_the_nine_moves_of_reach_one(shape: tuple[int, ...]) -> None:
    image = np.arange(1, 1 + math.prod(shape), dtype=np.float32).reshape(shape)
    batch = torch.from_numpy(image).expand(300, *shape)
    result = moved(batch, 1, key_of(0, 0))
    assert result.shape == batch.shape
    expected = {moved_by_hand(image, down, right).tobytes() for down in (-1, 0, 1) for right in (-1, 0, 1)}
    got = [one.numpy().tobytes() for one in result]
    assert set(got) == expected
    if len(expected) == 9:  # about a ninth each: 33 of 300, standard deviation 5.4
        assert all(12 <= got.count(one) <= 55 for one in expected)


def test_every_image_of_a_shifted_batch_is_its_own_moved() -> None:
    split = image_split()
    inputs, labels = training_batch(split, Recipe(batch_size=20, shift=1), 2)
    where = batch_indices(60, 20, 0, 2)
    assert torch.equal(labels, split.labels[where])
    for column, index in enumerate(where):
        image = split.images[index].numpy()
        choices = [moved_by_hand(image, down, right).ravel() for down in (-1, 0, 1) for right in (-1, 0, 1)]
        assert any(np.array_equal(inputs[:, column].numpy(), choice) for choice in choices)


@pytest.mark.parametrize("shape", [(2, 3, 4), (3, 5)])
def test_half_of_the_images_are_turned_left_to_right(shape: tuple[int, ...]) -> None:
    """Whatever way they are moved: each of the nine moves in two hands."""
    image = np.arange(1, 1 + math.prod(shape), dtype=np.float32).reshape(shape)
    batch = torch.from_numpy(image).expand(400, *shape)
    turned = moved(batch, 0, key_of(0, 0), flip=True)
    is_turned = [bool((one == batch[0].flip(-1)).all()) for one in turned]
    assert all(mine or bool((one == batch[0]).all()) for one, mine in zip(turned, is_turned))
    assert 160 <= sum(is_turned) <= 240  # half of them: four standard deviations of 10
    moves = [moved_by_hand(image, down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    expected = {one.tobytes() for move in moves for one in (move, move[..., ::-1].copy())}
    assert {one.numpy().tobytes() for one in moved(batch, 1, key_of(0, 0), flip=True)} == expected


@pytest.mark.parametrize(("recipe", "name"), [(Recipe(shift=1), "shift"), (Recipe(flip=True), "flip")])
def test_augmentation_of_plain_columns_is_refused(recipe: Recipe, name: str) -> None:
    split = Split(torch.ones(9, 5), torch.zeros(9, dtype=torch.int64))
    with pytest.raises(UserError, match=f"{name} is for images.*plain columns"):
        training_batch(split, recipe, 0)
