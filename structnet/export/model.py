"""What is exported: a network, how raw values become its inputs, and the names of its classes.

Every form takes the same raw values, which are numbers:

    image   the pixels of one image, channel after channel, row after row, in the units of its dataset (0 to 255, of
            digits 0 to 16): (channels · height · width,)
    table   one number a column, in the order of the preprocessing: the value itself or NaN where it is missing; of a
            column of categories the position in their list, the length of the list for any other, NaN where missing
    columns one number a column, in the order of the preprocessing
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch

from structnet.data.preprocessing import preprocess
from structnet.network.network import StructNet

BLOCK = 2_000  # inputs computed at once
BLOCK_VALUES = 2 * 10**7  # activations of maps computed at once, at most


@dataclass(frozen=True)
class Model:
    """What is exported.

    name: of what is written, an identifier of C and Python. network: on the CPU, of float32; one that normalises is
    folded. preprocessing: as of `structnet.data.dataset.Dataset`. class_names: one for each output.
    """

    name: str
    network: StructNet
    preprocessing: dict[str, Any]
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "network", self.network.folded())

    @property
    def raw_shape(self) -> tuple[int, ...]:
        """Of one raw input: (channels, height, width) of an image, (columns,) of a table."""
        if self.preprocessing["kind"] == "image":
            return tuple(self.preprocessing["shape"])
        return (len(self.preprocessing["columns"]),)

    @property
    def raw_values(self) -> int:
        """Numbers of one raw input."""
        return prod(self.raw_shape)

    @property
    def block(self) -> int:
        """Inputs computed at once."""
        shape = self.network.topology.architecture
        values = sum(units * shape.area(group) for group, units in enumerate(shape))
        return max(1, min(BLOCK, BLOCK_VALUES // values)) if shape.has_maps else BLOCK

    def inputs(self, raw: np.ndarray) -> np.ndarray:
        """Raw values, (n, *raw_shape), as the network takes them: float32 (n, input units)."""
        made: np.ndarray = preprocess(raw.reshape(-1, *self.raw_shape), self.preprocessing).numpy()
        return made.reshape(len(raw), -1)

    def logits(self, raw: np.ndarray) -> np.ndarray:
        """What the network says of raw values, (n, *raw_shape): float32 (n, classes)."""
        found = np.empty((len(raw), len(self.class_names)), np.float32)
        with torch.no_grad():
            for start in range(0, len(raw), self.block):
                block = slice(start, start + self.block)
                found[block] = self.network(torch.from_numpy(self.inputs(raw[block]))).numpy()
        return found


@dataclass(frozen=True)
class Written:
    """What was written.

    files: all of it. lines: what a user should know about it, a sentence each. run: raw values (n, *raw_shape) ->
    logits (n, classes) by what was written, so that it can be checked; None where this machine cannot run it, and
    then `reason` says what is missing.
    """

    files: list[Path]
    lines: list[str] = field(default_factory=list)
    run: Callable[[np.ndarray], np.ndarray] | None = None
    reason: str = ""
