"""What the growth actions share: what they know of a network, what they propose, and where new connections may go.

`propose` of an action looks at a diagnosed network and makes all choices - which connections, which values - so that a
proposal is plain numbers that can be sent anywhere. `apply` needs only the network and the proposal, and does
the same on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from structnet.errors import UserError
from structnet.measure.diagnosis import Diagnosis
from structnet.network.edit import Edit
from structnet.network.network import StructNet
from structnet.network.state import TrainState
from structnet.network.topology import Topology


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

    directions: what structnet.actions.new_units has found so far, by groups.
    """

    state: TrainState
    diagnosis: Diagnosis
    sizes: tuple[int, ...]
    rate: float
    rng: np.random.Generator
    directions: dict[Any, np.ndarray] = field(default_factory=dict, init=False, repr=False)

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

    def gain(self, *gradients: np.ndarray) -> float:
        """Bits that one step on parameters of these gradients gains, to first order: Adam's step is `rate`."""
        return float(self.rate * sum(float(np.abs(gradient).sum()) for gradient in gradients) / np.log(2))


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
