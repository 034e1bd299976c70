"""Lockstep: networks of any shapes on a CPU, trained on the same batches by one compiled call for many steps.

Each member is computed from its own small arrays, one after the other, on a batch that is made once. Nothing of a
member depends on the others, so it comes out with the same bits alone and in any company.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
import torch

from structnet.compiled import plan as columns
from structnet.compiled.arrays import Images, Moments, Rules, Workspace
from structnet.compiled.plan import Plan, joined, one_blas_thread
from structnet.data.dataset import Split
from structnet.errors import UserError
from structnet.network.activations import ACTIVATIONS
from structnet.network.state import TrainState
from structnet.network.topology import Topology
from structnet.training import meter
from structnet.training.augmentation import check_augmentation
from structnet.training.batches import batch_indices, images_of, noise_of
from structnet.training.recipe import DECAYS, Recipe

BLOCK = 128  # images that are in the workspace at once; fewer lose more to the walk than they win by fitting caches
STEPS = 256  # of one compiled call


@dataclass(frozen=True)
class Judged:
    """Members on a split: log2 p(label | image), (members, images), and whether answers are right, of the same shape.

    logits: (members, classes, images), if asked for.
    """

    log2_likelihood: np.ndarray
    right: np.ndarray
    logits: np.ndarray | None = None


class Lockstep:
    """Members in training. values, moments: those of all, one after the other; they are trained in place.

    Make one by `of` or `together`, or where there may be feature maps by structnet.training.members.
    """

    def __init__(
        self, like: TrainState, topologies: Sequence[Topology], values: np.ndarray, moments: Moments
    ) -> None:
        self._like, self.topologies = like, list(topologies)
        self.values, self.moments = values, moments
        self.updates = like.optimizer.step

    @cached_property
    def plan(self) -> Plan:
        """All members as compiled functions walk through them."""
        return joined([topology.plan for topology in self.topologies])

    @classmethod
    def of(cls, state: TrainState) -> Lockstep:
        """A network alone; what is trained is the state itself."""
        adam = state.optimizer
        moments = Moments(adam.first.numpy(), adam.second.numpy(), state.born)
        return cls(state, [state.network.topology], state.network.values.detach().numpy(), moments)

    @classmethod
    def together(cls, states: Sequence[TrainState]) -> Lockstep:
        """Several networks, copied."""
        members = [cls.of(state) for state in states]
        return cls(
            states[0],
            [state.network.topology for state in states],
            np.concatenate([member.values for member in members]),
            Moments(*(np.concatenate(parts) for parts in zip(*(member.moments for member in members)))),
        )

    def __len__(self) -> int:
        return len(self.topologies)

    @cached_property
    def spans(self) -> list[slice]:
        """Where the parameters of each member lie."""
        first = self.plan.members[:, columns.FIRST_PARAMETER].tolist()
        return [slice(start, stop) for start, stop in pairwise(first)]

    def train(
        self,
        split: Split,
        recipe: Recipe,
        steps: int,
        rate: Callable[[int], float],
        step: int,
        *,
        shares: np.ndarray | None = None,
        decays: np.ndarray | None = None,
        with_norms: bool = False,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Trains all members for so many steps from this one of the line on.

        rate: step -> learning rate, times shares, (members,). decays: (members,), in the place of the recipe's
        weight_decay. Returns the mean cross-entropies in nats and, if asked
        for, the lengths of the gradients, both (members, steps) and before L1.
        """
        check_augmentation(recipe.shift, recipe.flip, split.shape)
        kind = self.values.dtype
        losses = np.empty((steps, len(self)), dtype=kind)
        norms = np.empty((steps if with_norms else 0, len(self)), dtype=kind)
        images, noise, rules = self.images(split), noise_of(recipe), self.rules(recipe, decays)
        batch = min(recipe.batch_size, len(split))
        work = self.workspace(batch)
        shares = np.ones(len(self)) if shares is None else np.asarray(shares, dtype=np.float64)
        for begin in range(0, steps, STEPS):
            here = range(step + begin, step + min(steps, begin + STEPS))
            order = np.stack(
                [batch_indices(len(split), recipe.batch_size, recipe.rng_seed, now) for now in here]
            )
            rates = np.array([rate(now) for now in here], dtype=np.float64)
            told = rules, images, noise, order, rates, shares, here.start, self.updates
            self._train(*told, work, losses[begin:], norms[begin:])
            self.updates += len(here)
        meter.count(self.topologies, steps * batch)
        return losses.T, norms.T

    def _train(self, *told: Any) -> None:
        """told: of structnet.compiled.step.train, what comes behind the moments."""
        from structnet.compiled.step import train

        with one_blas_thread(self.plan):
            train(self.plan, self.code, self.values, self.moments, *told)

    def gradient_of_part(
        self, split: Split, recipe: Recipe, step: int, part: slice
    ) -> tuple[float, np.ndarray]:
        """Of a network alone: the share of these images in loss and gradient of the batch of a step."""
        from structnet.compiled.shares import gradient_of_part

        order = batch_indices(len(split), recipe.batch_size, recipe.rng_seed, step)
        work = self.workspace(max(1, part.stop - part.start))
        work = work._replace(gradient=np.empty_like(self.values))
        with one_blas_thread(self.plan):
            loss = gradient_of_part(
                self.plan,
                self.code,
                self.values,
                self.images(split),
                noise_of(recipe),
                order,
                part.start,
                part.stop,
                step,
                work,
            )
        return loss, work.gradient

    def apply_gradient(self, gradient: np.ndarray, recipe: Recipe, rate: float, step: int) -> None:
        """Of a network alone: one update."""
        from structnet.compiled.shares import apply_gradient

        rules = self.rules(recipe)
        apply_gradient(self.plan, self.values, gradient, self.moments, rules, rate, step, self.updates)
        self.updates += 1

    def judge(self, split: Split, *, with_logits: bool = False) -> Judged:
        """All members on every image of a split."""
        images, kind = len(split), self.values.dtype
        classes = self.topologies[0].architecture[-1]
        log2_likelihood = np.empty((len(self), images))
        right = np.empty((len(self), images), dtype=bool)
        logits = np.empty((len(self), classes, images if with_logits else 0), dtype=kind)
        self._judge(self.images(split), self.workspace(images), log2_likelihood, right, logits)
        return Judged(log2_likelihood, right, logits if with_logits else None)

    def _judge(self, *told: Any) -> None:
        """told: of structnet.compiled.step.judge, what comes behind the values."""
        from structnet.compiled.step import judge

        with one_blas_thread(self.plan):
            judge(self.plan, self.code, self.values, *told)

    def undoing(self) -> Callable[[], None]:
        """A function that puts back all that training changes as it is now."""
        updates, changed = self.updates, self._changed()
        kept = [array.copy() for array in changed]

        def put_back() -> None:
            self.updates = updates
            for array, before in zip(changed, kept):
                array[:] = before

        return put_back

    def _changed(self) -> tuple[np.ndarray, ...]:
        """All that training changes."""
        return self.values, self.moments.first, self.moments.second

    def diverged(self) -> np.ndarray:
        """(members,) booleans: some parameter is not finite."""
        return np.array([not np.isfinite(self.values[span]).all() for span in self.spans])

    def take(self, member: int, step: int) -> TrainState:
        """A member as a state of its own, at this step."""
        span, like = self.spans[member], self._like
        values, first, second = (
            torch.from_numpy(array[span].copy())
            for array in (self.values, self.moments.first, self.moments.second)
        )
        optimizer = replace(like.optimizer, first=first, second=second, step=self.updates)
        network = like.network.like(self.topologies[member], values, self._statistics_of(member))
        return TrainState(network, optimizer, step, self.moments.born[span].copy())

    def _statistics_of(self, member: int) -> np.ndarray | None:
        """A copy of what the maps of a member were on average; None where nothing is normalised."""
        return None

    @property
    def code(self) -> int:
        """Of the activation, in compiled functions."""
        return ACTIVATIONS[self._like.network.activation].code

    def images(self, split: Split) -> Images:
        """A split as compiled batches take it: of its features those that some member reads.

        Raises UserError if it does not fit: compiled loops would read and write beside their arrays.
        """
        architecture = self.topologies[0].architecture
        check_fit(split, architecture.inputs, architecture[-1])
        return images_of(split, self._read_features(), self.values.dtype)

    def _read_features(self) -> np.ndarray:
        """The features that some member reads, ascending."""
        inputs = self.topologies[0].architecture[0]
        read = np.zeros(inputs, dtype=bool)
        for topology in self.topologies:
            read[topology.source[topology.source < inputs]] = True
        return np.flatnonzero(read)

    def rules(self, recipe: Recipe, decays: np.ndarray | None = None) -> Rules:
        """How a step updates values; decays: as `train` takes them."""
        adam = self._like.optimizer
        rise = np.empty(0, dtype=np.float32) if recipe.rates is None else recipe.rates.table()
        options = adam.beta1, adam.beta2, adam.epsilon
        momentum = -1.0 if recipe.momentum is None else recipe.momentum
        decays = np.full(len(self), recipe.weight_decay) if decays is None else np.asarray(decays, np.float64)
        return Rules(recipe.l1, decays, *options, rise, momentum, DECAYS.index(recipe.decay))

    def workspace(self, batch: int) -> Any:
        """For batches of so many images."""
        inputs = self.topologies[0].architecture[0]
        return workspace_for(self.plan, self.code, inputs, batch, self.values.dtype)


def check_fit(split: Split, inputs: int, classes: int) -> None:
    """Raises UserError unless a network of so many inputs and classes can be trained and judged on the split."""
    features = prod(split.shape)
    if features != inputs:
        raise UserError(
            f"the images have {features} numbers each, but the network has {inputs} inputs: give a network with "
            f"{features}, or the dataset that it was made for"
        )
    least, greatest = split.label_range
    if least < 0 or greatest >= classes:
        raise UserError(
            f"the labels go from {least} to {greatest}, but the network has {classes} classes: number them from 0 to "
            f"{classes - 1}, or give a network with more outputs"
        )


def workspace_for(plan: Plan, code: int, features: int, batch: int, kind: np.dtype) -> Workspace:
    """For batches of so many images, in blocks of equal width but for the last; code: of the activation."""
    width = -(-batch // -(-batch // BLOCK))
    parameters = plan.members[:, columns.FIRST_PARAMETER]
    gradient = parameters[-1] if batch > width else np.diff(parameters).max()
    return Workspace(
        np.zeros((features, width), dtype=kind),
        np.zeros((plan.state_rows(code), width), dtype=kind),
        np.zeros((plan.rows, width), dtype=kind),
        np.zeros(plan.cells, dtype=kind),
        np.zeros(gradient, dtype=kind),
    )
