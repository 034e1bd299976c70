"""Training on tensors in memory: batches, steps, learning rates and evaluation.

Everything random here is a function of (rng_seed, step): the batch of step 731 is the same whether a run gets
there in one go, after a resume, or inside a fork on another worker. So forks that train "for the same steps"
see the same images with the same noise, and a snapshot needs no generator state.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from structnet.data.dataset import Split
from structnet.errors import UserError
from structnet.measure.information import log2_of_labels
from structnet.network.network import StructNet, backpropagate, flatten, propagate
from structnet.network.optimizer import Adam
from structnet.network.state import TrainState
from structnet.seeds import seed_sequence, torch_seed
from structnet.training.augmentation import dropped, shifted
from structnet.training.rates import AgeRates, scaled_step

DIAGNOSIS_IMAGES = 2048  # enough for steady shares of saturated and dead units


class Diverged(ArithmeticError):
    """The loss or a parameter is no longer finite."""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained, apart from its length and learning rate.

    l1: weight of the sum of absolute connection values in the loss (biases are free). input_dropout: share of
    inputs set to zero, the others scaled up. shift: images are moved by up to this many pixels each way.
    rates: learning rates by age of a parameter; None for one rate. weight_decay: share of its value that a
    connection loses in a step, per unit of learning rate (decoupled, so not a part of the gradient; biases are
    free).
    """

    batch_size: int = 128
    l1: float = 0.0
    input_dropout: float = 0.0
    shift: int = 0
    rates: AgeRates | None = None
    rng_seed: int = 0
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UserError(f"batch_size is {self.batch_size}, but must be at least 1")
        if not 0 <= self.input_dropout < 1:
            raise UserError(f"input_dropout is {self.input_dropout}, but must be in [0, 1): it is a share")
        if self.l1 < 0 or self.shift < 0:
            raise UserError(f"l1 is {self.l1} and shift {self.shift}, but neither may be negative")
        if not 0 <= self.weight_decay < math.inf:
            raise UserError(
                f"weight_decay is {self.weight_decay}, but must be at least 0: it is the shrinkage of a connection "
                "per step and unit of learning rate"
            )


def recipe_of(options: Mapping[str, Any], **more: Any) -> Recipe:
    """The recipe that options of these names ask for.

    more: its other fields. Raises UserError for values that cannot be.
    """
    return Recipe(options["batch_size"], options["l1"], options["input_dropout"], options["shift"], **more)


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Whole batches in one pass; at least one."""
    return max(1, images // batch_size)


def batch_indices(images: int, batch_size: int, rng_seed: int, step: int) -> np.ndarray:
    """(batch,) positions of the training images of one step: a fresh order every epoch, no image twice in it."""
    per_epoch = steps_per_epoch(images, batch_size)
    order = _epoch_order(images, rng_seed, step // per_epoch)
    start = (step % per_epoch) * batch_size
    return order[start : start + batch_size]


def diagnosis_sample(split: Split, rng_seed: int, step: int, images: int = DIAGNOSIS_IMAGES) -> Split:
    """The training images to diagnose a network on at a step: what a batch of so many, or of all, would be there."""
    return split.at(batch_indices(len(split), min(images, len(split)), rng_seed, step))


@lru_cache(maxsize=8)
def _epoch_order(images: int, rng_seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng(seed_sequence(rng_seed, "batches", epoch)).permutation(images)


def training_batch(split: Split, recipe: Recipe, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The inputs, (features, batch), and labels, (batch,), of one step, with augmentation and dropout."""
    indices = batch_indices(len(split), recipe.batch_size, recipe.rng_seed, step)
    where = torch.from_numpy(indices).to(split.labels.device)
    images = _rows(split.images, where)
    if recipe.shift or recipe.input_dropout:
        noise = torch.Generator(images.device).manual_seed(torch_seed(recipe.rng_seed, "noise", step))
        if recipe.shift:
            images = shifted(images, recipe.shift, noise)
        if recipe.input_dropout:
            images = dropped(images, recipe.input_dropout, noise)
    return flatten(images, images.dtype), split.labels.index_select(0, where)


def _rows(images: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """The images at these positions; flattened first, as torch copies whole rows faster."""
    if not images.is_contiguous():
        return images[where]
    flat = images.view(len(images), -1)
    return flat.index_select(0, where).view(len(where), *images.shape[1:])


def loss_and_gradient(
    network: StructNet, values: torch.Tensor, inputs: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean cross-entropy in nats, and its gradient by the flat vector. inputs: (features, batch)."""
    losses, gradient = losses_and_gradient(network, values, inputs, labels, 1)
    return losses[0], gradient


GradientOf = Callable[
    [StructNet, torch.Tensor, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]
]


def losses_and_gradient(
    network: StructNet, values: torch.Tensor, inputs: torch.Tensor, labels: torch.Tensor, members: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """As `loss_and_gradient`, of so many networks that lie side by side in one: (members,) losses."""
    activations = propagate(network, values, inputs)
    logits = activations[-1]
    log_probability = torch.log_softmax(logits.view(members, -1, len(labels)), dim=1)
    true_class = labels.expand(members, 1, -1)
    losses = log_probability.gather(1, true_class).sum(dim=(1, 2)).div_(-len(labels))
    error = log_probability.exp_()
    error.scatter_add_(1, true_class, error.new_full((1, 1, 1), -1.0).expand(true_class.shape))
    error = error.div_(len(labels)).view(logits.shape)
    return losses, backpropagate(network, values, activations, error)[0]


def update(
    optimizer: Adam,
    values: torch.Tensor,
    gradient: torch.Tensor,
    recipe: Recipe,
    learning_rate: float | torch.Tensor,
    *,
    connections: int,
    age: torch.Tensor | None = None,
    owner: torch.Tensor | None = None,
) -> None:
    """One step of the optimizer on a flat vector that begins with so many connections, in place.

    learning_rate, owner: as in Adam.update. age: (parameters,) steps since each came to be,
    which recipe.rates needs: they scale the whole step, what decays included.
    """
    if recipe.l1:
        gradient[:connections].add_(values[:connections].sign(), alpha=recipe.l1)
    scale = recipe.rates.scale(age) if recipe.rates is not None and age is not None else None
    before = values if scale is None else values.clone()
    if recipe.weight_decay:
        _decay(values[:connections], recipe.weight_decay, learning_rate, owner)
    optimizer.update(values, gradient, learning_rate, owner)
    if scale is not None:
        values.copy_(scaled_step(before, values, scale))


def _decay(
    connections: torch.Tensor,
    weight_decay: float,
    learning_rate: float | torch.Tensor,
    owner: torch.Tensor | None,
) -> None:
    """Decoupled weight decay (Loshchilov & Hutter 2019), in place, of the values of the connections.

    What does not exist has no value to decay, so nothing else is needed for sparse links.
    """
    kept = 1 - learning_rate * weight_decay
    if isinstance(kept, torch.Tensor):
        assert owner is not None
        # Rounded before the product, as torch rounds a plain number: a rate of one's own changes no bit.
        kept = kept.to(connections.dtype)[owner[: len(connections)]]
    connections.mul_(kept)


def train_steps(
    state: TrainState,
    split: Split,
    recipe: Recipe,
    steps: int,
    learning_rate: Callable[[int], float],
    *,
    norms: torch.Tensor | None = None,
    gradient_of: GradientOf = loss_and_gradient,
) -> torch.Tensor:
    """Trains in place for so many steps and returns their losses, (steps,), in nats, before L1.

    learning_rate: step along the line -> rate. gradient_of: how a batch becomes a loss and a gradient. norms: (steps,)
    is filled with the Euclidean norm of the gradient of every step, before L1. Raises Diverged when a loss or a
    parameter is not finite.
    """
    network, connections = state.network, state.network.connection_count
    values = network.values.detach()
    born = torch.from_numpy(state.born).to(values.device)
    losses = torch.empty(steps, device=values.device)
    for index in range(steps):
        inputs, labels = training_batch(split, recipe, state.step)
        losses[index], gradient = gradient_of(network, values, inputs, labels)
        if norms is not None:
            norms[index] = torch.linalg.vector_norm(gradient)
        age = state.step - born if recipe.rates else None
        rate = learning_rate(state.step)
        update(state.optimizer, values, gradient, recipe, rate, connections=connections, age=age)
        state.step += 1
    if not (torch.isfinite(losses).all() and torch.isfinite(values).all()):
        raise Diverged(f"training diverged within {steps} steps of step {state.step}")
    return losses


def constant(rate: float) -> Callable[[int], float]:
    """One learning rate for all steps."""
    return lambda step: rate


def cosine(rate: float, start: int, stop: int, *, floor: float = 0.0) -> Callable[[int], float]:
    """From `rate` at step `start` along half a cosine to `floor` × rate at `stop` (Loshchilov & Hutter 2017)."""

    def at(step: int) -> float:
        progress = min(1.0, max(0.0, (step - start) / max(1, stop - start)))
        return rate * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress)))

    return at


SCHEDULES = {"cosine": cosine, "constant": lambda rate, start, stop: constant(rate)}


@dataclass(frozen=True)
class Evaluation:
    """loss: mean cross-entropy in nats. accuracy: share in [0, 1]. log2_likelihood: (images,) float64.

    features: (images, units) of the groups that feed the output, and logits: (classes, images), if asked for.
    """

    loss: float
    accuracy: float
    log2_likelihood: np.ndarray
    features: np.ndarray | None = None
    logits: torch.Tensor | None = None


def evaluate(
    network: StructNet,
    split: Split,
    *,
    block: int = 2000,
    with_features: bool = False,
    with_logits: bool = False,
) -> Evaluation:
    """The network on every image of a split, without gradient, in blocks of so many images."""
    values = network.values.detach()
    feeding = sorted(link.pair[0] for link in network.incoming[-1] if link.pair[0] > 0)
    bits, right, features, kept = [], 0, [], []
    for start in range(0, len(split), block):
        labels = split.labels[start : start + block]
        activations = propagate(network, values, columns(split, start, start + block))
        logits = activations[-1]
        bits.append(log2_of_labels(logits, labels))
        right += int((logits.argmax(dim=0) == labels).sum())
        if with_logits:
            kept.append(logits)
        if with_features and feeding:
            features.append(torch.cat([activations[group] for group in feeding]).t())
    joined = torch.cat(bits).cpu().numpy()
    return Evaluation(
        loss=float(-joined.mean() * math.log(2)),
        accuracy=right / len(split),
        log2_likelihood=joined,
        features=torch.cat(features).cpu().numpy() if features else None,
        logits=torch.cat(kept, dim=1) if kept else None,
    )


_COLUMNS: dict[tuple[Any, ...], tuple[torch.Tensor, torch.Tensor]] = {}


def columns(split: Split, start: int, stop: int) -> torch.Tensor:
    """Images start … stop as (features, block); kept for the last few splits.

    A tournament evaluates hundreds of networks on one validation set, and turning 6,000 images around costs
    more than pushing them through a sparse network. The images are held too, so an address is never reused;
    views that start at the same address differ in shape or strides.
    """
    images = split.images
    key = (images.data_ptr(), images.shape, images.stride(), start, stop)
    if key not in _COLUMNS:
        if len(_COLUMNS) >= 16:
            _COLUMNS.pop(next(iter(_COLUMNS)))
        _COLUMNS[key] = images, flatten(images[start:stop], images.dtype)
    return _COLUMNS[key][1]


def chance_accuracy(labels: torch.Tensor, classes: int) -> float:
    """Share of the commonest class."""
    return float(torch.bincount(labels, minlength=classes).max()) / max(1, len(labels))
