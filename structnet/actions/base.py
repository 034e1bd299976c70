"""What the growth actions share: what they know of a network, what they propose, and where new connections may go.

`propose` of an action looks at a diagnosed network and makes all choices - which connections, which values - so that a
proposal is plain numbers that can be sent anywhere. `apply` needs only the network and the proposal, and does
the same on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from structnet.actions.reading import Reading
from structnet.errors import UserError
from structnet.measure.diagnosis import Diagnosis, firing_rate
from structnet.network.activations import activation_named
from structnet.network.edit import Edit
from structnet.network.network import StructNet
from structnet.network.propagation import propagate
from structnet.network.state import TrainState
from structnet.network.topology import Topology

SAMPLES = 2**16  # positions of a map, over the images, that its values are planned by
FEWEST_IMAGES = 128


@dataclass(frozen=True, eq=False)
class Proposal:
    """One change of one network.

    parameters_added: exact; negative where parameters are freed. predicted_gain: bits, to first order: what
    one optimizer step of size `rate` on each new or re-opened parameter gains, and what the connections that
    go take with them. plan: plain numbers and numpy arrays, in the unit and connection numbers of the network
    that was diagnosed.
    """

    action: str
    site: str
    parameters_added: int
    predicted_gain: float
    connections_moved: int = 0
    plan: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Context:
    """What `propose` knows. sizes: parameter counts to aim at, small to large. rate: the learning rate.

    directions: what structnet.actions.new_units has found so far, by groups; found: what others have.
    """

    state: TrainState
    diagnosis: Diagnosis
    sizes: tuple[int, ...]
    rate: float
    rng: np.random.Generator
    directions: dict[Any, np.ndarray] = field(default_factory=dict, init=False, repr=False)
    found: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        """Raises UserError for units whose shape is their own: what new ones would do is foreseen for others alone."""
        if self.topology.shape_numbers:
            raise UserError(
                f"activation is '{self.state.network.activation}', whose units learn a shape of their own, but growth "
                "is for relu, tanh and sigmoid: give such a network, or evolve this one"
            )

    @property
    def topology(self) -> Topology:
        """Of the network that was diagnosed."""
        return self.state.network.topology

    @cached_property
    def sample(self) -> Diagnosis:
        """The diagnosis on fewer of its images, where maps have so many positions that these are enough."""
        shape = self.topology.architecture
        images = self.diagnosis.activations[-1].shape[1]
        most = max(shape.area(group) for group in range(1, self.topology.groups))
        wanted = max(FEWEST_IMAGES, SAMPLES // most) if shape.has_maps else images
        if wanted >= images:
            return self.diagnosis
        every = -(-images // wanted)
        return thinned(self.diagnosis, every, images / -(-images // every))

    @cached_property
    def silent(self) -> np.ndarray:
        """(units,) booleans: units that fire on none of the images, neither as in training nor as in use.

        False where a bounded activation passes a gradient on nevertheless.
        """
        network = self.state.network
        if activation_named(network.activation).ceiling is not None:
            return np.zeros(self.topology.units, dtype=bool)
        silent: np.ndarray = self.diagnosis.firing_rate == 0
        if network.statistics is not None and silent.any():
            inputs = self.diagnosis.activations[0].reshape(self.topology.architecture.inputs, -1)
            activation = activation_named(network.activation)
            used = propagate(network, network.values.detach(), inputs)
            silent &= np.concatenate([firing_rate(group, activation) for group in used]) == 0
        return silent

    def reading(self, sources: Sequence[int], group: int) -> Reading:
        """What units at the positions of a group can read of the source groups, in the sample."""
        key = Reading, tuple(sources), group
        if key not in self.found:
            self.found[key] = Reading(self.sample, tuple(sources), group)
        reading: Reading = self.found[key]
        return reading

    def normalises(self, group: int) -> bool:
        """Whether the units of a group are normalised in training."""
        return self.state.network.statistics is not None and not self.topology.architecture.is_plain(group)

    def gain(self, *gradients: np.ndarray) -> float:
        """Bits that one step on parameters of these gradients gains, to first order: Adam's step is `rate`."""
        return float(self.rate * sum(float(np.abs(gradient).sum()) for gradient in gradients) / np.log(2))


def thinned(diagnosis: Diagnosis, every: int, scale: float = 1.0) -> Diagnosis:
    """The diagnosis on every so many-th image alone, with its errors times this scale."""

    def kept(group: int, part: torch.Tensor) -> torch.Tensor:
        area = diagnosis.topology.architecture.area(group)
        return part.view(len(part), area, -1)[:, :, ::every].reshape(len(part), -1)

    errors = [None if part is None else kept(group, part) for group, part in enumerate(diagnosis.errors)]
    return replace(
        diagnosis,
        activations=[kept(group, part) for group, part in enumerate(diagnosis.activations)],
        errors=errors if scale == 1 else [None if part is None else part * scale for part in errors],
        _products={},
        _absent={},
    )


def linked_pairs(topology: Topology) -> list[tuple[int, int]]:
    """The pairs of groups that connections may join without a new kind of link: neighbours always may."""
    return sorted(set(topology.links) | {(group, group + 1) for group in range(topology.groups - 1)})


def unlinked_pairs(topology: Topology) -> list[tuple[int, int]]:
    """The pairs of groups that only a new link would join: forward skips that are not there yet."""
    linked = set(linked_pairs(topology))
    every = ((source, target) for target in range(topology.groups) for source in range(target))
    return [pair for pair in every if pair not in linked]


def feeding(topology: Topology, group: int) -> list[int]:
    """The groups linked into a group."""
    return [source for source, target in linked_pairs(topology) if target == group]


def fed_by(topology: Topology, group: int) -> list[int]:
    """The groups that a group is linked into."""
    return [target for source, target in linked_pairs(topology) if source == group]


def strongest_absent(
    diagnosis: Diagnosis,
    pairs: list[tuple[int, int]],
    k: int,
    *,
    sources: np.ndarray | None = None,
    targets: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`Diagnosis.absent` over several pairs of groups together."""
    found = [diagnosis.absent(*pair, k, sources=sources, targets=targets) for pair in pairs]
    if not found:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), np.empty(0)
    source, target, gradient = (np.concatenate(part) for part in zip(*found))
    best = np.argsort(-np.abs(gradient), kind="stable")[:k]
    return source[best], target[best], gradient[best]


def index_now(edit: Edit, index: np.ndarray) -> np.ndarray:
    """Where parameters of the network before lie after an edit that removed none of them."""
    place = np.full(edit.before, -1, dtype=np.int64)
    survivors = np.flatnonzero(edit.origin >= 0)
    place[edit.origin[survivors]] = survivors
    now: np.ndarray = place[index]
    return now


def assigned(edit: Edit, index: np.ndarray, values: np.ndarray | float) -> Edit:
    """The edit with other values at these indices of its new network."""
    network = edit.network
    flat = network.values.detach().clone()
    fresh = np.broadcast_to(np.asarray(values, dtype=np.float64), (len(index),)).copy()
    flat[torch.from_numpy(index).to(flat.device)] = torch.from_numpy(fresh).to(flat.device, flat.dtype)
    return replace(edit, network=network.with_values(flat))


def flat_gradient(context: Context) -> np.ndarray:
    """(parameters,) float64 gradient of the mean loss."""
    return context.diagnosis.gradient.double().cpu().numpy()


def flat_values(network: StructNet) -> np.ndarray:
    """(parameters,) float64 values."""
    return network.values.detach().double().cpu().numpy()
