"""A network with plastic paths, whatever its layout: where the paths are, and how they come and go."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn

from structnet.modules.evaluation import parameters_in
from structnet.paths.blocks import PlasticPath, laid_out

Place = tuple[int, int]  # (source, target)


@dataclass(frozen=True)
class Plan:
    """What a plastic network is made for. variant: its layout's name. shape: of an image, (channels, height, width).

    width: by which the channels of a wide network are multiplied.
    """

    variant: str
    shape: tuple[int, int, int]
    classes: int
    width: float


class PlasticNetwork(nn.Module):
    """Logits, (n, classes), of images, (n, channels, height, width), by a backbone and paths.

    A path reads its source and is added to its target; there is at most one for each pair. A layout says in `forward`
    what is at a place, and in `body_at` what a path between two is.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan
        self.paths = nn.ModuleDict()

    @abstractmethod
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of a batch."""

    @abstractmethod
    def body_at(self, place: Place) -> nn.Module:
        """A fresh body for a path there, its values drawn by torch's generator."""

    @property
    def places(self) -> list[Place]:
        """Of its paths, sorted: the order of everything that is done to all, so that no result depends on history."""
        return sorted(_place_of(key) for key in self.paths)

    @property
    def scalars(self) -> dict[Place, float]:
        """Of each path."""
        places = self.places
        if not places:
            return {}
        together = torch.stack([self.path(place).scalar.detach() for place in places])
        return dict(zip(places, together.tolist()))

    def path(self, place: Place) -> PlasticPath:
        """The one there; raises KeyError where there is none."""
        return cast("PlasticPath", self.paths[_key_of(place)])

    def attach(self, place: Place, path: PlasticPath) -> None:
        """Puts a path there; raises ValueError where one is already. No optimizer learns of it."""
        key = _key_of(place)
        if key in self.paths:
            raise ValueError(f"there is a path from {place[0]} to {place[1]} already")
        self.paths[key] = laid_out(path.to(next(self.parameters()).device))

    def detach(self, place: Place) -> PlasticPath:
        """Takes the path from there and gives it back; raises KeyError where there is none."""
        return cast("PlasticPath", self.paths.pop(_key_of(place)))

    @contextmanager
    def without(self, place: Place) -> Iterator[None]:
        """As if there were no path there."""
        path = self.detach(place)
        try:
            yield
        finally:
            self.attach(place, path)

    @contextmanager
    def with_also(self, paths: Mapping[Place, PlasticPath]) -> Iterator[None]:
        """With these paths beside its own, and with all its buffers afterwards as they were before, to the bit."""
        for place, path in paths.items():
            self.attach(place, path)
        before = [(buffer, buffer.clone()) for buffer in self.buffers()]
        try:
            yield
        finally:
            for buffer, value in before:
                buffer.copy_(value)
            for place in paths:
                self.detach(place)

    @property
    def parameter_count(self) -> int:
        """Of the backbone and of the paths that are there."""
        return parameters_in(self)

    @property
    def backbone_count(self) -> int:
        """Parameters of what never changes."""
        return parameters_in(self) - parameters_in(self.paths)


@dataclass(frozen=True)
class Variant:
    """A layout. budget: paths by default. threshold: of a scalar, by default. places: where a path may be.

    make: the backbone of a plan, without paths. rival: a residual network of the same stem, decoder, widths and sides,
    whose one free factor scales the middles of its blocks. eligible: those that may be filled, of the free places, for
    so many paths to come: (free, place -> step at which it was emptied, count) -> places, at least count of them.
    """

    name: str
    budget: int
    threshold: float
    places: tuple[Place, ...]
    make: Callable[[Plan], PlasticNetwork]
    rival: Callable[[Plan, float], nn.Module]
    eligible: Callable[[Sequence[Place], Mapping[Place, int], int], list[Place]]


def every_free(free: Sequence[Place], emptied: Mapping[Place, int], count: int) -> list[Place]:
    """All of them may be filled."""
    return list(free)


def _key_of(place: Place) -> str:
    return f"{place[0]}_{place[1]}"


def _place_of(key: str) -> Place:
    source, target = key.split("_")
    return int(source), int(target)
