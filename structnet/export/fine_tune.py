"""Integers for a network: quantised after training and, where that loses too much, by a short training that keeps them.

In that training float values are moved by the gradient at the values that the integers stand for, as if rounding were
the identity (straight-through: Bengio et al. 2013; quantisation-aware training: Jacob et al. 2018). Validation decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

from structnet.data.dataset import Dataset, Split
from structnet.export.checking import OnPart, in_silence
from structnet.export.int8 import quantised, ranges_of, with_ranges
from structnet.export.int8_network import BLOCK, IntegerNetwork
from structnet.export.model import Model
from structnet.network.network import StructNet
from structnet.network.optimizer import Adam
from structnet.network.propagation import backpropagate, propagate
from structnet.training.batches import batch_indices, diagnosis_sample, sample_inputs
from structnet.training.evaluation import evaluate
from structnet.training.schedules import SCHEDULES

CALIBRATION_IMAGES = 4096
MOST_LOST = 1e-3  # of accuracy on validation, before integers are trained
STEPS = 1000
STEPS_PER_LOOK = 50
BATCH_SIZE = 128
LEARNING_RATE = 5e-4


class Report(NamedTuple):
    """Accuracy on validation: of the network, of its integers as rounded, and after training if there was any."""

    exact: float
    rounded: float
    trained: float | None

    @property
    def accuracy(self) -> float:
        """Of the integers that are exported."""
        return self.rounded if self.trained is None else self.trained

    def __str__(self) -> str:
        then = (
            "" if self.trained is None else f", and {self.trained:.2%} after {STEPS:,} steps of training them"
        )
        return f"On validation: {self.exact:.2%} in float32, {self.rounded:.2%} in int8 as rounded{then}."


def integers_for(
    model: Model, data: Dataset, *, on_part: OnPart = in_silence
) -> tuple[IntegerNetwork, Report]:
    """The integers of a model whose network was trained on this data, and what they lose on validation.

    They are trained where rounding alone loses more than 0.1 points; on_part is told how many steps are done. Raises
    UserError for values that are not finite.
    """
    rounded = quantised(model, _calibration(data.train))
    exact, found = evaluate(model.network, data.validation).accuracy, judged(rounded, data.validation)
    if exact - found.accuracy <= MOST_LOST:
        return rounded, Report(exact, found.accuracy, None)
    trained = fine_tuned(model, data, rounded, on_part=on_part)
    return trained, Report(exact, found.accuracy, judged(trained, data.validation).accuracy)


def fine_tuned(
    model: Model,
    data: Dataset,
    rounded: IntegerNetwork,
    *,
    steps: int = STEPS,
    on_part: OnPart = in_silence,
) -> IntegerNetwork:
    """What is best on validation of integers and of those that training them passes."""
    best, found = rounded, judged(rounded, data.validation)
    for look, integers in enumerate(_passed(model, data.train, steps), start=1):
        on_part(look * STEPS_PER_LOOK, steps)
        now = judged(integers, data.validation)
        if (now.accuracy, -now.loss) > (found.accuracy, -found.loss):
            best, found = integers, now
    return best


class Judged(NamedTuple):
    """accuracy: share in [0, 1]. loss: mean cross-entropy in nats."""

    accuracy: float
    loss: float


def judged(integers: IntegerNetwork, split: Split) -> Judged:
    """Integers on every input of a split."""
    right, loss = 0, 0.0
    for start in range(0, len(split), BLOCK):
        part = split.part(start, min(start + BLOCK, len(split)))
        logits = integers.logits_of(integers.codes(_flat(part)))
        right += int((torch.from_numpy(logits).argmax(dim=1) == part.labels).sum())
        nats = torch.from_numpy(logits * integers.scale)
        loss += float(functional.cross_entropy(nats, part.labels, reduction="sum"))
    return Judged(right / len(split), loss / len(split))


def _passed(model: Model, split: Split, steps: int) -> Iterator[IntegerNetwork]:
    """The integers every few steps of training them."""
    network, calibration = model.network, _calibration(split)
    values = network.values.detach().clone()
    optimizer, rate = Adam.for_values(values), SCHEDULES["cosine"](LEARNING_RATE, 0, steps)
    ranges = ranges_of(model, network, calibration)
    size = min(BATCH_SIZE, len(split))
    for step in range(steps):
        inputs, labels = sample_inputs(split, batch_indices(len(split), size, 0, step), torch.float32)
        integers = with_ranges(model, network.with_values(values), ranges)
        gradient = _gradient(network.with_values(integers.values()), inputs, labels)
        optimizer.update(values, gradient, rate(step))
        if network.topology.shape_numbers:
            # The sign of a width is free, and the gradient is that of a positive one.
            network.topology.shapes(values)[2 :: network.topology.shape_numbers].abs_()
        if (step + 1) % STEPS_PER_LOOK == 0:
            moved = network.with_values(values)
            ranges = ranges_of(model, moved, calibration)
            yield with_ranges(model, moved, ranges)


def _gradient(network: StructNet, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Of the mean cross-entropy by the values, (parameters,)."""
    values = network.values.detach()
    activations = propagate(network, values, inputs)
    error = functional.softmax(activations[-1], dim=0)
    error[labels, torch.arange(len(labels))] -= 1
    return backpropagate(network, values, activations, error / len(labels))[0]


def _calibration(split: Split) -> np.ndarray:
    """Inputs of training that scales are taken from, float32 (n, input units)."""
    return _flat(diagnosis_sample(split, 0, 0, CALIBRATION_IMAGES))


def _flat(split: Split) -> np.ndarray:
    inputs: np.ndarray = split.images.reshape(len(split), -1).numpy()
    return inputs
