"""A grid of networks, and the blocks it is cut into: what one trial trains as one cohort.

Blocks depend on the grid alone, never on the machine, so a hunt gives the same tables wherever it runs.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from structnet.errors import UserError
from structnet.network.architecture import (
    Architecture,
    Side,
    architecture_of,
    bias_count,
    dashed,
    plain_form,
    possible_connections,
)

# What a training step of a block may cost, in connections: about half a minute of five epochs of MNIST on one
# core, and about 100 MB. A unit costs about as much as eight connections (measured on 784-64-10).
BLOCK_COST = 1_000_000
# A small grid is cut finer, so that several workers have something to do, but not below about a tile of a cohort.
LEAST_BLOCKS, LEAST_BLOCK_COST = 8, 80_000
UNIT_COST = 8


@dataclass(frozen=True, slots=True)
class Member:
    """A network of a grid, by what it is made from; the architecture may be numbers or a text."""

    architecture: Architecture
    density: float
    rng_seed: int
    allocation: str = "proportional"

    def __post_init__(self) -> None:
        object.__setattr__(self, "architecture", architecture_of(self.architecture))

    @property
    def key(self) -> str:
        """Its name in tables and snapshots."""
        shared = "" if self.allocation == "proportional" else f"_{self.allocation}"
        return f"{dashed(self.architecture)}_d{self.density:g}{shared}_s{self.rng_seed}"

    @property
    def units(self) -> int:
        """Those that have a bias."""
        return bias_count(self.architecture)

    @property
    def possible(self) -> int:
        """Connections of the dense network of this shape."""
        return possible_connections(self.architecture)

    @property
    def cost(self) -> float:
        """Of a training step, in connections; those into maps count at every position."""
        shape = self.architecture
        if not shape.has_maps:
            return self.density * self.possible + UNIT_COST * self.units
        groups = range(1, len(shape))
        connections = sum(shape.area(group) * shape.possible((group - 1, group)) for group in groups)
        positions = sum(shape.area(group) * shape[group] for group in groups)
        return self.density * connections + UNIT_COST * positions


@dataclass(frozen=True)
class Block:
    """Networks of one depth, side of the input, density and allocation, trained as one cohort."""

    name: str
    members: tuple[Member, ...]

    @property
    def cost(self) -> float:
        """Of a training step of all members, in connections."""
        return sum(member.cost for member in self.members)

    @property
    def bytes(self) -> int:
        """What a worker holds while it trains the block; joining the members takes as much again for a moment."""
        from structnet.training.cohort import cohort_bytes, workspace_bytes

        connections = [(member, round(member.density * member.possible)) for member in self.members]
        held = 2 * sum(cohort_bytes(member.architecture, count) for member, count in connections)
        shapes = {member.architecture for member in self.members}
        return held + max(map(workspace_bytes, shapes))

    def to_config(self) -> dict[str, Any]:
        """As plain values; of each member those of its fields, as there may be a million."""
        return {"name": self.name, "members": [_values(member) for member in self.members]}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Block:
        """From what `to_config` gave."""
        return cls(config["name"], tuple(Member(shape, *rest) for shape, *rest in config["members"]))


def grid(
    architectures: Sequence[Sequence[int]],
    densities: Sequence[float],
    rng_seeds: Sequence[int],
    allocations: Sequence[str] = ("proportional",),
    *,
    limit: int,
) -> list[Member]:
    """Every combination. Raises UserError for an empty grid, one that is larger than the limit, or doubles."""
    sizes = (("architectures", architectures), ("densities", densities), ("rng_seeds", rng_seeds))
    for name, values in sizes:
        if not len(values):
            raise UserError(f"the grid is empty, as there are no {name}: give at least one")
    count = len(architectures) * len(densities) * len(rng_seeds) * len(allocations)
    if count > limit:
        shape = (
            f"{len(architectures)} architectures × {len(densities)} densities × {len(rng_seeds)} rng_seeds"
        )
        raise UserError(
            f"the grid has {count:,} networks ({shape}), but limit is {limit:,}: raise --limit or thin it out"
        )
    members = [
        Member(architecture_of(architecture), density, rng_seed, allocation)
        for allocation in allocations
        for density in densities
        for rng_seed in rng_seeds
        for architecture in architectures
    ]
    seen: set[str] = set()
    for member in members:
        if not 0 < member.density <= 1:
            raise UserError(
                f"density is {member.density}, but must be in (0, 1]: it is the share of connections that exist"
            )
        if member.key in seen:
            raise UserError(f"network {member.key} is twice in the grid: name each value once")
        seen.add(member.key)
    return members


def blocks_of(members: Sequence[Member], block_cost: float | None = None) -> list[Block]:
    """The grid as blocks, dearest first, so that the workers end at about the same time.

    block_cost: of a block at most, unless it holds a single network; by default it follows from the grid's.
    The networks of one rng_seed stay together where they fit in a block, so that culling compares them.
    """
    if block_cost is None:
        block_cost = min(BLOCK_COST, max(LEAST_BLOCK_COST, _cost(members) / LEAST_BLOCKS))

    def family(member: Member) -> tuple[int, Side, float, str]:
        shape = member.architecture
        return len(shape), shape.sides[0], member.density, member.allocation

    cut: list[list[Member]] = []
    for _, found in groupby(sorted(members, key=family), key=family):
        here: list[Member] = []
        cost = 0.0
        for piece in _pieces(list(found), block_cost):
            if here and cost + _cost(piece) > block_cost:
                cut.append(here)
                here, cost = [], 0.0
            here.extend(piece)
            # One by one, as `_cost` adds them up: where a block ends must not hang on the last bit of a sum.
            for member in piece:
                cost += member.cost
        cut.append(here)
    cut.sort(key=lambda block: (-_cost(block), block[0].key))
    return [Block(f"block-{number:04d}", tuple(block)) for number, block in enumerate(cut)]


def check_memory(blocks: Sequence[Block], workers: int) -> None:
    """Raises UserError if the largest blocks, one for each worker, do not fit the free memory of this machine."""
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):  # not every system tells
        return
    needed = sum(sorted((block.bytes for block in blocks), reverse=True)[:workers])
    if needed > free:
        largest = max(blocks, key=lambda block: block.bytes)
        raise UserError(
            f"{workers} workers need about {needed / 2**30:.1f} GiB for the largest networks (such as "
            f"{largest.members[0].key}), but {free / 2**30:.1f} GiB are free: lower --workers, densities or widths"
        )


def _values(member: Member) -> tuple[Any, ...]:
    return plain_form(member.architecture), member.density, member.rng_seed, member.allocation


def _pieces(members: list[Member], block_cost: float) -> list[list[Member]]:
    """The members of each rng_seed; where those are too many for a block, one by one."""
    pieces = []
    for _, same_seed in groupby(sorted(members, key=lambda member: member.rng_seed), lambda m: m.rng_seed):
        together = list(same_seed)
        pieces += [together] if _cost(together) <= block_cost else [[member] for member in together]
    return pieces


def _cost(members: Sequence[Member]) -> float:
    return sum(member.cost for member in members)
