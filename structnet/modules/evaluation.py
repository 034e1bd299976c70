"""Torch modules on splits of images or texts, as `structnet.training.evaluation` does it with a StructNet."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from structnet.data.dataset import Split
from structnet.measure.information import log2_of_labels
from structnet.training.augmentation import key_of, moved
from structnet.training.batches import batch_indices, noise_seed
from structnet.training.evaluation import Evaluation
from structnet.training.recipe import Recipe

BLOCK = 500  # images or texts at once

# Inputs, and labels: of images (batch,), of texts (batch, length).
Batch = tuple[torch.Tensor, torch.Tensor]


def parameters_in(module: nn.Module) -> int:
    """All numbers that are learned, shared ones counted once."""
    return sum(parameter.numel() for parameter in module.parameters())


@torch.no_grad()
def evaluate_module(
    module: nn.Module,
    split: Split,
    block: int = BLOCK,
    *,
    logits: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> Evaluation:
    """The module, put into evaluation for as long, on everything in a split.

    logits: what gives (batch, classes) or (batch, length, classes), if not the module. log2_likelihood of the answer:
    (n,) float64, of a text the mean of its characters; loss and accuracy are means over characters too.
    """
    was_training = module.training
    module.eval()
    bits, right, asked = [], 0, 0
    for start in range(0, len(split), block):
        inputs, labels = taken(split.part(start, min(len(split), start + block)))
        found = (logits or module)(inputs)
        flat = log2_of_labels(found.reshape(-1, found.shape[-1]).t(), labels.reshape(-1))
        bits.append(flat.view(len(labels), -1).mean(dim=1).cpu())
        right += int((found.argmax(dim=-1) == labels).sum())
        asked += labels.numel()
    module.train(was_training)
    likelihood: np.ndarray = torch.cat(bits).numpy()
    return Evaluation(float(-likelihood.mean() * math.log(2)), right / asked, likelihood)


def taken(some: Split) -> Batch:
    """All of a split as a model takes it: images as they are, texts as numbers of characters, int64."""
    if some.labels.dim() == 2:
        return some.stored.long(), some.labels.long()
    return some.inputs(some.stored), some.labels


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
