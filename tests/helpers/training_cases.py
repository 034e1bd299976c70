"""Data and networks that the tests of training share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from structnet import StructNet
from structnet.data.dataset import Dataset, Split
from structnet.network.state import TrainState
from structnet.network.topology import Topology


class Untouchable:
    """A split that must not be read."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the test split was read: {name}")

    def __len__(self) -> int:
        raise AssertionError("the test split was read: its length")


def image_split(images: int = 60, rng_seed: int = 0, dtype: torch.dtype = torch.float32) -> Split:
    """4×4 images of 3 classes that a few pixels tell apart, with noise."""
    random = torch.Generator().manual_seed(rng_seed)
    labels = torch.randint(0, 3, (images,), generator=random)
    pixels = torch.rand(images, 1, 4, 4, generator=random, dtype=dtype)
    pixels[torch.arange(images), 0, labels, labels] += 0.7
    return Split(pixels, labels)


def small_data(images: int = 60, rng_seed: int = 0, *, random_labels: bool = False) -> Dataset:
    """With labels at random there is nothing to learn but the training images by heart."""
    train, validation = image_split(images, rng_seed), image_split(50, rng_seed + 1)
    if random_labels:
        train = Split(train.images, train.labels.roll(1))
    return Dataset("small", train, validation, Untouchable(), 3, ("a", "b", "c"), {})  # type: ignore[arg-type]


def skip_network(rng_seed: int = 0, dtype: torch.dtype = torch.float64) -> StructNet:
    """16-5-4-3 with two thirds of all connections, skips of every length included."""
    rng = np.random.default_rng(rng_seed)
    group = np.repeat(np.arange(4), [16, 5, 4, 3])
    source, target = np.nonzero(group[:, None] < group[None, :])
    some = rng.permutation(len(source))[: len(source) * 2 // 3]
    topology, _ = Topology.sorted([16, 5, 4, 3], source[some], target[some])
    values = torch.from_numpy(rng.standard_normal(topology.parameters) / 2).to(dtype)
    return StructNet.from_parts(topology, values)


def flat(network: StructNet) -> torch.Tensor:
    return network.values.detach()


def known(state: TrainState) -> dict[tuple[int, int], tuple[float, float, float]]:
    """(source, target) -> value and both moments."""
    topology, adam = state.network.topology, state.optimizer
    columns = [state.network.values.detach(), adam.first, adam.second]
    rows = zip(*(column[: topology.connections].tolist() for column in columns))
    return dict(zip(zip(topology.source.tolist(), topology.target.tolist()), rows))


def check_survivors(before: TrainState, after: TrainState) -> tuple[set[Any], set[Any]]:
    """What is left is equal to the bit, what is new has first moment 0; returns what went and what came."""
    old, new = known(before), known(after)
    for cell in old.keys() & new.keys():
        assert new[cell] == old[cell]
    for cell in new.keys() - old.keys():
        assert new[cell][1] == 0.0
        assert new[cell][2] > 0.0
    assert after.network.parameter_count == len(after.optimizer.first) == len(after.born)
    return old.keys() - new.keys(), new.keys() - old.keys()


def arrays_in(thing: object) -> Iterator[np.ndarray | torch.Tensor]:
    """All arrays that something holds, in whatever it holds."""
    if isinstance(thing, np.ndarray | torch.Tensor):
        yield thing
        return
    inside = thing if isinstance(thing, list | tuple) else ()
    inside = list(thing.values()) if isinstance(thing, dict) else inside
    for part in [*inside, *vars(thing).values()] if hasattr(thing, "__dict__") else inside:
        yield from arrays_in(part)


def memory(thing: np.ndarray | torch.Tensor) -> tuple[int, int]:
    """Address and bytes of the whole memory that an array lies in."""
    if isinstance(thing, torch.Tensor):
        return thing.untyped_storage().data_ptr(), thing.untyped_storage().nbytes()
    while isinstance(thing.base, np.ndarray):
        thing = thing.base
    return thing.ctypes.data, thing.nbytes
