"""The sides of `structnet bench links`: compiled steps, a StructNet under autograd, and dense × mask."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from structnet.compiled.arrays import Images
from structnet.compiled.step import train
from structnet.data.dataset import Split
from structnet.network.network import StructNet
from structnet.network.state import TrainState
from structnet.training.batches import batch_indices, noise_of
from structnet.training.lockstep import Lockstep
from structnet.training.recipe import Recipe

BATCH, LEARNING_RATE = 128, 2e-3
STEPS_IN_A_CALL = 32
ADAMS: dict[str, dict[str, Any]] = {
    "plain": {"foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}

Batch = tuple[torch.Tensor, torch.Tensor]


class CompiledSteps:
    """Our side: a call makes STEPS_IN_A_CALL steps on a batch that lies in the workspace."""

    def __init__(self, network: StructNet, batch: int = BATCH) -> None:
        self.recipe = Recipe(batch)
        self.members = Lockstep.of(TrainState.fresh(network.fork()))
        self.work = self.members.workspace(batch)
        self.work.inputs[:] = np.random.default_rng(0).random(self.work.inputs.shape, dtype=np.float32)
        labels = np.random.default_rng(1).integers(0, network.architecture[-1], batch)
        none, nothing = np.empty(0, dtype=np.float32), np.empty((0, 0), dtype=np.uint8)
        numbers = np.empty((batch, 0), dtype=np.float32)
        # Of no feature that is to be filled in.
        self.images = Images(
            nothing, numbers, none, none, labels, np.empty(0, dtype=np.int64), np.ones(3, dtype=np.int64)
        )
        self.order = np.tile(np.arange(batch), (STEPS_IN_A_CALL, 1))
        self.losses = np.empty((STEPS_IN_A_CALL, 1), dtype=np.float32)

    def __call__(self) -> None:
        """The steps of one call."""
        members = self.members
        train(
            members.plan,
            members.code,
            members.values,
            members.moments,
            members.rules(self.recipe),
            self.images,
            noise_of(self.recipe),
            self.order,
            np.full(STEPS_IN_A_CALL, LEARNING_RATE),
            np.ones(1),
            0,
            members.updates,
            self.work,
            self.losses,
            np.empty((0, 1), dtype=np.float32),
        )
        members.updates += STEPS_IN_A_CALL


class ModuleStep:
    """A StructNet as any torch.nn.Module: autograd and torch.optim.Adam."""

    def __init__(self, network: StructNet, adam: str) -> None:
        self.network = network.fork()
        self.adam = torch.optim.Adam(self.network.parameters(), LEARNING_RATE, **ADAMS[adam])

    def __call__(self, batch: Batch) -> torch.Tensor:
        """One step; returns the loss before it."""
        loss = F.cross_entropy(self.network(batch[0]), batch[1])
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()
        return loss.detach()


class MaskedStep:
    """Their side: full weights × masks, the product's gradient masked by autograd, torch.optim.Adam.

    is_plain: without masks, of a network that is dense.
    """

    def __init__(self, network: StructNet, adam: str, *, is_plain: bool = False) -> None:
        self.is_plain = is_plain
        values, topology = network.values.detach(), network.topology
        self.weights, self.masks, self.biases = [], [], []
        for group in range(1, topology.groups):
            link = network.links[(group - 1, group)]
            self.weights.append(link.dense(values[link.span]).requires_grad_())
            self.masks.append(link.dense(torch.ones_like(values[link.span])))
            self.biases.append(values[network.topology.bias_spans[group]].clone().requires_grad_())
        self.adam = torch.optim.Adam([*self.weights, *self.biases], LEARNING_RATE, **ADAMS[adam])

    def __call__(self, batch: Batch) -> torch.Tensor:
        """One step; returns the loss before it."""
        state, last = batch[0], len(self.weights) - 1
        for layer, (weight, mask, bias) in enumerate(zip(self.weights, self.masks, self.biases)):
            state = F.linear(state, weight if self.is_plain else weight * mask, bias)
            if layer < last:
                state = torch.relu(state)
        loss = F.cross_entropy(state, batch[1])
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()
        return loss.detach()

    def accuracy(self, split: Split) -> float:
        """The share of right answers."""
        with torch.no_grad():
            state = split.images.flatten(1)
            for layer, (weight, mask, bias) in enumerate(zip(self.weights, self.masks, self.biases)):
                state = F.linear(torch.relu(state) if layer else state, weight * mask, bias)
        return float((state.argmax(dim=1) == split.labels).double().mean())


def batch_of_rows(split: Split, batch_size: int, step: int) -> Batch:
    """The batch of Recipe(batch_size) at a step in the layout of dense layers: (batch, inputs) and (batch,)."""
    where = torch.from_numpy(batch_indices(len(split), batch_size, 0, step))
    return split.images.flatten(1).index_select(0, where), split.labels.index_select(0, where)
