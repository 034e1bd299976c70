"""A torch module on a split of images, as `structnet.training.evaluation` does it with a StructNet."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from structnet.data.dataset import Split
from structnet.measure.information import log2_of_labels
from structnet.training.augmentation import key_of, moved
from structnet.training.batches import batch_indices, noise_seed
from structnet.training.evaluation import Evaluation
from structnet.training.recipe import Recipe

BLOCK = 500  # images at once


@torch.no_grad()
def evaluate_module(module: nn.Module, split: Split, block: int = BLOCK) -> Evaluation:
    """The module, put into evaluation for as long, on every image of a split, (n, channels, height, width)."""
    was_training = module.training
    module.eval()
    bits, right = [], 0
    for start in range(0, len(split), block):
        part = split.part(start, min(len(split), start + block))
        logits = module(part.inputs(part.stored))
        bits.append(log2_of_labels(logits.t(), part.labels).cpu())
        right += int((logits.argmax(dim=1) == part.labels).sum())
    module.train(was_training)
    found: np.ndarray = torch.cat(bits).numpy()
    return Evaluation(float(-found.mean() * math.log(2)), right / len(split), found)


def image_batch(split: Split, recipe: Recipe, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The images, (batch, channels, height, width), and labels, (batch,), of one step, augmented.

    Those that any network of this recipe sees there (structnet.training.batches).
    """
    positions = batch_indices(len(split), recipe.batch_size, recipe.rng_seed, step)
    where = torch.from_numpy(positions).to(split.device)
    stored = split.stored.index_select(0, where)
    if recipe.shift or recipe.flip:
        stored = moved(stored, recipe.shift, key_of(noise_seed(recipe), step), flip=recipe.flip)
    return split.inputs(stored), split.labels.index_select(0, where)
