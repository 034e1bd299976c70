"""The training loop: so many steps of one network, by compiled steps on a CPU and by torch elsewhere."""

from __future__ import annotations

from collections.abc import Callable

import torch

from structnet.data.dataset import Split
from structnet.network.state import TrainState
from structnet.training import meter
from structnet.training.members import alone
from structnet.training.recipe import Recipe
from structnet.training.torch_step import TorchSteps


class Diverged(ArithmeticError):
    """The loss or a parameter is no longer finite."""


def train_steps(
    state: TrainState,
    split: Split,
    recipe: Recipe,
    steps: int,
    learning_rate: Callable[[int], float],
    *,
    norms: torch.Tensor | None = None,
) -> torch.Tensor:
    """Trains in place for so many steps and returns their losses, (steps,), in nats, before L1.

    learning_rate: step along the line -> rate. norms: (steps,) is filled with the Euclidean norm of the gradient of
    every step, before L1. Raises Diverged when a loss or a parameter is not finite.
    """
    if state.network.is_compiled:
        losses = _compiled_steps(state, split, recipe, steps, learning_rate, norms)
    else:
        losses = _torch_steps(state, split, recipe, steps, learning_rate, norms)
    check_finite(state, losses, steps)
    return losses


def check_finite(state: TrainState, losses: torch.Tensor, steps: int) -> None:
    """Raises Diverged where a loss of the last steps, or a parameter, is not finite."""
    values = state.network.values.detach()
    if not (torch.isfinite(losses).all() and torch.isfinite(values).all()):
        raise Diverged(f"training diverged within {steps} steps of step {state.step}")


def _compiled_steps(
    state: TrainState,
    split: Split,
    recipe: Recipe,
    steps: int,
    learning_rate: Callable[[int], float],
    norms: torch.Tensor | None,
) -> torch.Tensor:
    members = alone(state)
    losses, lengths = members.train(
        split, recipe, steps, learning_rate, state.step, with_norms=norms is not None
    )
    if norms is not None:
        norms.copy_(torch.from_numpy(lengths[0]))
    state.step += steps
    state.optimizer.step = members.updates
    return torch.from_numpy(losses[0])


def _torch_steps(
    state: TrainState,
    split: Split,
    recipe: Recipe,
    steps: int,
    learning_rate: Callable[[int], float],
    norms: torch.Tensor | None,
) -> torch.Tensor:
    born = torch.from_numpy(state.born).to(state.network.values.device)
    stretch = TorchSteps(state.network, state.optimizer, split, recipe, born=born)
    losses = stretch.train(steps, learning_rate, state.step, norms=norms)
    meter.count([state.network.topology], steps * min(recipe.batch_size, len(split)))
    state.step += steps
    return losses[:, 0]
