"""What a model tells of its attention heads, so that scores, gates and removal need not know who made it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

GATE = "head_gate"


@dataclass(frozen=True)
class Part:
    """A parameter in which every head of a layer has rows of its own.

    owner, name: the module that has it, and its name there. dim: along which heads lie, one behind the other, `size`
    rows each. fused: so many such runs of all heads follow each other, as where query, key and value are one matrix.
    is_output: of the output projection, which takes what the heads found.
    """

    owner: nn.Module
    name: str
    dim: int
    size: int
    fused: int = 1
    is_output: bool = False

    @property
    def parameter(self) -> nn.Parameter:
        """As it is now: removal puts another in its place."""
        found: nn.Parameter = getattr(self.owner, self.name)
        return found

    def rows(self, places: Sequence[int], heads: int) -> torch.Tensor:
        """int64: where the rows of the heads at these places lie, of so many heads."""
        inside = torch.arange(self.size)
        runs = torch.arange(self.fused)[:, None, None] * heads * self.size
        return (runs + torch.tensor(places, dtype=torch.int64)[:, None] * self.size + inside).reshape(-1)


@dataclass(eq=False)
class HeadLayer:
    """The heads of one layer of attention.

    owner: the module that has the buffer GATE, (heads,) or, for as long as a score is measured, (batch, heads): by it
    what each head found is multiplied before the output projection. parts: what belongs to single heads. resized: told
    how many heads there are after a removal or growth. kept: of the heads that are there, the numbers that they had in
    the beginning. group: query heads of each, more than one where they share key and value. frozen: numbers of heads
    that are gated for good.
    """

    owner: nn.Module
    parts: tuple[Part, ...]
    kept: list[int]
    resized: Callable[[int], None]
    group: int = 1
    frozen: frozenset[int] = frozenset()

    @property
    def heads(self) -> int:
        """How many there are."""
        return len(self.kept)

    @property
    def gate(self) -> torch.Tensor:
        """(heads,) of the model's number type."""
        found: torch.Tensor = getattr(self.owner, GATE)
        return found

    @gate.setter
    def gate(self, values: torch.Tensor) -> None:
        setattr(self.owner, GATE, values)

    @property
    def parameters_of_head(self) -> int:
        """Parameters that go with each head."""
        return sum(part.parameter.numel() // self.heads for part in self.parts)

    def place(self, number: int) -> int:
        """Where the head of this number is now; ValueError if it is not there."""
        return self.kept.index(number)


class HeadModel(Protocol):
    """A model whose heads can be looked at and removed. `module` is trained, saved and moved as any other."""

    @property
    def module(self) -> nn.Module:
        """What is trained."""

    @property
    def layers(self) -> Sequence[HeadLayer]:
        """Of all layers of attention, from the input on."""

    def logits(self, inputs: torch.Tensor) -> torch.Tensor:
        """(batch, classes) of images, or (batch, length, vocabulary) of tokens, (batch, length) int64."""

    def attentions(self, inputs: torch.Tensor) -> list[torch.Tensor]:
        """Of every layer what each query looks at: probabilities, (batch, query heads, queries, keys).

        Raises UserError where a model gives none.
        """

    @property
    def is_causal(self) -> bool:
        """Whether the query at place i sees the keys 0 … i alone; else it sees all."""
