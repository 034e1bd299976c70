"""What a model says, to be read: texts that it goes on with, or what it takes the first images for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from structnet.data.dataset import Dataset
from structnet.heads.layers import HeadModel
from structnet.heads.training import batch_of
from structnet.seeds import stream

SAMPLES, SHOWN_IMAGES = 3, 20
NUCLEUS, TEMPERATURE = 0.92, 0.8


def samples_of(model: HeadModel, data: Dataset, rng_seed: int, decode: Callable[[Sequence[int]], str]) -> str:
    """A few lines; the same for the same model. Texts, which decode makes of numbers, begin with half a window."""
    if data.train.labels.dim() == 1:
        inputs, labels = batch_of(data.validation, np.arange(min(SHOWN_IMAGES, len(data.validation))))
        with torch.no_grad():
            said = model.logits(inputs).argmax(dim=1).tolist()
        names = data.class_names or tuple(map(str, range(data.classes)))
        pairs = zip(labels.tolist(), said)
        return "\n".join(f"{names[label]}: taken for {names[found]}" for label, found in pairs) + "\n"
    places = np.linspace(0, len(data.validation) - 1, SAMPLES).astype(int)
    texts = []
    for number, window in enumerate(batch_of(data.validation, places)[0]):
        half = window[: len(window) // 2]
        told = continued(model, half, len(window) - len(half), stream(rng_seed, "samples", number))
        texts.append(f"{decode(half.tolist())} … {decode(told.tolist())}")
    return "\n\n".join(texts) + "\n"


@torch.no_grad()
def continued(model: HeadModel, begun: torch.Tensor, length: int, rng: np.random.Generator) -> torch.Tensor:
    """(length,) numbers drawn one by one behind those of a text, (n,) int64, from the likeliest (Holtzman et al. 2020).

    Those whose probability, of the least sharp logits ÷ 0.8, sums up to 0.92.
    """
    model.module.eval()
    numbers = begun
    for _ in range(length):
        logits = model.logits(numbers[None])[0, -1].double() / TEMPERATURE
        share, order = torch.softmax(logits, dim=0).sort(descending=True)
        kept = share * (share.cumsum(0) - share < NUCLEUS)
        drawn = int(np.searchsorted(np.cumsum((kept / kept.sum()).cpu().numpy()), rng.random()))
        numbers = torch.cat([numbers, order[drawn : drawn + 1]])
    return numbers[len(begun) :]
