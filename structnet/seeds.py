"""Random streams that depend on what they are for, never on who asks first or on which worker."""

from __future__ import annotations

import zlib

import numpy as np


def seed_sequence(rng_seed: int, purpose: str, *keys: int) -> np.random.SeedSequence:
    """The seed sequence of one purpose; keys are numbers such as the round, the epoch or the candidate.

    Give every use of a purpose the same number of keys: NumPy fills up with zeros, so no key and a key of 0
    are the same stream.
    """
    return np.random.SeedSequence([rng_seed, zlib.crc32(purpose.encode()), *keys])


def stream(rng_seed: int, purpose: str, *keys: int) -> np.random.Generator:
    """A generator of its own for one purpose."""
    return np.random.default_rng(seed_sequence(rng_seed, purpose, *keys))


def torch_seed(rng_seed: int, purpose: str, *keys: int) -> int:
    """A seed for a torch.Generator."""
    return int(seed_sequence(rng_seed, purpose, *keys).generate_state(1, np.uint64)[0] >> np.uint64(1))
