"""What the tests of attention heads share: small transformers, batches for them, and a bright or dark task."""

from __future__ import annotations

from itertools import pairwise

import torch

from structnet.data.dataset import Dataset, Split
from structnet.heads.transformer import Form, Transformer
from structnet.modules.evaluation import Batch

IMAGES = Form((1, 8, 8), 3, layers=2, heads=4, width=16, patch=4)
TEXT = Form((10,), 7, layers=2, heads=4, width=16)
FORMS = {"images": IMAGES, "text": TEXT}


def batch_for(form: Form, size: int = 6, rng_seed: int = 0) -> Batch:
    """Inputs and labels drawn at random."""
    draw = torch.Generator().manual_seed(rng_seed)
    if form.is_text:
        shape = (size, *form.inputs)
        return tuple(torch.randint(0, form.outputs, shape, generator=draw) for _ in range(2))  # type: ignore[return-value]
    labels = torch.randint(0, form.outputs, (size,), generator=draw)
    return torch.randn(size, *form.inputs, generator=draw), labels


def transformer(form: Form, rng_seed: int = 0) -> Transformer:
    return Transformer(form, rng_seed).eval()


def plant_zero_values(model: Transformer, layer: int, head: int) -> None:
    """A head that finds nothing."""
    _plant(model, layer, head, kinds=[2])


def plant_uniform(model: Transformer, layer: int, head: int) -> None:
    """A head that looks at all alike: its queries and keys are 0."""
    _plant(model, layer, head, kinds=[0, 1])


@torch.no_grad()
def _plant(model: Transformer, layer: int, head: int, kinds: list[int]) -> None:
    attention = model.blocks[layer].attention
    for kind in kinds:
        start = (kind * attention.heads + head) * attention.size
        for tensor in (attention.joint.weight, attention.joint.bias):
            tensor[start : start + attention.size] = 0


def stripes(images: int = 400) -> Dataset:
    """8×8 images whose class says which third of the rows is bright; 240 to train, 80 to validate and test each."""
    draw = torch.Generator().manual_seed(3)
    labels = torch.randint(0, 3, (images,), generator=draw)
    pictures = 0.8 * torch.randn(images, 1, 8, 8, generator=draw)
    for number, label in enumerate(labels.tolist()):
        pictures[number, :, 2 + 2 * label : 4 + 2 * label] += 1
    ends = (0, images * 3 // 5, images * 4 // 5, images)
    splits = [Split(pictures[a:b], labels[a:b]) for a, b in pairwise(ends)]
    about = {"kind": "image", "shape": [1, 8, 8]}
    return Dataset("stripes", *splits, classes=3, class_names=("low", "mid", "high"), preprocessing=about)
