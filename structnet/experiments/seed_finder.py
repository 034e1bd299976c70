"""The optimal seed: of a grid of small networks the one with the fewest parameters that still learns.

A candidate is an architecture and a density, trained with several rng_seeds. It learns if every one of them
ends above chance by a margin: one that is carried by a lucky draw of its connections is no seed to rely on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from structnet.measure.statistics import mean_and_spread
from structnet.network.architecture import Architecture, architecture_of_row, dashed

REACH = 4  # candidates shown on either side of the one that was found


@dataclass(frozen=True)
class Candidate:
    """A small network that may be the seed.

    accuracies: on validation, of the rng_seeds whose training did not fail. rng_seeds: how many there were;
    `learned` of them are above chance by the margin.
    """

    architecture: Architecture
    density: float
    parameters: int
    accuracies: tuple[float, ...]
    rng_seeds: int
    learned: int

    @property
    def learns(self) -> bool:
        """Whether all of the rng_seeds learned."""
        return self.learned == self.rng_seeds

    @property
    def shape(self) -> str:
        """The sizes of its groups, such as 64-8-10."""
        return dashed(self.architecture)

    @property
    def mean(self) -> float:
        """Mean accuracy, 0 if all training failed."""
        return mean_and_spread(self.accuracies)[0] if self.accuracies else 0.0

    @property
    def order(self) -> tuple[Any, ...]:
        """Fewest parameters first, of equals the most accurate."""
        return self.parameters, -self.mean, self.architecture, self.density


def candidates(rows: Iterable[dict[str, Any]], chance: float, margin: float) -> list[Candidate]:
    """The candidates of a grid in their order, from rows of `networks`; raises ValueError for a doubled rng_seed.

    A network that could not be built, or whose training failed, has not learned.
    """
    groups: dict[tuple[Architecture, float], dict[int, dict[str, Any]]] = defaultdict(dict)
    for row in rows:
        group = groups[architecture_of_row(row), row["density"]]
        if row["rng_seed"] in group:
            raise ValueError(f"network {row['network']} is there twice")
        group[row["rng_seed"]] = row
    found = []
    for (architecture, density), group in groups.items():
        sizes = {row["parameters"] for row in group.values()} - {None}
        finished = [row["accuracy"] for row in group.values() if row["status"] == "finished"]
        if sizes:
            learned = sum(accuracy >= chance + margin for accuracy in finished)
            found.append(Candidate(architecture, density, max(sizes), tuple(finished), len(group), learned))
    return sorted(found, key=lambda candidate: candidate.order)


def smallest(found: Iterable[Candidate]) -> Candidate | None:
    """Of the candidates that learn the one of fewest parameters, of equals the most accurate; None if none does."""
    return min((one for one in found if one.learns), key=lambda one: one.order, default=None)


def smallest_by_shape(found: Sequence[Candidate]) -> list[Candidate]:
    """The smallest candidate that learns of every architecture that has one, in their order."""
    shapes = {candidate.architecture for candidate in found}
    bests = [smallest(one for one in found if one.architecture == shape) for shape in shapes]
    return sorted((best for best in bests if best is not None), key=lambda best: best.order)


def around(found: Sequence[Candidate], chosen: Candidate | None, reach: int = REACH) -> list[Candidate]:
    """So many candidates on either side of the chosen one; the most accurate ones where none was chosen."""
    if chosen is None:
        best = sorted(found, key=lambda one: (-one.learned / one.rng_seeds, -one.mean))[: 2 * reach + 1]
        return sorted(best, key=lambda one: one.order)
    place = list(found).index(chosen)
    return list(found[max(0, place - reach) : place + reach + 1])
