"""Which paths go: rules by name. A new rule is a function here and an entry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

from structnet.paths.network import Place, PlasticNetwork

Scored = list[tuple[Place, float]]  # places and what they are judged by


@dataclass
class GradientRecord:
    """How large the gradients of each path were since it was begun: (paths,) float64, in the order of the places.

    Of a path: the sum of the absolute gradients of the weights of its convolutions and normalisations; of one that is
    nothing but a scalar, of that.
    """

    sums: torch.Tensor | None = field(default=None)
    steps: int = 0

    def note(self, network: PlasticNetwork) -> None:
        """Takes in the gradients of a step, which a backward pass has left. What got none counts as 0."""
        found = torch.stack([_size_of_gradient(network, place) for place in network.places])
        self.sums = found if self.sums is None else self.sums + found
        self.steps += 1

    def means(self, network: PlasticNetwork) -> dict[Place, float]:
        """Over the steps, by place; 0 where there were none."""
        places = network.places
        if self.sums is None:
            return dict.fromkeys(places, 0.0)
        return dict(zip(places, (self.sums / self.steps).tolist()))


def _size_of_gradient(network: PlasticNetwork, place: Place) -> torch.Tensor:
    path = network.path(place)
    gradients = [weight.grad for weight in path.weights or [path.scalar] if weight.grad is not None]
    if not gradients:
        return torch.zeros((), dtype=torch.float64, device=path.scalar.device)
    # One call for all of them: by themselves they would take a tenth of a step.
    return torch.stack(torch._foreach_norm(gradients, 1)).sum(dtype=torch.float64)


def lowest_scalar(
    scalars: Mapping[Place, float], gradients: Mapping[Place, float], threshold: float
) -> Scored:
    """The one of smallest absolute scalar."""
    return _ascending({place: abs(value) for place, value in scalars.items()})[:1]


def lowest_gradient(
    scalars: Mapping[Place, float], gradients: Mapping[Place, float], threshold: float
) -> Scored:
    """The one of smallest gradients, on average over the steps since the last change."""
    return _ascending(gradients)[:1]


def below_threshold(
    scalars: Mapping[Place, float], gradients: Mapping[Place, float], threshold: float
) -> Scored:
    """All of absolute scalar below the threshold, smallest first."""
    return [
        found
        for found in _ascending({place: abs(value) for place, value in scalars.items()})
        if found[1] < threshold
    ]


def _ascending(values: Mapping[Place, float]) -> Scored:
    return sorted(values.items(), key=lambda found: (found[1], found[0]))


@dataclass(frozen=True)
class Removal:
    """choose: (scalars, mean gradients, threshold) -> those that go, weakest first. reads_gradients: or none."""

    choose: Callable[[Mapping[Place, float], Mapping[Place, float], float], Scored]
    reads_gradients: bool = False


REMOVALS: dict[str, Removal] = {
    "scalar": Removal(lowest_scalar),
    "gradient": Removal(lowest_gradient, reads_gradients=True),
    "threshold": Removal(below_threshold),
}
