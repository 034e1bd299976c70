"""Compiled batches, the exponential of compiled loops, and where their machine code is kept."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numba
import numpy as np
import pytest
import torch
from helpers.compiled_cases import linked, network_of, state_of
from hypothesis import given, settings
from hypothesis import strategies as st

from structnet.compiled import compiler
from structnet.compiled.batch import make_batch
from structnet.compiled.compiler import cache_folder, compiled
from structnet.compiled.functions import exponential
from structnet.data.dataset import Scaling, Split
from structnet.errors import UserError
from structnet.training.batches import batch_indices, training_batch
from structnet.training.lockstep import Lockstep, images_of, noise_of
from structnet.training.recipe import Recipe
from structnet.training.schedules import constant
from structnet.training.torch_step import loss_and_gradient

# --- batches

# Features of which none, one or several sixteens are full; colour; a single pixel.
SHAPES = [(1, 4, 4), (1, 3, 5), (3, 5, 4), (2, 8, 9), (1, 1, 1), (3, 1, 6)]
IMAGES = 50


def pixels_of(shape: tuple[int, ...]) -> Split:
    """Pictures that are standardised, each channel by numbers of its own."""
    random = torch.Generator().manual_seed(math.prod(shape))
    stored = torch.randint(0, 256, (IMAGES, *shape), dtype=torch.uint8, generator=random)
    channels = torch.arange(1, shape[0] + 1, dtype=torch.float32).view(-1, 1, 1)
    return Split(stored, torch.arange(IMAGES) % 3, Scaling(100.5 + 10 * channels, 50 + 7.3 * channels))


def numbers_of(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Split:
    random = torch.Generator().manual_seed(math.prod(shape))
    return Split(torch.randn(IMAGES, *shape, dtype=dtype, generator=random), torch.arange(IMAGES) % 3)


def compiled_batch(
    split: Split, recipe: Recipe, step: int, dtype: type = np.float32, used: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Inputs, (features, batch), and labels; rows of features that are not used are NaN."""
    features = math.prod(split.shape)
    order = batch_indices(len(split), recipe.batch_size, recipe.rng_seed, step)
    inputs = np.full((features, len(order)), np.nan, dtype=dtype)
    images = images_of(split, np.arange(features) if used is None else used, np.dtype(dtype))
    labels = make_batch(images, noise_of(recipe), order, step, inputs)
    return inputs, labels


recipes = st.builds(
    Recipe,
    batch_size=st.sampled_from([1, 3, 16, 17, 33, 64]),
    input_dropout=st.sampled_from([0.0, 0.1, 0.5, 0.99]),
    shift=st.integers(0, 3),
    flip=st.booleans(),
    rng_seed=st.integers(0, 2**31),
)
steps = st.integers(0, 10**6)


@pytest.mark.parametrize("shape", SHAPES)
@given(recipes, steps)
def test_batches_of_pixels_are_those_of_torch(shape: tuple[int, ...], recipe: Recipe, step: int) -> None:
    split = pixels_of(shape)
    expected, labels = training_batch(split, recipe, step)
    inputs, found = compiled_batch(split, recipe, step)
    # A product and a sum in place of a difference and a quotient: some roundings of the largest input.
    np.testing.assert_allclose(inputs, expected.numpy(), rtol=0, atol=2e-6 / (1 - recipe.input_dropout))
    assert np.array_equal(found, labels.numpy())
    if recipe.input_dropout:
        # No pixel is where an input is 0, so what is 0 has been dropped.
        assert np.array_equal(inputs == 0, expected.numpy() == 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [*SHAPES, (7,), (33,)])
@given(recipes, steps)
def test_batches_of_numbers_are_those_of_torch(
    shape: tuple[int, ...], dtype: torch.dtype, recipe: Recipe, step: int
) -> None:
    """To the bit, but that of a quotient of float64 where dropout scales: nothing else does."""
    split = numbers_of(shape, dtype)
    recipe = recipe if len(shape) > 1 else replace(recipe, shift=0, flip=False)
    expected, labels = training_batch(split, recipe, step)
    inputs, found = compiled_batch(split, recipe, step, np.float32 if dtype == torch.float32 else np.float64)
    exact = dtype == torch.float32 or recipe.input_dropout == 0
    np.testing.assert_allclose(inputs, expected.numpy(), rtol=0 if exact else 3e-16, atol=0)
    assert np.array_equal(found, labels.numpy())


def test_pixels_are_scaled_in_the_numbers_of_the_network() -> None:
    split = pixels_of((3, 5, 4))
    inputs, _ = compiled_batch(split, Recipe(20), 0, np.float64)
    where = batch_indices(IMAGES, 20, 0, 0)
    scaling = split.scaling
    assert scaling is not None
    exact = (split.stored[where].double() - scaling.offset.double()) / scaling.scale.double()
    np.testing.assert_allclose(inputs, exact.reshape(20, -1).t().numpy(), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("make", [pixels_of, numbers_of])
@given(recipes, st.sets(st.integers(0, 59), min_size=1))
def test_features_that_nobody_reads_are_left_out(make: object, recipe: Recipe, some: set[int]) -> None:
    split, used = make((3, 5, 4)), np.array(sorted(some))  # type: ignore[operator]
    whole, _ = compiled_batch(split, recipe, 3)
    inputs, _ = compiled_batch(split, recipe, 3, used=used)
    assert np.array_equal(inputs[used], whole[used])
    others = np.setdiff1d(np.arange(60), used)
    assert np.isnan(inputs[others]).all()


@pytest.mark.parametrize("make", [pixels_of, numbers_of])
@settings(max_examples=10)
@given(recipes, st.data())
def test_a_part_of_a_batch_is_that_of_torch(make: object, recipe: Recipe, data: st.DataObject) -> None:
    """Wherever it begins, with the noise that it has in the whole: told by what it adds to loss and gradient."""
    split = make((3, 5, 4))  # type: ignore[operator]
    batch = min(recipe.batch_size, IMAGES)
    first = data.draw(st.integers(0, batch - 1))
    last = data.draw(st.integers(first + 1, batch))
    network = network_of(linked([60, 3], [0.6], np.random.default_rng(0)), dtype=torch.float32)
    loss, gradient = Lockstep.of(state_of(network)).gradient_of_part(split, recipe, 5, slice(first, last))
    expected, slope = loss_and_gradient(
        network, network.values.detach(), *training_batch(split, recipe, 5, slice(first, last))
    )
    share = (last - first) / batch
    assert loss == pytest.approx(float(expected) * share, rel=1e-4, abs=1e-5)
    # Dropped inputs make the others up to a hundred times as large.
    scale = 1e-5 / (1 - recipe.input_dropout)
    np.testing.assert_allclose(gradient, slope.numpy() * share, rtol=1e-4, atol=scale)


def test_shift_of_plain_columns_is_refused_here_too() -> None:
    state = state_of(network_of(linked([7, 3], [1.0], np.random.default_rng(0)), dtype=torch.float32))
    with pytest.raises(UserError, match="plain columns"):
        Lockstep.of(state).train(numbers_of((7,)), Recipe(5, shift=1), 1, constant(0.1), 0)


# --- the exponential


@compiled
def exponentials(x: np.ndarray, out: np.ndarray) -> None:
    """Of every number."""
    for place in range(len(x)):
        out[place] = exponential(x[place])


def exponentials_of(x: np.ndarray) -> np.ndarray:
    out = np.empty_like(x)
    exponentials(x, out)
    return out


# Number type -> the powers of two between which it is exact, and to how much.
RANGES = [(np.float32, -126, 127, 2e-7), (np.float64, -1022, 1023, 1e-15)]
every_type = pytest.mark.parametrize(("kind", "lowest", "highest", "tolerance"), RANGES)


@every_type
def test_the_exponential_is_exact_over_its_range(
    kind: type, lowest: int, highest: int, tolerance: float
) -> None:
    least, most = lowest * math.log(2), highest * math.log(2)
    random = np.random.default_rng(0)
    x = np.concatenate(
        [
            np.linspace(least, most, 200_001)[1:-1],
            random.normal(0, 1, 50_000),
            random.choice([-1, 1], 10_000) * np.exp(random.uniform(-30, 0, 10_000)),
            # Both sides of where the power of two changes.
            (np.arange(lowest + 1, highest)[:, None] + [0.499999, 0.5, 0.500001]).ravel() * math.log(2),
            [0.0, -0.0],
        ]
    ).astype(kind)
    expected = np.exp(x.astype(np.longdouble))
    error = np.abs(exponentials_of(x).astype(np.longdouble) / expected - 1)
    assert error.max() < tolerance, f"of {x[error.argmax()]}: {float(error.max())}"
    assert exponentials_of(np.zeros(3, dtype=kind)).tolist() == [1.0] * 3


@every_type
@pytest.mark.parametrize("count", [1, 7, 64])
def test_nan_stays_nan_and_what_is_beyond_stays_at_the_end(
    kind: type, lowest: int, highest: int, tolerance: float, count: int
) -> None:
    """So that a unit that is far out has a slope of 0 and no infinity; in vectors and behind them."""
    for given_x, expected in (
        (np.nan, np.nan),
        (2 * lowest, 2.0**lowest),
        (-np.inf, 2.0**lowest),
        (2 * highest, 2.0**highest),
        (np.inf, 2.0**highest),
        (np.finfo(kind).max, 2.0**highest),
        (np.finfo(kind).min, 2.0**lowest),
    ):
        x = np.ones(count, dtype=kind)
        x[-1] = given_x
        found = exponentials_of(x)
        np.testing.assert_allclose(found[:-1], math.e, rtol=tolerance)
        np.testing.assert_allclose(float(found[-1]), expected, rtol=200 * np.finfo(kind).eps)


# --- machine code


@pytest.fixture
def other_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for machine code, as NUMBA_CACHE_DIR names one; afterwards all is as it was."""
    folder = tmp_path / "machine-code"
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(folder))
    cache_folder.cache_clear()
    yield folder
    cache_folder.cache_clear()


def test_machine_code_is_kept_under_the_hash_of_all_sources(
    other_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all of them: what is inlined into a function changes it, though it lies in another file."""
    first = cache_folder()
    assert first is not None and first.is_dir() and first.parent == other_cache
    room = Path(compiler.__file__).parent
    copies = tmp_path / "room"
    copies.mkdir()
    for source in room.glob("*.py"):
        (copies / source.name).write_bytes(source.read_bytes())
    monkeypatch.setattr(compiler, "__file__", str(copies / "compiler.py"))
    cache_folder.cache_clear()
    assert cache_folder() == first
    for source in sorted(copies.glob("*.py")):
        source.write_bytes(source.read_bytes() + b"\n")
        cache_folder.cache_clear()
        changed = cache_folder()
        assert changed != first and changed is not None
        first = changed


def test_the_cache_lies_with_the_others_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other_cache: Path
) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    folder = cache_folder()
    assert folder is not None and folder.parent == tmp_path / "xdg" / "structnet"


def plus_one(x: float) -> float:
    return x + 1


def test_a_function_compiles_and_is_kept(other_cache: Path) -> None:
    kept = compiled(plus_one)
    assert str(other_cache) == numba.config.CACHE_DIR
    assert kept(2.0) == 3.0
    assert list(other_cache.rglob("*plus_one*.nbc"))


def test_without_a_folder_to_write_to_all_is_compiled_in_memory(other_cache: Path) -> None:
    """A file where the folder should be: no user, root neither, can write there."""
    other_cache.write_text("in the way")
    with pytest.warns(
        UserWarning, match="compiled in memory.*cannot be written.*set NUMBA_CACHE_DIR"
    ) as said:
        assert cache_folder() is None
        in_memory = compiled(plus_one)
        assert compiled(plus_one)(2.0) == in_memory(2.0) == 3.0
    assert len(said) == 1
    assert str(other_cache) in str(said[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cache_folder() is None


def test_a_user_without_a_home_compiles_in_memory(other_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose user is in no table."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nobody)
    with pytest.warns(UserWarning, match="compiled in memory.*home directory.*set NUMBA_CACHE_DIR"):
        assert cache_folder() is None
