"""Training one network on several processes: each takes a share of every batch, and the gradients are averaged.

The processes are those of a `torch.distributed` group (gloo on CPUs, NCCL on GPUs). All hold the whole network. As
its values lie in one flat vector that has connections that exist and nothing else, one all-reduce a step is what
there is to send: what DistributedDataParallel does in buckets, without its hooks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist

from structnet.errors import UserError
from structnet.network.network import StructNet
from structnet.network.state import TrainState
from structnet.training.loop import loss_and_gradient


@dataclass(frozen=True)
class Share:
    """The part of every batch that falls to process `rank` of so many `workers`."""

    rank: int
    workers: int

    def gradient(
        self, network: StructNet, values: torch.Tensor, inputs: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As structnet.training.loop.loss_and_gradient of the whole batch, of which this process computes its part.

        Every process has to call it in the same step, and gets the same bits back.
        """
        part = len(labels) // self.workers
        mine = slice(self.rank * part, (self.rank + 1) * part)
        loss, gradient = loss_and_gradient(network, values, inputs[:, mine].contiguous(), labels[mine])
        mean = torch.cat([gradient, loss.reshape(1)])
        dist.all_reduce(mean)
        mean /= self.workers
        return mean[-1], mean[:-1]


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
