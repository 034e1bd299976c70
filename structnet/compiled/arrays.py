"""What compiled functions are given beside a plan: images, noise, rules, moments, and a workspace."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

DECOUPLED, COUPLED, BARE = range(3)  # as in structnet.training.recipe


LINE = 64  # bytes of a line of the processor's cache


def aligned_zeros(shape: tuple[int, ...], kind: np.dtype) -> np.ndarray:
    """Zeros that begin where a cache line does, so that a vector register is filled from one line, not from two."""
    size = int(np.prod(shape)) * np.dtype(kind).itemsize
    memory = np.zeros(size + LINE, dtype=np.uint8)
    start = -memory.ctypes.data % LINE
    return memory[start : start + size].view(kind).reshape(shape)


class Images(NamedTuple):
    """What batches are made from: (images, features) of which one is empty, and int64 labels.

    pixels: uint8; an input is pixel × factor + start, (features,) each. numbers: inputs as they are. used: (features,)
    int64 that some member reads; the others are left out. shape: (channels, height, width).
    """

    pixels: np.ndarray
    numbers: np.ndarray
    factor: np.ndarray
    start: np.ndarray
    labels: np.ndarray
    used: np.ndarray
    shape: np.ndarray


class Noise(NamedTuple):
    """seed: (1,) uint64. The others are as in structnet.training.recipe.Recipe."""

    seed: np.ndarray
    input_dropout: float
    dropout: float
    shift: int
    flip: bool


def silence() -> Noise:
    """No noise at all."""
    return Noise(np.zeros(1, dtype=np.uint64), 0.0, 0.0, 0, False)


class Rules(NamedTuple):
    """How values are updated.

    l1, betas and epsilon as in structnet.training.recipe.Recipe and structnet.network.optimizer.Adam. weight_decay:
    (members,), as in Recipe.
    rise: (ages,) factor of the step of a parameter by its age; the last is that of all that are older; empty for 1.
    momentum: of plain descent; negative for Adam. decay: DECOUPLED, COUPLED or BARE.
    """

    l1: float
    weight_decay: np.ndarray
    beta1: float
    beta2: float
    epsilon: float
    rise: np.ndarray
    momentum: float
    decay: int


class Moments(NamedTuple):
    """What goes with the values of all members, each (parameters,): Adam's moments and the steps of birth."""

    first: np.ndarray
    second: np.ndarray
    born: np.ndarray


class Workspace(NamedTuple):
    """What a step writes and nobody reads afterwards. width: images of a block.

    inputs: (features, width), state and error: (rows, width), of SReLU state (2 · rows, width), matrix: (cells,),
    gradient: (parameters of all members,).
    """

    inputs: np.ndarray
    state: np.ndarray
    error: np.ndarray
    matrix: np.ndarray
    gradient: np.ndarray
