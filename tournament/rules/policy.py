"""Policies: how the forks of a heat are ranked, and what the best one must prove to be adopted.

`score` is the product: information per parameter. The others are there to be compared with. A policy is one
entry of POLICIES; `random` and `control` are the controls of the comparison.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from structnet.errors import UserError
from tournament.rules.score import Gain, is_adoptable, surplus


@dataclass(frozen=True)
class Standing:
    """What is known of a fork when it is ranked, by its matured gain. draw: a random number in [0, 1) of its own."""

    gain: float
    score: float
    surplus: float
    draw: float


# (gain, parameters added, price in bits per thousand, z) -> whether a fork may replace the control.
Proof = Callable[[Gain, int, float, float], bool]


def has_surplus(gain: Gain, parameters_added: int, price: float, z: float) -> bool:
    """Whether a trade, bought or sold, surely brings more than its price."""
    return surplus(gain, parameters_added, price, z) > 0


@dataclass(frozen=True)
class Policy:
    """rank: larger is better. proves: what is asked of the best one.

    one_market: whether growth and sales are ranked together; otherwise a sale is looked at only where no growth
    is adopted. grows: whether forks enter at all.
    """

    rank: Callable[[Standing], float]
    proves: Proof = is_adoptable
    one_market: bool = False
    grows: bool = True


POLICIES = {
    "score": Policy(lambda standing: standing.score),
    "surplus": Policy(lambda standing: standing.surplus, has_surplus, one_market=True),
    "gain": Policy(lambda standing: standing.gain),
    "random": Policy(lambda standing: standing.draw, lambda gain, added, price, z: added > 0),
    "control": Policy(lambda standing: 0.0, grows=False),
}


def policy_named(name: str) -> Policy:
    """The policy of this name; raises UserError for an unknown one."""
    if name not in POLICIES:
        raise UserError(f"policy is '{name}', but must be one of {', '.join(POLICIES)}")
    return POLICIES[name]
