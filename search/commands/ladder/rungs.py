"""The rungs of a ladder from the rows of its networks, of one allocation each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from structnet.experiments.cliff import Rung
from structnet.network.topology import ALLOCATIONS

Row = Mapping[str, Any]
LEAST_RUNGS = 4
BOTH = "both"


def allocations_of(allocation: str) -> list[str]:
    """What an option asks for: one, or two side by side."""
    return list(ALLOCATIONS[:2]) if allocation == BOTH else [allocation]


def share_of(row: Row, shares: Sequence[str]) -> str:
    """Which of these allocations a network has, as its name says it: the first goes without saying."""
    return next((share for share in shares if f"_{share}_" in row["network"]), shares[0])


def rungs_of(rows: Iterable[Row], share: str, shares: Sequence[str]) -> list[Rung]:
    """The finished networks of one allocation. A diverged one is left out: it says nothing about density."""
    return [
        Rung(row["density_real"], row["rng_seed"], row["accuracy"])
        for row in rows
        if row["status"] == "finished" and share_of(row, shares) == share
    ]
