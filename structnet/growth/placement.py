"""Where what is new in a network should go: to decisive features, and to where it fails.

Decisive are sources of large |weight| × spread over the training images. Where a network fails is said by the
gradient of absent connections (Evci et al. 2020, RigL) over the images it gets wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from structnet.actions.base import linked_pairs, strongest_absent
from structnet.data.dataset import Split
from structnet.errors import UserError
from structnet.measure.diagnosis import Diagnosis, diagnose
from structnet.network.edit import Edit
from structnet.network.network import StructNet
from structnet.network.random_topology import random_absent, random_absent_everywhere
from structnet.network.topology import Topology

BLOCK = 2000

Ends = tuple[np.ndarray, np.ndarray]  # sources and targets of absent connections, the most wanted first


@dataclass(frozen=True)
class Placement:
    """Where new units and connections go.

    failing_share: how much of what is new goes by the images that the small network gets wrong, if there are
    any; the rest goes by its decisive features. decisive: how many sources in a group count as such, or all
    that there are. images: training images looked at, and as many of those it gets wrong. at_random: all of it
    goes anywhere instead, as the control.
    """

    failing_share: float = 0.5
    decisive: int = 200
    images: int = 10_000
    at_random: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.failing_share <= 1:
            raise UserError(
                f"failing_share is {self.failing_share}, but must be in [0, 1]: it is a share of what is new"
            )
        if self.decisive < 1 or self.images < 1:
            raise UserError(
                f"decisive is {self.decisive} and images {self.images}, but both must be at least 1"
            )


@dataclass(frozen=True)
class Evidence:
    """What placement goes by: images of all kinds, and such as the small network gets wrong.

    share: of what is new, how much goes by the wrong ones. decisive: sources of a group that count as such.
    """

    seen: Split
    wrong: Split
    share: float
    decisive: int

    @classmethod
    def of(cls, small: StructNet, train: Split, placement: Placement, rng: np.random.Generator) -> Evidence:
        """Drawn from the training images by how the small network answers them."""

        def some(positions: np.ndarray) -> Split:
            chosen = np.sort(rng.permutation(positions)[: placement.images])
            return train.at(chosen)

        seen, wrong = some(np.arange(len(train))), some(wrong_images(small, train))
        return cls(seen, wrong, placement.failing_share if len(wrong) else 0.0, placement.decisive)


def new_connections(edit: Edit, count: int, evidence: Evidence | None, rng: np.random.Generator) -> Ends:
    """Exactly so many absent connections; what one rule does not find is left to the next one.

    By the gradient over wrong images, the first half at extrema of the small network; by the gradient over all
    images, from decisive sources and then from any; at random.
    """
    topology = edit.network.topology
    wanted: list[tuple[int, Ends]] = []
    if evidence is not None:
        failing = round(evidence.share * count)
        if failing:
            there = diagnose(edit.network, evidence.wrong.images, evidence.wrong.labels)
            wanted.append((failing // 2, _at_extrema(edit, there, count)))
            wanted.append((failing, _strongest(there, count)[:2]))
        everything = diagnose(edit.network, evidence.seen.images, evidence.seen.labels)
        best = decisive_units(edit, everything, evidence.decisive)
        wanted.append((count, _strongest(everything, count, sources=best)[:2]))
        wanted.append((count, _strongest(everything, count)[:2]))
    wanted.append((count, _anywhere(topology, count, rng)))
    units = topology.units
    chosen = np.empty(0, dtype=np.int64)
    for until, (source, target) in wanted:
        cell = source.astype(np.int64) * units + target
        chosen = np.concatenate([chosen, cell[~np.isin(cell, chosen)][: max(0, until - len(chosen))]])
    return chosen // units, chosen % units


def _at_extrema(edit: Edit, diagnosis: Diagnosis, count: int) -> Ends:
    """Out of saturated and into dead units of the small network, by gradient.

    None goes into a unit that never fires, which gets no gradient.
    """
    saturated, dead = (np.setdiff1d(units, edit.new_units) for units in (diagnosis.saturated, diagnosis.dead))
    found = [
        _strongest(diagnosis, count, sources=saturated),
        _strongest(diagnosis, count, targets=dead),
    ]
    source, target, gradient = (np.concatenate(part) for part in zip(*found))
    order = np.argsort(-np.abs(gradient), kind="stable")
    return source[order], target[order]


def _strongest(
    diagnosis: Diagnosis, count: int, *, sources: np.ndarray | None = None, targets: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`strongest_absent` over all links; at one end only these units, whatever groups they belong to."""
    topology = diagnosis.topology

    def of_group(units: np.ndarray | None, group: int) -> np.ndarray | None:
        return None if units is None else units[topology.group_of(units) == group]

    found = [
        strongest_absent(
            diagnosis, [pair], count, sources=of_group(sources, pair[0]), targets=of_group(targets, pair[1])
        )
        for pair in linked_pairs(topology)
    ]
    source, target, gradient = (np.concatenate(part) for part in zip(*found))
    order = np.argsort(-np.abs(gradient), kind="stable")[:count]
    return source[order], target[order], gradient[order]


def _anywhere(topology: Topology, count: int, rng: np.random.Generator) -> Ends:
    """So many absent connections at random: in the links there are, then between neighbours without one."""
    found = [random_absent_everywhere(topology, count, rng)]
    for pair in linked_pairs(topology):
        if pair not in topology.links:
            found.append(topology.ends(pair, *random_absent(topology, pair, count, rng)))
    source, target = (np.concatenate(part) for part in zip(*found))
    return source, target


def scores(edit: Edit, diagnosis: Diagnosis) -> np.ndarray:
    """`decisiveness`; a new unit, whose fan-out is still 0, counts as the median of its group."""
    score, topology = decisiveness(edit.network, diagnosis.spread), edit.network.topology
    new = edit.new_units[diagnosis.spread[edit.new_units] > 0]
    for group in range(1, topology.groups - 1):
        known = score[topology.units_of(group)]
        score[new[topology.group_of(new) == group]] = np.median(known[known > 0]) if known.any() else 1.0
    return score


def decisive_units(edit: Edit, diagnosis: Diagnosis, k: int) -> np.ndarray:
    """The numbers of the k most decisive units of every group but the output."""
    score, topology = scores(edit, diagnosis), edit.network.topology
    spans = [topology.units_of(group) for group in range(topology.groups - 1)]
    return np.concatenate([span.start + top(score[span], k) for span in spans])


def decisiveness(network: StructNet, spread: np.ndarray) -> np.ndarray:
    """(units,) Σ |weight| of the connections that leave each unit × spread of its activation, (units,)."""
    topology = network.topology
    weight = np.abs(topology.split(network.values.detach())[0].double().cpu().numpy())
    decisive: np.ndarray = (
        np.bincount(topology.source_unit, weights=weight, minlength=topology.units) * spread
    )
    return decisive


def top(score: np.ndarray, k: int) -> np.ndarray:
    """Positions of the k largest scores above 0, largest first: fewer where there are fewer."""
    order = np.argsort(-score, kind="stable")[:k]
    return order[score[order] > 0]


def wrong_images(network: StructNet, split: Split) -> np.ndarray:
    """Positions of the images of a split to which a network gives another class than their label."""
    wrong = []
    with torch.no_grad():
        for start in range(0, len(split), BLOCK):
            part = slice(start, start + BLOCK)
            wrong.append(network(split.images[part]).argmax(dim=1) != split.labels[part])
    return np.flatnonzero(torch.cat(wrong).cpu().numpy())
