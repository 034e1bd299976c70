"""Which images a step trains on, and what they look like to the network.

Everything random here is a function of (rng_seed, step): the batch of step 731 is the same whether a run gets
there in one go, after a resume, or inside a fork on another worker. So forks that train "for the same steps"
see the same images with the same noise, and a snapshot needs no generator state.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod

import numpy as np
import torch

from structnet.compiled.arrays import Images, Noise, silence
from structnet.data.dataset import Split
from structnet.network.architecture import Architecture
from structnet.network.propagation import flatten
from structnet.seeds import seed_sequence, torch_seed
from structnet.training.augmentation import dropped, key_of, moved
from structnet.training.recipe import Recipe

DIAGNOSIS_IMAGES = 2048  # enough for steady shares of saturated and dead units
OF_MAPS = 4


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Whole batches in one pass; at least one."""
    return max(1, images // batch_size)


def batch_indices(images: int, batch_size: int, rng_seed: int, step: int) -> np.ndarray:
    """(batch,) positions of the training images of one step: a fresh order every epoch, no image twice in it."""
    per_epoch = steps_per_epoch(images, batch_size)
    order = _epoch_order(images, rng_seed, step // per_epoch)
    start = (step % per_epoch) * batch_size
    return order[start : start + batch_size]


def diagnosis_sample(split: Split, rng_seed: int, step: int, images: int = DIAGNOSIS_IMAGES) -> Split:
    """The training images to diagnose a network on at a step: what a batch of so many, or of all, would be there."""
    return split.at(batch_indices(len(split), min(images, len(split)), rng_seed, step))


def images_for_gradients(architecture: Architecture, images: int) -> int:
    """Of so many, the training images that rank absent connections as well where there are feature maps.

    Each image shows a tap at all positions: 1,000 parameters on MNIST end as well with a quarter of the images.
    """
    return max(1, images // OF_MAPS) if architecture.has_maps else images


@lru_cache(maxsize=8)
def _epoch_order(images: int, rng_seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng(seed_sequence(rng_seed, "batches", epoch)).permutation(images)


def noise_seed(recipe: Recipe) -> int:
    """What the noise of all its steps is drawn from, together with the step."""
    return torch_seed(recipe.rng_seed, "noise")


def training_batch(
    split: Split, recipe: Recipe, step: int, part: slice = slice(None)
) -> tuple[torch.Tensor, torch.Tensor]:
    """The inputs, (features, images), and labels, (images,), of one step, with augmentation and dropout.

    part: of the batch, if not all of it is wanted. What compiled steps make for themselves (structnet.compiled.batch),
    by torch.
    """
    positions = batch_indices(len(split), recipe.batch_size, recipe.rng_seed, step)
    where = torch.from_numpy(positions[part]).to(split.device)
    return batch_at(split, recipe, where, key_of(noise_seed(recipe), step), part.start or 0)


def batch_at(
    split: Split, recipe: Recipe, where: torch.Tensor, key: int | torch.Tensor, first: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """As `training_batch`, of the images at these positions, (images,) int64 on the device of the split.

    key: of the noise; with a tensor, () int64 there, nothing waits for the host. first: the position of the
    first image in its batch.
    """
    stored = split.stored.index_select(0, where)
    if recipe.shift or recipe.flip:
        stored = moved(stored, recipe.shift, key, first, flip=recipe.flip)
    inputs = flatten(split.inputs(stored), torch.float32 if split.scaling else split.stored.dtype)
    if recipe.input_dropout:
        inputs = dropped(inputs, recipe.input_dropout, key, first)
    return inputs, split.labels.index_select(0, where)


def images_of(split: Split, used: np.ndarray, kind: np.dtype) -> Images:
    """The images of a split, of which these features are used, as compiled batches take them."""
    stored = split.stored.numpy()
    flat = np.ascontiguousarray(stored.reshape(len(stored), prod(stored.shape[1:])))
    shape = (1, 1, *split.shape)[-3:]
    labels = split.labels.numpy()
    if split.scaling is None:
        none = np.empty(0, dtype=kind)
        nothing = np.empty((0, 0), dtype=np.uint8)
        numbers = flat.astype(kind, copy=False)
        return Images(nothing, numbers, none, none, labels, used, np.array(shape))
    area = shape[1] * shape[2]
    scale, offset = (
        part.numpy().reshape(-1).astype(np.float64) for part in (split.scaling.scale, split.scaling.offset)
    )
    factor, start = (
        np.repeat(np.broadcast_to(part, shape[0]), area).astype(kind) for part in (1 / scale, -offset / scale)
    )
    return Images(flat, np.empty((0, 0), dtype=kind), factor, start, labels, used, np.array(shape))


def noise_of(recipe: Recipe) -> Noise:
    """What is drawn anew in every step."""
    return Noise(
        np.array([noise_seed(recipe)], dtype=np.uint64),
        float(recipe.input_dropout),
        float(recipe.dropout),
        int(recipe.shift),
        bool(recipe.flip),
    )


def sample_inputs(
    split: Split, positions: np.ndarray, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """The inputs, (features, images), and labels, (images,), of the images at these positions, as they are."""
    if split.device.type != "cpu" or dtype not in (torch.float32, torch.float64):
        some = split.at(positions)
        return flatten(some.images, dtype), some.labels
    from structnet.compiled.batch import make_batch

    features = prod(split.shape)
    inputs = torch.empty(features, len(positions), dtype=dtype)
    every = images_of(split, np.arange(features), inputs.numpy().dtype)
    labels = make_batch(every, silence(), positions, 0, inputs.numpy())
    return inputs, torch.from_numpy(labels)
