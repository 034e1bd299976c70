"""The bracket: a short heat for many forks, a longer one for those that survive (successive halving).

Karnin et al. 2013, Jamieson & Talwalkar 2016. Controls and the random-placement twin run in every heat, so
each heat compares forks and controls that were trained for the same steps over the same batches.
"""

from __future__ import annotations

from dataclasses import dataclass

from structnet.errors import UserError


@dataclass(frozen=True)
class Heat:
    """steps: how long every fork trains in this heat. survivors: how many forks go on afterwards."""

    steps: int
    survivors: int


def plan_heats(forks: int, heat_steps: int, *, reduction: int = 4, least: int = 3) -> list[Heat]:
    """Heats whose steps add up to heat_steps: a quarter for all forks, the rest for the best of them.

    A field too small to be worth halving runs in one heat. Raises UserError for heat_steps below 1.
    """
    if heat_steps < 1:
        raise UserError(
            f"heat_steps is {heat_steps}, but must be at least 1: a fork has to train to be judged"
        )
    survivors = max(least, -(-forks // reduction))
    first = heat_steps // reduction
    if forks <= survivors or first < 1:
        return [Heat(heat_steps, forks)]
    return [Heat(first, survivors), Heat(heat_steps - first, survivors)]
