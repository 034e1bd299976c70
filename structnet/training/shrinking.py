"""The final phase of a network's growth: overshoot, move, prune, anneal.

While the learning rate falls, the network first grows the connections it has the credits for, at random; then
those of least worth are pruned on a cubic schedule (Zhu & Gupta 2017) until it is within its limit, and a share
of the others is moved to where the gradient is largest (Evci et al. 2020, RigL), less and less of them. Worth
is w²·√v, with v Adam's second moment: a free diagonal of the Fisher information. A unit that has lost its
last way in or out may get a new one by a later move; when the moves end, those that did not are folded away.

The fewer connections a unit has, the larger the steps that it can take (Dey et al. 2024, SμPar: a rate in inverse
proportion to density for Adam). The learning rate is that of the peak and rises with the root of what has been pruned.
MNIST, validation, 5 rng_seeds: the tournament of 4,000 parameters reaches 98.32 ± 0.06 % with it and 98.18 ± 0.15 %
without; 0.006 at a dense start of 266,610 becomes too much, and 0.003 is as good as 0.006 without the rise.

Connections that grow only to be pruned are exploration. MNIST, 20 epochs, validation, 5 rng_seeds: 4,000
parameters shrunk from 16,000 reach 97.99 %, from as many placed by gradient 97.88 %, and 97.55 % where a seed of
4,000 is only moved for as many steps - which costs fewer parameter-steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from structnet.data.dataset import Split
from structnet.errors import UserError
from structnet.measure.diagnosis import diagnose_inputs
from structnet.measure.size import multiply_adds, positions_used, stored_bytes
from structnet.network.edit import Edit, connect, disconnect, fold, unchanged
from structnet.network.network import StructNet
from structnet.network.normalisation import scales
from structnet.network.random_topology import random_absent_everywhere
from structnet.network.state import TrainState
from structnet.seeds import stream
from structnet.training.batches import batch_indices, images_for_gradients, sample_inputs
from structnet.training.loop import train_steps
from structnet.training.recipe import Recipe

FEWEST_CHANGES = 20
CROWDED = 1 / 3  # share of the parameters that biases may be before idle units are folded at once


@dataclass(frozen=True)
class Shrinking:
    """When and how far a network shrinks: `start` and `stop` are steps of its line, sizes are parameters.

    size: at the start. peak: what it grows to by `grown_until`, a share of the phase. limit: what it has
    shrunk to by `pruned_until`; a limit above size and peak changes nothing. move_share: share of connections
    moved in `interval` steps at the beginning, falling along a cosine to 0 at pruned_until. interval: most steps
    between two changes. images: training images that the gradient of absent connections is taken from. placed:
    where connections grow on the way to the peak, at `random` places or by `gradient`. limit_bytes: what the network
    may take in its smallest form once all is pruned, if that is less. limit_macs: multiply-adds of an image that it may
    have then, likewise.
    """

    start: int
    stop: int
    size: int
    peak: int
    limit: int
    grown_until: float = 0.15
    pruned_until: float = 0.7
    move_share: float = 0.3
    interval: int = 50
    images: int = 1024
    placed: str = "random"
    limit_bytes: int | None = None
    limit_macs: int | None = None

    @property
    def every(self) -> int:
        """Steps between two changes: `interval`, or fewer where the phase has no room for 20 of them."""
        return min(self.interval, max(1, (self.stop - self.start) // FEWEST_CHANGES))

    def target(self, step: int) -> int:
        """Parameters the network should have at this step: the limit, at the last change at the latest."""
        progress, top = self._progress(step), max(self.size, self.peak)
        least = min(self.limit, top)
        if self.is_last(step):
            return least
        if self.grows(step):
            return self.size + round((self.peak - self.size) * progress / self.grown_until)
        begin = self.grown_until if self.peak > self.size else 0.0
        done = min(1.0, (progress - begin) / (self.pruned_until - begin))
        return least + round((top - least) * (1 - done) ** 3)

    def is_last(self, step: int) -> bool:
        """Whether a change at this step is the last."""
        return step + self.every >= self.stop

    def macs(self, step: int) -> int | None:
        """Multiply-adds of an image that it may have at this step: as many times the limit as it has parameters.

        None for any number, as while connections grow.
        """
        if self.limit_macs is None or (self.grows(step) and not self.is_last(step)):
            return None
        return self.limit_macs * self.target(step) // self.target(self.stop)

    @property
    def mean_parameters(self) -> float:
        """The parameter count averaged over all steps, as planned: what a step of the phase costs."""
        steps = range(self.start, self.stop, self.every)
        return sum(map(self.target, steps)) / max(1, len(steps))

    def moves(self, step: int) -> float:
        """Share of connections to move at this step: none while connections still grow."""
        if self.grows(step):
            return 0.0
        done = min(1.0, self._progress(step) / self.pruned_until)
        return self.move_share * self.every / self.interval * 0.5 * (1 + math.cos(math.pi * done))

    def grows(self, step: int) -> bool:
        """Whether connections still grow on the way to the peak."""
        return self.peak > self.size and self.may_grow(step)

    def may_grow(self, step: int) -> bool:
        """Whether the time for growing has not passed yet."""
        return self._progress(step) < self.grown_until

    def pace(self, step: int) -> float:
        """Factor of the learning rate at this step: 1 at the peak, and more the fewer parameters are left."""
        changed = step - (step - self.start) % self.every
        if self.grows(changed):
            return 1.0
        return math.sqrt(max(self.size, self.peak) / max(1, self.target(changed)))

    def folds(self, step: int) -> bool:
        """Whether units without a way in or out have no move to wait for any more."""
        return self._progress(step) >= self.pruned_until or self.is_last(step)

    def _progress(self, step: int) -> float:
        return min(1.0, max(0.0, (step - self.start) / max(1, self.stop - self.start)))


def worth(state: TrainState) -> np.ndarray:
    """(connections,) w²·√v of each connection: about what the loss would rise by without it, up to scale.

    Before the first step there is no v, and it is w². Taps into maps that are normalised count as those of the folded
    network, whatever their own scale: that of their map says nothing.
    """
    connections = state.network.connection_count
    values = state.network.values.detach()[:connections]
    worth = values.square()
    if state.optimizer.step:
        worth *= state.optimizer.second[:connections].sqrt()
    if state.network.statistics is not None:
        worth *= scales(state.network)[0][:connections]
    return worth.cpu().numpy()


def shrink_steps(
    state: TrainState,
    split: Split,
    recipe: Recipe,
    steps: int,
    learning_rate: Callable[[int], float],
    shrinking: Shrinking,
    ranked: Callable[[TrainState], np.ndarray] = worth,
) -> tuple[TrainState, torch.Tensor]:
    """Trains for so many steps, moving and pruning on the way; returns the new state and the losses.

    The given state is used up: go on with the one returned. Changes fall on fixed steps of the line, so
    cutting a phase into several calls changes nothing. learning_rate: by the step of the line, at the peak (see
    Shrinking.pace). ranked: (connections,) what is pruned first, the least first. Raises UserError for a limit that
    no network with these outputs can meet, Diverged if training does.
    """
    smallest = state.network.architecture[-1] + 1
    if shrinking.limit < smallest:
        raise UserError(
            f"the limit is {shrinking.limit} parameters, but must be at least {smallest}: every output has a "
            "bias, and one connection is left"
        )

    def paced(step: int) -> float:
        return shrinking.pace(step) * learning_rate(step)

    losses = []
    end = state.step + steps
    while state.step < end:
        since = (state.step - shrinking.start) % shrinking.every
        if since == 0:
            state = _change(state, split, recipe, shrinking, ranked)
        here = min(end - state.step, shrinking.every - since)
        losses.append(train_steps(state, split, recipe, here, paced))
    return state, torch.cat(losses) if losses else state.network.values.new_empty(0)


def _change(
    state: TrainState,
    split: Split,
    recipe: Recipe,
    shrinking: Shrinking,
    ranked: Callable[[TrainState], np.ndarray],
) -> TrainState:
    network, target, macs = state.network, shrinking.target(state.step), shrinking.macs(state.step)
    limit_bytes = shrinking.limit_bytes if shrinking.folds(state.step) else None
    if limit_bytes is not None:
        target = min(target, _fitting(network, limit_bytes))
    edit = _with_more(state, split, recipe, shrinking, target, macs)
    # Fewer may have been found than were wanted, so what is pruned follows from what is there now.
    excess = max(0, edit.network.parameter_count - target)
    too_dear = 0 if macs is None else multiply_adds(edit.network.topology) - macs
    if excess or too_dear > 0:
        # Least worth among what was there before: new connections have had no time to be worth anything.
        weakest = _weakest(ranked(state), positions_used(network.topology), excess, too_dear)
        edit = edit.then(disconnect(edit.network, np.flatnonzero(np.isin(edit.origin, weakest))))
    state = _within(state.edited(edit), target, ranked)
    while macs is not None and (too_dear := multiply_adds(state.network.topology) - macs) > 0:
        # All that was there before is gone, and what has come is too dear by itself, with the means that it reads.
        gone = _weakest(ranked(state), positions_used(state.network.topology), 0, too_dear)
        state = state.edited(disconnect(state.network, gone))
    # Not before the moves have ended, as a unit may get a new way in or out - unless there are so many biases
    # that idle units would crowd out the last connections of the others.
    if shrinking.folds(state.step) or state.network.topology.bias_count > CROWDED * target:
        state = state.edited(fold(state.network))
    while limit_bytes is not None and stored_bytes(state.network.topology) > limit_bytes:
        fitting = _fitting(state.network, limit_bytes)
        state = _within(state, min(fitting, state.network.parameter_count - 1), ranked)
    return state


def _with_more(
    state: TrainState,
    split: Split,
    recipe: Recipe,
    shrinking: Shrinking,
    target: int,
    macs: int | None,
) -> Edit:
    """With as many connections more as are to move, and as the target and the multiply-adds leave room for."""
    network = state.network
    # Before the first step it is too early to say what is worth least, unless it has to go.
    moved = round(shrinking.moves(state.step) * network.connection_count) if state.optimizer.step else 0
    room = target if macs is None else min(target, _affordable(network, macs))
    wanted = moved + max(0, room - network.parameter_count)
    if not wanted:
        return unchanged(network)
    if shrinking.grows(state.step) and shrinking.placed == "random":
        rng = stream(recipe.rng_seed, "explore", state.step)
        return connect(network, *random_absent_everywhere(network.topology, wanted, rng))
    # Beside what is moved, this grows back what folding has freed.
    left = None
    if macs is not None:
        # What moves has about as many multiply-adds as it is of all, so that it does not drive out what stays.
        share = moved / max(1, network.connection_count)
        left = max(0, macs - multiply_adds(network.topology)) + int(share * macs)
    return connect(network, *_wanted(state, split, recipe, shrinking, wanted, left))


def _weakest(worth: np.ndarray, positions: np.ndarray, excess: int, too_dear: int) -> np.ndarray:
    """The connections of least worth: so many, and then those of least worth for their multiply-adds.

    worth, positions: (connections,), positions: at which each is used. too_dear: multiply-adds that have to go with all
    of these, which is none where it is not above 0.
    """
    order = np.argsort(worth, kind="stable")
    gone, left = order[:excess], order[excess:]
    too_dear -= int(positions[gone].sum())
    if too_dear <= 0:
        return gone
    left = left[np.argsort(worth[left] / positions[left], kind="stable")]
    saved = np.cumsum(positions[left])
    return np.concatenate([gone, left[: int(np.searchsorted(saved, too_dear)) + 1]])


def _affordable(network: StructNet, macs: int) -> int:
    """Parameters of which about so many multiply-adds come, if each has what it has now."""
    return network.parameter_count * macs // max(1, multiply_adds(network.topology))


def _fitting(network: StructNet, limit_bytes: int) -> int:
    """Parameters of which about so many bytes are taken, if each takes what it does now."""
    return max(
        network.architecture[-1] + 1,
        network.parameter_count * limit_bytes // stored_bytes(network.topology),
    )


def _wanted(
    state: TrainState, split: Split, recipe: Recipe, shrinking: Shrinking, count: int, macs: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Absent connections of the largest gradient, over all links together, at most so many of them.

    macs: multiply-adds that all of them may have; where they would have more, those of the largest gradient for theirs.
    The gradient is that of a set of training images fixed by rng_seed and step.
    """
    shape = state.network.topology.architecture
    images = min(images_for_gradients(shape, shrinking.images), len(split))
    positions = batch_indices(len(split), images, recipe.rng_seed, state.step)
    diagnosis = diagnose_inputs(state.network, *sample_inputs(split, positions, state.network.values.dtype))
    found = [diagnosis.absent(*pair, count) for pair in _pairs(state.network)]
    source, target, gradient = (np.concatenate(part) for part in zip(*found))
    size, used = np.abs(gradient), positions_used(state.network.topology, target)
    best = np.argsort(-size, kind="stable")[:count]
    if macs is not None and used[best].sum() > macs:
        best = np.argsort(-size / used, kind="stable")[:count]
        best = best[np.cumsum(used[best]) <= macs]
    return source[best], target[best]


def _pairs(network: StructNet) -> list[tuple[int, int]]:
    """The links, or input to output where the last connection is gone."""
    return list(network.topology.links) or [(0, network.topology.groups - 1)]


def _within(state: TrainState, limit: int, ranked: Callable[[TrainState], np.ndarray]) -> TrainState:
    """Folds, then prunes, what is above the limit although all that there was before has been pruned."""
    while state.network.parameter_count > limit:
        state = state.edited(fold(state.network))
        excess = max(0, state.network.parameter_count - limit)
        state = state.edited(disconnect(state.network, np.argsort(ranked(state), kind="stable")[:excess]))
    return state
