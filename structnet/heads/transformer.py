"""A small transformer of our own that needs no download: patches of images to a class, or characters to the next one.

Blocks of attention and a perceptron, each behind a layer normalisation (Vaswani et al. 2017; Xiong et al. 2020), with
learned positions. Images are cut into patches, each a token, and judged by the mean over tokens (Dosovitskiy et al.
2021).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from structnet.errors import UserError
from structnet.heads.layers import GATE, HeadLayer, Part
from structnet.seeds import torch_seed

EXPANSION = 2  # of the perceptron in a block


@dataclass(frozen=True)
class Form:
    """What a transformer is made for, and how large it is.

    inputs: (channels, height, width) of images, or (length,) of the longest text. outputs: classes, or characters that
    there are. heads: of each layer, as many as it begins with. width: of a token. patch: side of a patch in pixels.
    """

    inputs: tuple[int, ...]
    outputs: int
    layers: int = 4
    heads: int = 4
    width: int = 32
    patch: int = 2

    def __post_init__(self) -> None:
        for name in ("layers", "heads", "width"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}, but must be at least 1")
        if self.width % self.heads:
            raise UserError(
                f"width is {self.width}, but must be a multiple of the {self.heads} heads, which share it: take "
                f"{max(1, round(self.width / self.heads)) * self.heads}"
            )
        if not self.is_text and (self.patch < 1 or any(side % self.patch for side in self.inputs[-2:])):
            height, width = self.inputs[-2:]
            fitting = [
                side for side in range(1, min(height, width) + 1) if height % side == width % side == 0
            ]
            raise UserError(
                f"patch_size is {self.patch}, but images of {height}×{width} pixels are cut into patches of side "
                f"{', '.join(map(str, fitting))}: choose one"
            )

    @property
    def is_text(self) -> bool:
        """Whether inputs are numbers of characters."""
        return len(self.inputs) == 1

    @property
    def tokens(self) -> int:
        """Of an image, or of the longest text."""
        if self.is_text:
            return self.inputs[0]
        return prod(side // self.patch for side in self.inputs[-2:])

    def to_plain(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "inputs": list(self.inputs)}

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Form:
        """Of `to_plain`."""
        return cls(**{**plain, "inputs": tuple(plain["inputs"])})


class Attention(nn.Module):
    """Self-attention whose heads may be gated and may be fewer than in the beginning."""

    def __init__(self, width: int, heads: int, *, is_causal: bool) -> None:
        super().__init__()
        self.heads, self.size, self.is_causal = heads, width // heads, is_causal
        self.joint = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.register_buffer(GATE, torch.ones(heads))

    def forward(self, tokens: torch.Tensor, seen: list[torch.Tensor] | None = None) -> torch.Tensor:
        """(batch, length, width) to the same. seen: takes what the queries look at, (batch, heads, length, length)."""
        batch, length, _ = tokens.shape
        joint = self.joint(tokens).view(batch, length, 3, self.heads, self.size)
        query, key, value = joint.permute(2, 0, 3, 1, 4).unbind(0)
        if seen is not None:
            seen.append(self._probabilities(query, key))
        found = F.scaled_dot_product_attention(query, key, value, is_causal=self.is_causal)
        gate = getattr(self, GATE)
        found = found * gate.view(-1 if gate.dim() == 2 else 1, self.heads, 1, 1)
        mixed: torch.Tensor = self.output(found.transpose(1, 2).reshape(batch, length, -1))
        return mixed

    def resized(self, heads: int) -> None:
        """Told how many heads there are now."""
        self.heads = heads

    def _probabilities(self, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        scores = query @ key.transpose(-1, -2) / self.size**0.5
        if self.is_causal:
            later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
            scores = scores.masked_fill(later, float("-inf"))
        return torch.softmax(scores, dim=-1)


class Block(nn.Module):
    """Attention, then a perceptron."""

    def __init__(self, form: Form) -> None:
        super().__init__()
        width = form.width
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, form.heads, is_causal=form.is_text)
        self.perceptron = nn.Sequential(
            nn.Linear(width, EXPANSION * width), nn.GELU(), nn.Linear(EXPANSION * width, width)
        )

    def forward(self, tokens: torch.Tensor, seen: list[torch.Tensor] | None = None) -> torch.Tensor:
        """(batch, length, width) to the same."""
        tokens = tokens + self.attention(self.before(tokens), seen)
        mixed: torch.Tensor = tokens + self.perceptron(self.between(tokens))
        return mixed


class Transformer(nn.Module):
    """The model; also a HeadModel, whose module it is itself."""

    def __init__(self, form: Form, rng_seed: int = 0) -> None:
        super().__init__()
        self.form = form
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch_seed(rng_seed, "transformer"))
            self.embedding: nn.Module
            if form.is_text:
                self.embedding = nn.Embedding(form.outputs, form.width)
            else:
                self.embedding = nn.Linear(form.inputs[0] * form.patch**2, form.width)
            self.positions = nn.Parameter(torch.randn(form.tokens, form.width) * 0.02)
            blocks = [Block(form) for _ in range(form.layers)]
            self.blocks = nn.ModuleList(blocks)
            self.last = nn.LayerNorm(form.width)
            self.output = nn.Linear(form.width, form.outputs)
        self.layers: Sequence[HeadLayer] = [_layer_of(block.attention) for block in blocks]

    @property
    def module(self) -> nn.Module:
        """Itself."""
        return self

    @property
    def is_causal(self) -> bool:
        """A character sees those before it, a patch all."""
        return self.form.is_text

    def logits(self, inputs: torch.Tensor) -> torch.Tensor:
        """As `forward`."""
        return self.forward(inputs)

    def attentions(self, inputs: torch.Tensor) -> list[torch.Tensor]:
        """Of every layer (batch, heads, queries, keys)."""
        seen: list[torch.Tensor] = []
        self.forward(inputs, seen)
        return seen

    def forward(self, inputs: torch.Tensor, seen: list[torch.Tensor] | None = None) -> torch.Tensor:
        """Images (batch, channels, height, width) to (batch, classes); texts (batch, length) to (…, characters)."""
        tokens = self.embedding(inputs if self.form.is_text else self._patches(inputs))
        tokens = tokens + self.positions[: tokens.shape[1]]
        for block in self.blocks:
            tokens = block(tokens, seen)
        tokens = self.last(tokens)
        logits: torch.Tensor = self.output(tokens if self.form.is_text else tokens.mean(dim=1))
        return logits

    def _patches(self, images: torch.Tensor) -> torch.Tensor:
        """(batch, patches, channels × patch × patch)."""
        batch, channels, height, width = images.shape
        side = self.form.patch
        cut = images.reshape(batch, channels, height // side, side, width // side, side)
        return cut.permute(0, 2, 4, 1, 3, 5).reshape(batch, self.form.tokens, channels * side * side)


def _layer_of(attention: Attention) -> HeadLayer:
    size = attention.size
    parts = (
        Part(attention.joint, "weight", 0, size, fused=3),
        Part(attention.joint, "bias", 0, size, fused=3),
        Part(attention.output, "weight", 1, size, is_output=True),
    )
    return HeadLayer(attention, parts, list(range(attention.heads)), attention.resized)
