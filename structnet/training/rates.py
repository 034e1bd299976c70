"""Learning rates by the age of a parameter, and progressive freezing.

What is new learns at the full rate, what is established at a fraction of it, so that a new connection finds
its place without unsettling the ones that work. `AgeRates` turns ages into multipliers; `scaled_step` applies
them to what an optimizer did. Scaling the step instead of the gradient is what makes it hold for every
optimizer: Adam divides a scaled gradient by its own size again, and weight decay moves a parameter that has
no gradient at all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from structnet.errors import UserError


@dataclass(frozen=True)
class AgeRates:
    """Multipliers of the step that fall with age; ages are optimizer steps since the parameter was added.

    From `young` at age 0 the multiplier falls geometrically to `established` at age `matures_after` and stays
    there. With `freezes_after` it goes on falling, linearly, and is exactly 0 from that age on.

    Raises UserError unless 0 < established ≤ young and 0 < matures_after < freezes_after.
    """

    established: float = 0.2
    young: float = 1.0
    matures_after: int = 1000
    freezes_after: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.established <= self.young < math.inf:
            raise UserError(
                f"established is {self.established}, but must be above 0 and at most young, {self.young}: "
                "rates fall with age (freezes_after stops a parameter altogether)"
            )
        if self.matures_after < 1:
            raise UserError(
                f"matures_after is {self.matures_after}, but must be at least 1: it is an age in steps"
            )
        if self.freezes_after is not None and self.freezes_after <= self.matures_after:
            raise UserError(
                f"freezes_after is {self.freezes_after}, but must be above matures_after, "
                f"{self.matures_after}: a parameter is established before it is frozen"
            )

    def scale(self, age: torch.Tensor) -> torch.Tensor:
        """Multipliers float32 (P,) for ages (P,), integers from 0, on the device of the ages."""
        youth = age.clamp(max=self.matures_after).to(torch.float32) / self.matures_after
        scale = self.young * torch.exp(youth * math.log(self.established / self.young))
        if self.freezes_after is None:
            return scale
        left = (self.freezes_after - age).to(torch.float32) / (self.freezes_after - self.matures_after)
        return scale * left.clamp(0, 1)

    def table(self) -> np.ndarray:
        """Multipliers float32 by age, from 0; the last is that of all greater ages."""
        last = self.matures_after if self.freezes_after is None else self.freezes_after
        multipliers: np.ndarray = self.scale(torch.arange(last + 1)).numpy()
        return multipliers


RATES = ("none", "age", "freeze")


def rates_named(
    name: str, *, cycle: int, line: int, matures_after: int | None = None, freezes_after: int | None = None
) -> AgeRates | None:
    """The rates that `--rates` names, fitted to a line of so many steps, of which growth takes 40 %.

    `none`: one rate for all. `age`: what is new is established after three cycles, a `cycle` being the steps from
    one growth to the next. `freeze`: besides, what is older than 30 % of the line does not move any more while the
    network grows. Ages that are given are taken as they are. After one cycle is too early: digits, 8 rng_seeds,
    validation 93.2 % ± 1.3, after three 94.1 % ± 0.9, at one rate 93.8 % ± 1.1. Raises UserError for an unknown
    name, and for an age that the name has no use for.
    """
    if name not in RATES:
        raise UserError(f"rates is '{name}', but must be one of {', '.join(RATES)}")
    for option, age, users in (
        ("matures_after", matures_after, ("age", "freeze")),
        ("freezes_after", freezes_after, ("freeze",)),
    ):
        if age is not None and name not in users:
            raise UserError(f"{option} is {age}, but rates is {name}: it goes with {' or '.join(users)}")
    if name == "none":
        return None
    if matures_after is None:
        matures_after = 3 * cycle if freezes_after is None else min(3 * cycle, max(1, freezes_after - 1))
    if name == "freeze" and freezes_after is None:
        freezes_after = max(matures_after + 1, 3 * line // 10)
    return AgeRates(matures_after=matures_after, freezes_after=freezes_after)


def scaled_step(before: torch.Tensor, after: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """The share `scale` of an optimizer's step, element by element: before + scale × (after − before).

    All (P,); `before` a copy of the parameters made before the optimizer's step, `after` the parameters it
    left. Where the scale is 0 the result is `before` and where it is 1 `after`, bit for bit, whatever the
    other is (an infinity, NaN, or so far away that the difference overflows). Raises ValueError when shapes
    differ.
    """
    if not before.shape == after.shape == scale.shape:
        raise ValueError(
            f"before, after and scale have shapes {tuple(before.shape)}, {tuple(after.shape)} and "
            f"{tuple(scale.shape)}, but must have one and the same: a scale per parameter"
        )
    between = torch.lerp(before, after, scale.to(before.dtype))
    return torch.where(scale == 0, before, torch.where(scale == 1, after, between))
