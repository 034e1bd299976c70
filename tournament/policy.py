"""Policies: how the forks of a heat are ranked, and whether the best one must prove itself.

`score` is the product: information per parameter. The others are there to be compared with. A policy is one
entry of POLICIES; `random` and `control` are the controls of the comparison.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from structnet.errors import UserError


@dataclass(frozen=True)
class Standing:
    """What is known of a fork when it is ranked. draw: a random number in [0, 1) of its own."""

    gain: float
    score: float
    surplus: float
    draw: float


@dataclass(frozen=True)
class Policy:
    """rank: larger is better. must_prove: adopted only if the gain is significant. grows: enters forks at all."""

    rank: Callable[[Standing], float]
    must_prove: bool = True
    grows: bool = True


POLICIES = {
    "score": Policy(lambda standing: standing.score),
    "surplus": Policy(lambda standing: standing.surplus),
    "gain": Policy(lambda standing: standing.gain),
    "random": Policy(lambda standing: standing.draw, must_prove=False),
    "control": Policy(lambda standing: 0.0, grows=False),
}


def policy_named(name: str) -> Policy:
    """The policy of this name; raises UserError for an unknown one."""
    if name not in POLICIES:
        raise UserError(f"policy is '{name}', but must be one of {', '.join(POLICIES)}")
    return POLICIES[name]
