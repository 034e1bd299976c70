"""A row of slots whose outputs are feature maps that become smaller and wider; paths lead from slot to later slot.

Slot 0 is the stem, a 7×7 convolution that keeps the side. The others hand on what the slot before gave, but for the
transitions, 3×3 convolutions of stride 2. A path is added to the output of its target.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from structnet.paths.blocks import (
    Bottleneck,
    NormalisedConv,
    Pooled,
    RectifiedBottleneck,
    Residual,
    muted,
    scaled,
)
from structnet.paths.network import Place, Plan, PlasticNetwork

CHANNELS = (64, 256, 512, 1024, 2048)  # of the stem, and behind each transition
NARROWER = 4  # times, the middle of a bottleneck than its output


class SlotNetwork(PlasticNetwork):
    """slots: how many have an output, with the stem. transitions: which of them halve the side.

    has_fixed: whether a residual bottleneck that stays follows each transition.
    """

    def __init__(
        self, plan: Plan, slots: int, transitions: Sequence[int], *, has_fixed: bool = False
    ) -> None:
        super().__init__(plan)
        self.slots, self.transitions = slots, tuple(transitions)
        self.channels = [scaled(channels, plan.width) for channels in CHANNELS]
        self.stem = NormalisedConv(plan.shape[0], self.channels[0], 7)
        self.backbone = nn.ModuleDict()
        for number, slot in enumerate(self.transitions):
            taken, given = self.channels[number : number + 2]
            layer: nn.Module = NormalisedConv(taken, given, 3, 2)
            if has_fixed:
                fixed = Residual(Bottleneck(given, middle_of(given), given), given, given)
                layer = nn.Sequential(layer, fixed)
            self.backbone[str(slot)] = layer
        self.decoder = Pooled(self.channels[-1], plan.classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of a batch."""
        into: dict[int, list[Place]] = {}
        for place in self.places:
            into.setdefault(place[1], []).append(place)
        current = self.stem(images)
        outputs = [current]
        for slot in range(1, self.slots):
            if slot in self.transitions:
                current = self.backbone[str(slot)](current)
            for place in into.get(slot, []):
                current = self.path(place).added_to(current, outputs[place[0]])
            outputs.append(current)
        logits: torch.Tensor = self.decoder(current)
        return logits

    def body_at(self, place: Place) -> nn.Module:
        """A bottleneck with a ReLU behind, of stride 2 if it crosses a transition."""
        taken, given = (self.channels[stage_of(slot, self.transitions)] for slot in place)
        stride = 1 + crossed(place, self.transitions)
        return RectifiedBottleneck(taken, middle_of(given), given, stride)


class SlotRival(nn.Module):
    """The residual network: a bottleneck block in every position, its middle `factor` times as wide as its output."""

    def __init__(self, plan: Plan, positions: int, transitions: Sequence[int], factor: float) -> None:
        super().__init__()
        channels = [scaled(number, plan.width) for number in CHANNELS]
        self.stem = NormalisedConv(plan.shape[0], channels[0], 7)
        blocks = []
        for position in range(1, positions + 1):
            taken, given = (channels[stage_of(slot, transitions)] for slot in (position - 1, position))
            stride = 2 if position in transitions else 1
            middle = max(1, round(factor * given))
            branch = muted(Bottleneck(taken, middle, given, stride))
            blocks.append(Residual(branch, taken, given, stride))
        self.blocks = nn.Sequential(*blocks)
        self.decoder = Pooled(channels[-1], plan.classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of a batch."""
        logits: torch.Tensor = self.decoder(self.blocks(self.stem(images)))
        return logits


def middle_of(given: int) -> int:
    """Channels in the middle of a bottleneck with so many behind."""
    return scaled(given, 1 / NARROWER)


def stage_of(slot: int, transitions: Sequence[int]) -> int:
    """Transitions up to a slot, with its own."""
    return sum(transition <= slot for transition in transitions)


def crossed(place: Place, transitions: Sequence[int]) -> int:
    """Transitions that a path leads around."""
    return stage_of(place[1], transitions) - stage_of(place[0], transitions)
