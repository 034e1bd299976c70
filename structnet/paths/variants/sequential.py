"""`sequential`: 3 layers of 3 blocks at the full side of the image; a connection between layers is but a scalar.

Number 0 is the image, 1 to 9 are the blocks, layer by layer, 10 is the decoder. A block takes the weighted sum of what
leads to it. The width of the plan plays no part.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import nn

from structnet.paths.blocks import NormalisedConv, Residual, muted
from structnet.paths.network import Place, Plan, PlasticNetwork, Variant, every_free

LAYERS, BLOCKS = 3, 3
CHANNELS, INNER = 3, 9
IMAGE, DECODER = 0, LAYERS * BLOCKS + 1


def layer_of(number: int) -> int:
    """0 for the image, then those of blocks, then that of the decoder."""
    return -(-number // BLOCKS)


PLACES = tuple(
    (source, target)
    for target in range(1, DECODER + 1)
    for source in range(target)
    if layer_of(source) < layer_of(target) and (source, target) != (IMAGE, DECODER)
)


class SequentialNetwork(PlasticNetwork):
    """Blocks that nothing leads to, or from which nothing leads to the decoder, play no part and are not computed."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.blocks = nn.ModuleDict({str(number): _block() for number in range(1, DECODER)})
        self.decoder = nn.Linear(CHANNELS * prod(plan.shape[1:]), plan.classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of a batch. Images of one channel are taken as grey."""
        useful = in_use(self.places)
        image = images.expand(-1, CHANNELS, -1, -1)
        outputs = {IMAGE: image}
        for target in range(1, DECODER + 1):
            sources = [source for source, leads_to in useful if leads_to == target]
            total = torch.zeros_like(image)
            for source in sources:
                total = self.path((source, target)).added_to(total, outputs[source])
            if target == DECODER:
                break
            if sources:
                outputs[target] = self.blocks[str(target)](total)
        logits: torch.Tensor = self.decoder(total.flatten(1))
        return logits

    def body_at(self, place: Place) -> nn.Module:
        """Nothing but what the source gives."""
        return nn.Identity()


class SequentialRival(nn.Module):
    """As many residual blocks of two 3×3 convolutions, between them `factor` times as many channels as an image has."""

    def __init__(self, plan: Plan, factor: float) -> None:
        super().__init__()
        middle = max(1, round(factor * CHANNELS))
        self.blocks = nn.Sequential(*(_residual(middle) for _ in range(LAYERS * BLOCKS)))
        self.decoder = nn.Linear(CHANNELS * prod(plan.shape[1:]), plan.classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of a batch."""
        found = self.blocks(images.expand(-1, CHANNELS, -1, -1))
        logits: torch.Tensor = self.decoder(found.flatten(1))
        return logits


def in_use(places: Sequence[Place]) -> list[Place]:
    """Those on a way from the image to the decoder, in their order."""
    reached, reaching = {IMAGE}, {DECODER}
    for source, target in sorted(places, key=lambda place: place[1]):
        if source in reached:
            reached.add(target)
    for source, target in sorted(places, key=lambda place: -place[0]):
        if target in reaching:
            reaching.add(source)
    return [(source, target) for source, target in places if source in reached and target in reaching]


def _block() -> nn.Module:
    return nn.Sequential(
        NormalisedConv(CHANNELS, INNER, 3),
        NormalisedConv(INNER, INNER, 3),
        NormalisedConv(INNER, CHANNELS, 3),
    )


def _residual(middle: int) -> Residual:
    branch = nn.Sequential(
        NormalisedConv(CHANNELS, middle, 3), NormalisedConv(middle, CHANNELS, 3, has_relu=False)
    )
    return Residual(muted(branch), CHANNELS, CHANNELS)


VARIANT = Variant("sequential", 20, 0.05, PLACES, SequentialNetwork, SequentialRival, every_free)
