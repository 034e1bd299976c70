"""Training one network on several processes: each takes a share of every batch, and the gradients are averaged.

The processes are those of a `torch.distributed` group (gloo on CPUs, NCCL on GPUs). All hold the whole network. As
its values lie in one flat vector that has connections that exist and nothing else, one all-reduce a step is what
there is to send: what DistributedDataParallel does in buckets, without its hooks. What feature maps are normalised by
travels in the same message.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.distributed as dist

from structnet.data.dataset import Split
from structnet.errors import UserError
from structnet.network.block_normalisation import BLOCK, block_width, follow, normalisation_of
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

    def of(self, images: int, whole: int = 1) -> slice:
        """Which images of a batch of so many; none where there are fewer than workers.

        whole: images that stay together, but for the last of the batch.
        """
        parts = -(-images // whole)
        bounds = (rank * parts // self.workers * whole for rank in (self.rank, self.rank + 1))
        return slice(*(min(images, bound) for bound in bounds))


def train_shared_steps(
    state: TrainState,
    split: Split,
    recipe: Recipe,
    steps: int,
    learning_rate: Callable[[int], float],
    share: Share,
) -> torch.Tensor:
    """As structnet.training.loop.train_steps, with each batch made and computed in parts, one by each process.

    Every process has to call it, and is left with the same bits. Feature maps are normalised by blocks of images, so
    there a part is so many whole blocks. Raises UserError unless each process can have as many.
    """
    part = _part(state, recipe, len(split), share)
    losses = state.network.values.detach().new_empty(steps)
    born = torch.from_numpy(state.born).to(losses.device)
    for index in range(steps):
        step = state.step
        if state.network.is_compiled:
            members = alone(state)
            mean, flat = members.gradient_of_part(split, recipe, step, part)
            gradient, losses[index] = _summed(torch.from_numpy(flat), losses.new_tensor(mean))
            members.apply_gradient(gradient.numpy(), recipe, learning_rate(step), step)
            state.optimizer.step = members.updates
        else:
            gradient, losses[index], seen = _summed(*_shares_by_torch(state, split, recipe, part))
            if state.network.statistics is not None:
                follow(state.network.statistics, state.network.topology, seen)
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


def _part(state: TrainState, recipe: Recipe, images: int, share: Share) -> slice:
    """Which images of a batch fall to a process."""
    batch = min(recipe.batch_size, images)
    if state.network.statistics is None:
        return share.of(batch)
    check_blocks(recipe.batch_size, share.workers)
    return share.of(batch, block_width(batch))


def _shares_by_torch(
    state: TrainState, split: Split, recipe: Recipe, part: slice
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What these images of a batch have in its gradient, its loss, and the statistics of feature maps, if any."""
    network, values = state.network, state.network.values.detach()
    nothing = values.new_zeros(0) if network.statistics is None else torch.zeros_like(network.statistics)
    if part.start == part.stop:
        return torch.zeros_like(values), values.new_zeros(()), nothing
    inputs, labels = training_batch(split, recipe, state.step, part)
    key, batch = key_of(noise_seed(recipe), state.step), min(recipe.batch_size, len(split))
    dropout = dropout_of(network, recipe, inputs, key, part.start)
    normalisation = normalisation_of(network, len(labels), batch)
    loss, gradient = loss_and_gradient(network, values, inputs, labels, dropout, normalisation)
    share = len(labels) / batch
    return gradient * share, loss * share, nothing if normalisation is None else normalisation.seen


def _summed(*shares: torch.Tensor) -> list[torch.Tensor]:
    """Each summed over all processes, by one message."""
    joined = torch.cat([share.reshape(-1) for share in shares])
    dist.all_reduce(joined)
    sums = torch.split(joined, [share.numel() for share in shares])
    return [found.view(share.shape) for found, share in zip(sums, shares)]


def check_share(batch_size: int, workers: int) -> None:
    """Raises UserError unless every worker gets as many images of a batch as the others."""
    if batch_size % workers:
        raise UserError(
            f"batch_size is {batch_size}, but must be a multiple of the {workers} workers, so that each has the same "
            f"part of a batch: take {max(1, batch_size // workers) * workers}"
        )


def check_blocks(batch_size: int, workers: int) -> None:
    """Raises UserError unless every worker gets as many blocks of a batch, by which maps are normalised, as others."""
    blocks = -(-batch_size // block_width(batch_size))
    if blocks % workers:
        whole = BLOCK * workers
        raise UserError(
            f"batch_size is {batch_size}, but feature maps are normalised by blocks of {block_width(batch_size)} "
            f"images, and each of the {workers} workers must have as many blocks as the others: take "
            f"{max(1, batch_size // whole) * whole}"
        )


def agree(state: TrainState) -> None:
    """Gives every process the network, optimizer state and step of process 0, in place; same topology everywhere."""
    values, adam, kept = state.network.values.detach(), state.optimizer, state.network.statistics
    steps = torch.tensor([state.step, adam.step], device=values.device)
    for tensor in (values, adam.first, adam.second, steps, *([] if kept is None else [kept])):
        dist.broadcast(tensor, src=0)
    state.step, adam.step = (int(step) for step in steps)
