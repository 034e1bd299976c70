"""Training one network on several processes: each takes a share of every batch, and the gradients are averaged.

The processes are those of a `torch.distributed` group (gloo on CPUs, NCCL on GPUs). All hold the whole network. As
its values lie in one flat vector that has connections that exist and nothing else, one all-reduce a step is what
there is to send: what DistributedDataParallel does in buckets, without its hooks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.distributed as dist

from structnet.data.dataset import Split
from structnet.errors import UserError
from structnet.network.state import TrainState
from structnet.training.augmentation import key_of
from structnet.training.batches import noise_seed, training_batch
from structnet.training.loop import check_finite
from structnet.training.members import alone
from structnet.training.recipe import Recipe
from structnet.training.torch_step import dropout_of, loss_and_gradient, update


@dataclass(frozen=True)
class Share:
    """The part of every batch that falls to process `rank` of so many `workers`."""

    rank: int
    workers: int

    def of(self, images: int) -> slice:
        """Which images of a batch of so many; none where there are fewer than workers."""
        return slice(self.rank * images // self.workers, (self.rank + 1) * images // self.workers)


def train_shared_steps(
    state: TrainState,
    split: Split,
    recipe: Recipe,
    steps: int,
    learning_rate: Callable[[int], float],
    share: Share,
) -> torch.Tensor:
    """As structnet.training.loop.train_steps, with each batch made and computed in parts, one by each process.

    Every process has to call it, and is left with the same bits.
    """
    part = share.of(min(recipe.batch_size, len(split)))
    losses = state.network.values.detach().new_empty(steps)
    born = torch.from_numpy(state.born).to(losses.device)
    for index in range(steps):
        step = state.step
        if state.network.is_compiled:
            members = alone(state)
            mean, flat = members.gradient_of_part(split, recipe, step, part)
            losses[index], gradient = _summed(losses.new_tensor(mean), torch.from_numpy(flat))
            members.apply_gradient(gradient.numpy(), recipe, learning_rate(step), step)
            state.optimizer.step = members.updates
        else:
            loss, mine = _gradient_by_torch(state, split, recipe, part)
            losses[index], gradient = _summed(loss, mine)
            update(
                state.optimizer,
                state.network.values.detach(),
                gradient,
                recipe,
                learning_rate(step),
                connections=state.network.connection_count,
                age=step - born if recipe.rates else None,
            )
        state.step += 1
    check_finite(state, losses, steps)
    return losses


def _gradient_by_torch(
    state: TrainState, split: Split, recipe: Recipe, part: slice
) -> tuple[torch.Tensor, torch.Tensor]:
    """What these images of a batch have in its loss and gradient."""
    values = state.network.values.detach()
    if part.start == part.stop:
        return values.new_zeros(()), torch.zeros_like(values)
    inputs, labels = training_batch(split, recipe, state.step, part)
    key = key_of(noise_seed(recipe), state.step)
    dropout = dropout_of(state.network, recipe, inputs, key, part.start)
    loss, gradient = loss_and_gradient(state.network, values, inputs, labels, dropout)
    share = len(labels) / min(recipe.batch_size, len(split))
    return loss * share, gradient * share


def _summed(loss: torch.Tensor, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Both summed over all processes, by one message."""
    joined = torch.cat([gradient, loss.reshape(1).to(gradient.dtype)])
    dist.all_reduce(joined)
    return joined[-1], joined[:-1]


def check_share(batch_size: int, workers: int) -> None:
    """Raises UserError unless every worker gets as many images of a batch as the others."""
    if batch_size % workers:
        raise UserError(
            f"batch_size is {batch_size}, but must be a multiple of the {workers} workers, so that each has the same "
            f"part of a batch: take {max(1, batch_size // workers) * workers}"
        )


def agree(state: TrainState) -> None:
    """Gives every process the values, optimizer state and step of process 0, in place; same topology everywhere."""
    values, adam = state.network.values.detach(), state.optimizer
    steps = torch.tensor([state.step, adam.step], device=values.device)
    for tensor in (values, adam.first, adam.second, steps):
        dist.broadcast(tensor, src=0)
    state.step, adam.step = (int(step) for step in steps)
