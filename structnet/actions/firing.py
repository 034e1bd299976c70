"""When new units fire: what they are before their bias, and the bias that makes them fire fairly often."""

from __future__ import annotations

import numpy as np
import torch

from structnet.compiled.normalise import LEAST_VARIANCE

FAIR_SHARE = 0.1


def threshold(state: torch.Tensor) -> torch.Tensor:
    """(units,) what to subtract from pre-activations without bias, (units, n), so that units fire fairly often.

    The median; where too few images lie above it - sparse inputs tie at 0 - the mean, which always has some.
    """
    middle = torch.kthvalue(state, (state.shape[1] + 1) // 2, dim=1).values
    share = torch.count_nonzero(state > middle[:, None], dim=1) / state.shape[1]
    return torch.where(share >= FAIR_SHARE, middle, state.mean(dim=1))


def moments(state: torch.Tensor) -> np.ndarray:
    """(2, units) float64 means and variances of pre-activations without bias, (units, n)."""
    # Row by row, so that not all of them are there in double precision.
    found = [torch.var_mean(row.double(), correction=0) for row in state]
    return np.array([[float(mean) for _, mean in found], [float(variance) for variance, _ in found]])


def normal(state: torch.Tensor) -> tuple[torch.Tensor, np.ndarray]:
    """Pre-activations without bias, (units, n), brought to mean 0 and variance 1, and their `moments`."""
    statistics = moments(state)
    mean, deviation = (
        torch.from_numpy(part[:, None]).to(state) for part in (statistics[0], deviations(statistics))
    )
    return (state - mean).div_(deviation), statistics


def deviations(statistics: np.ndarray) -> np.ndarray:
    """(units,) by which maps of these (2, units) means and variances are divided."""
    found: np.ndarray = np.sqrt(statistics[1] + LEAST_VARIANCE)
    return found
