"""Where paths come: rules by name. A new rule is a function here and an entry."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from structnet.modules.evaluation import Batch
from structnet.paths.blocks import PlasticPath
from structnet.paths.network import Place, PlasticNetwork

CANDIDATES = 16
BATCHES = 4

# Places with the value they were chosen by, if any, and the paths for them.
Grown = list[tuple[Place, float | None, PlasticPath]]


@dataclass(frozen=True)
class Growing:
    """What rules go by. eligible: free places that may be filled. count: paths that come, at most as many.

    fresh: a path for a place, with a scalar of 0. batches: of training images; made when they are asked for.
    """

    eligible: Sequence[Place]
    count: int
    fresh: Callable[[Place], PlasticPath]
    batches: Iterable[Batch]
    rng: np.random.Generator


def grow_uniform(network: PlasticNetwork, growing: Growing) -> Grown:
    """So many of the eligible places at random."""
    places = drawn(growing.eligible, growing.count, growing.rng)
    return [(place, None, growing.fresh(place)) for place in places]


def grow_by_gradient(network: PlasticNetwork, growing: Growing) -> Grown:
    """Of up to CANDIDATES places at random, or of as many as come, those whose scalar has the largest mean gradient.

    As RigL (Evci et al. 2020) grows connections; what comes keeps the weights it was judged with.
    """
    places = drawn(growing.eligible, max(growing.count, CANDIDATES), growing.rng)
    paths = {place: growing.fresh(place) for place in places}
    found = gradients_of_scalars(network, paths, growing.batches)
    best = sorted(paths, key=lambda place: (-abs(found[place]), place))[: growing.count]
    return [(place, abs(found[place]), paths[place]) for place in best]


def gradients_of_scalars(
    network: PlasticNetwork, paths: Mapping[Place, PlasticPath], batches: Iterable[Batch]
) -> dict[Place, float]:
    """The gradient that the scalar of each of these paths would have, were they there with a scalar of 0.

    That is ⟨dL/d output of the target, what the path gives⟩, on average over the batches. With a scalar of 0 none of
    them hinders another. The network, in training as far as normalisation goes, keeps parameters and buffers to the
    bit. Into a block that nothing leads to yet the gradient is larger than elsewhere, as normalisation makes much of
    the smallest input.
    """
    if not paths:
        return {}
    scalars = [path.scalar for path in paths.values()]
    totals, count = [0.0] * len(scalars), 0
    was_training = network.training
    with network.with_also(paths):
        network.train()
        for images, labels in batches:
            loss = cross_entropy(network(images), labels)
            found = torch.autograd.grad(loss, scalars, allow_unused=True)
            totals = [total + (0.0 if one is None else float(one)) for total, one in zip(totals, found)]
            count += 1
        network.train(was_training)
    return {place: total / max(1, count) for place, total in zip(paths, totals)}


def drawn(places: Sequence[Place], count: int, rng: np.random.Generator) -> list[Place]:
    """So many of them at random, or all where there are fewer."""
    chosen = rng.choice(len(places), min(count, len(places)), replace=False)
    return [places[number] for number in chosen]


GROWTHS: dict[str, Callable[[PlasticNetwork, Growing], Grown]] = {
    "uniform": grow_uniform,
    "gradient": grow_by_gradient,
}
