"""Validating a base network before an experiment: a few short trainings, and all checks of `checks`.

Hours of growing are wasted on labels that are shuffled, a learning rate at which nothing learns, or a layer
that no gradient reaches; all of it shows within seconds. `validate` trains the base network, its dense version
and the base network on shuffled labels. To count as learning a network must beat chance, the share of the
commonest class on validation, by a margin (baselines, tiny batch and a look at the data first: Karpathy 2019,
"A recipe for training neural networks"). Of the test split only the inputs are read, never the labels.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from structnet.data.dataset import Dataset, Split
from structnet.experiments import checks
from structnet.experiments.checks import Check
from structnet.measure.diagnosis import Diagnosis, diagnose
from structnet.measure.information import label_entropy
from structnet.measure.statistics import mean_and_error, t_quantile
from structnet.network.initial_values import initial_values
from structnet.network.network import StructNet
from structnet.network.state import TrainState
from structnet.seeds import stream
from structnet.training.batches import steps_per_epoch
from structnet.training.evaluation import Evaluation, chance_accuracy, evaluate
from structnet.training.fit import fit
from structnet.training.loop import Diverged, train_steps
from structnet.training.recipe import Recipe
from structnet.training.schedules import constant

BASELINE_IMAGES = 20_000  # at most so many train the dense version, and the networks on shuffled labels
DENSE_RATES = (1.0, 0.25)  # a rate that suits a sparse network can be too high for a dense one
SHUFFLES = 5
DIAGNOSED_IMAGES = 2_000
TINY_BATCH, TINY_STEPS = 8, 500
TINY_LOSS = 0.5  # of the first loss


@dataclass(frozen=True)
class Baselines:
    """What can be had on validation without training, each as (accuracy, bits).

    guessing: a class at random. majority: always the commonest class; its bits are those of the label
    frequencies of the training images, add-one smoothed. untrained: the network as it is.
    """

    guessing: tuple[float, float]
    majority: tuple[float, float]
    untrained: tuple[float, float]

    @property
    def chance(self) -> float:
        """Accuracy of the constant guess."""
        return self.majority[0]


@dataclass(frozen=True)
class Trained:
    """A network after a short training, and how it got there.

    epochs: rows as of `fit`. evaluation: on validation; bits: of usable information there. diagnosis: on
    training images. They are None if the training diverged; the network is then the one it started with.
    """

    network: StructNet
    learning_rate: float
    seconds: float
    epochs: list[dict[str, Any]] = field(default_factory=list)
    evaluation: Evaluation | None = None
    bits: float | None = None
    diagnosis: Diagnosis | None = None


@dataclass(frozen=True)
class Validation:
    """The checks in their order, and what was trained for them.

    steps: of the base network. steps_all and parameter_steps_all count everything, the shuffled labels and
    both learning rates of the dense version included.
    """

    checks: list[Check]
    baselines: Baselines
    base: Trained
    dense: Trained
    steps: int
    steps_all: int
    parameter_steps_all: int

    @property
    def failed(self) -> list[Check]:
        """The checks that were not passed."""
        return [check for check in self.checks if not check.passed]


def validate(
    network: StructNet,
    data: Dataset,
    *,
    epochs: int = 3,
    learning_rate: float = 0.012,
    batch_size: int = 128,
    margin: float = 0.1,
    rng_seed: int = 0,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Validation:
    """All checks of a base network, which is left as it is, on data of the same device.

    margin: in (0, 1), the part of the way from chance to perfect accuracy that counts as learning. The dense
    version and the networks on shuffled labels train on at most 20,000 images. on_stage is told what comes
    next, in one line.
    """
    some = sampled(data.train, BASELINE_IMAGES, rng_seed, "validate baselines")
    short = _ShortTraining(data, epochs, batch_size, rng_seed)
    known = baselines(network, data)
    on_stage(f"training the base network: {network.parameter_count:,} parameters, {epochs} epochs")
    base = short.train(network, data.train, learning_rate)
    steps = short.steps
    on_stage(
        f"training its dense version: {network.parameters_dense:,} parameters, {epochs} epochs of "
        f"{len(some):,} images, at {len(DENSE_RATES)} learning rates"
    )
    dense = _trained_dense(network, some, short, learning_rate)
    on_stage(f"training the base network on shuffled labels: {len(some):,} images, {SHUFFLES} times")
    shuffled = [
        short.train(
            _with_new_values(network, rng_seed, turn), shuffled_labels(some, rng_seed, turn), learning_rate
        )
        for turn in range(SHUFFLES)
    ]
    on_stage("reading data, gradients, preprocessing and keys")
    losses = tiny_batch_losses(
        network, sampled(data.train, TINY_BATCH, rng_seed, "validate tiny batch"), learning_rate
    )
    short.spend(TINY_STEPS, network)
    found = [
        learns("dense version learns", dense, known.chance, margin),
        learns("base network learns", base, known.chance, margin),
        stays_at_chance(
            [one.evaluation.accuracy for one in shuffled if one.evaluation], known.chance, margin
        ),
        fits_tiny_batch(losses),
        *checks_of_diagnosis(diagnose(network, short.sample.images, short.sample.labels), "at the start"),
        *(checks_of_diagnosis(base.diagnosis, "after training") if base.diagnosis else []),
        checks.keys_remap(base.network, data.validation.images),
        *checks_of_data(base.network, data),
    ]
    return Validation(found, known, base, dense, steps, short.steps, short.parameter_steps)


def _trained_dense(network: StructNet, some: Split, short: _ShortTraining, learning_rate: float) -> Trained:
    """The dense network of the same shape, at the learning rate that suits it best."""
    shape = network.topology.architecture
    start = StructNet(shape, 1.0, rng_seed=short.rng_seed, activation=network.activation)
    start.to(network.values.device)
    tried = [short.train(start, some, share * learning_rate) for share in DENSE_RATES]
    return max(tried, key=lambda one: one.evaluation.accuracy if one.evaluation else -1.0)


def checks_of_diagnosis(diagnosis: Diagnosis, moment: str) -> list[Check]:
    """The checks of a network at a moment, such as `after training`."""
    rules = (checks.gradient_flows, checks.units_are_reached, checks.units_respond)
    return [rule(diagnosis, moment) for rule in rules]


def checks_of_data(network: StructNet, data: Dataset) -> list[Check]:
    """The checks of the data; the network is only saved with them."""
    of_numbers = checks.inputs_in_range(data), checks.splits_alike(data)
    return [*quick_checks(data), *of_numbers, checks.preprocessing_replicates(network, data)]


def quick_checks(data: Dataset) -> list[Check]:
    """The checks of data that take no time to speak of, nor memory: what is to be known before any training."""
    found = [checks.classes_present(data), checks.no_duplicates(data), checks.inputs_vary(data)]
    return found if data.preprocessing["kind"] == "image" else [*found, checks.no_column_tells(data)]


class _ShortTraining:
    """Trains copies of networks for the same few epochs, and counts what that costs."""

    def __init__(self, data: Dataset, epochs: int, batch_size: int, rng_seed: int) -> None:
        self.data, self.epochs = data, epochs
        self.batch_size, self.rng_seed = batch_size, rng_seed
        self.sample = sampled(data.train, DIAGNOSED_IMAGES, rng_seed, "validate diagnosis")
        self.steps = self.parameter_steps = 0

    def spend(self, steps: int, network: StructNet) -> None:
        self.steps += steps
        self.parameter_steps += steps * network.parameter_count

    def train(self, start: StructNet, train: Split, learning_rate: float) -> Trained:
        network, began = start.fork(), time.perf_counter()
        self.spend(self.epochs * steps_per_epoch(len(train), self.batch_size), network)
        rows: list[dict[str, Any]] = []
        try:
            fit(
                network,
                replace(self.data, train=train),
                epochs=self.epochs,
                learning_rate=learning_rate,
                batch_size=self.batch_size,
                rng_seed=self.rng_seed,
                on_epoch=rows.append,
            )
        except Diverged:
            return Trained(start.fork(), learning_rate, time.perf_counter() - began, rows)
        evaluation = evaluate(network, self.data.validation)
        bits = label_entropy(self.data.validation.labels) + float(evaluation.log2_likelihood.mean())
        diagnosis = diagnose(network, self.sample.images, self.sample.labels)
        seconds = time.perf_counter() - began
        return Trained(network, learning_rate, seconds, rows, evaluation, bits, diagnosis)


def baselines(network: StructNet, data: Dataset) -> Baselines:
    """What chance gives on validation, and the network before training."""
    labels = data.validation.labels
    entropy = label_entropy(labels)
    counts = torch.bincount(data.train.labels, minlength=data.classes).double() + 1
    of_frequencies = float((counts / counts.sum()).log2()[labels].mean())
    measured = evaluate(network, data.validation)
    return Baselines(
        guessing=(1 / data.classes, entropy - math.log2(data.classes)),
        majority=(chance_accuracy(labels, data.classes), entropy + of_frequencies),
        untrained=(measured.accuracy, entropy + float(measured.log2_likelihood.mean())),
    )


def sampled(split: Split, count: int, rng_seed: int, purpose: str) -> Split:
    """At most so many images of a split, drawn at random: files can be sorted by class."""
    if len(split) <= count:
        return split
    return split.at(stream(rng_seed, purpose).permutation(len(split))[:count])


def shuffled_labels(split: Split, rng_seed: int, turn: int) -> Split:
    """The same images with each other's labels."""
    order = stream(rng_seed, "validate shuffle", turn).permutation(len(split))
    return split.relabelled(split.labels[torch.from_numpy(order).to(split.device)])


def _with_new_values(network: StructNet, rng_seed: int, turn: int) -> StructNet:
    """The same connections with other values, so that the shuffles do not share the accidents of a start."""
    rng = stream(rng_seed, "validate values", turn)
    return network.with_values(initial_values(network.topology, rng, network.activation))


def tiny_batch_losses(network: StructNet, batch: Split, learning_rate: float) -> torch.Tensor:
    """(steps,) losses in nats of a copy of the network trained on this one batch again and again.

    A single NaN if that diverged.
    """
    state = TrainState.fresh(network.fork())
    try:
        return train_steps(state, batch, Recipe(len(batch)), TINY_STEPS, constant(learning_rate))
    except Diverged:
        return torch.tensor([math.nan])


def least_accuracy(chance: float, margin: float) -> float:
    """chance + margin × (1 − chance): what counts as learning, also where one class is very common."""
    return chance + margin * (1 - chance)


def learns(name: str, trained: Trained, chance: float, margin: float) -> Check:
    """Whether a trained network beats chance on validation by the margin."""
    least, passed, value = least_accuracy(chance, margin), False, "diverged"
    if trained.evaluation is not None:
        value = f"{trained.evaluation.accuracy:.1%}, {trained.bits:.2f} bits"
        passed = trained.evaluation.accuracy >= least
    return Check(
        name,
        passed,
        f"{value} (learning rate {trained.learning_rate:g})",
        f"validation accuracy ≥ {least:.1%}: {margin:g} of the way from chance, {chance:.1%}, to 100 %",
        "look at the labels, try another --learning-rate or more --epochs; if only the base network fails, raise "
        "--density or widen --architecture",
    )


def stays_at_chance(accuracies: Sequence[float], chance: float, margin: float) -> Check:
    """Whether networks trained on shuffled labels, one accuracy each, know nothing about the true ones.

    A shuffle gives whole classes a common label by accident, so a single accuracy can be far from chance, the
    more so the fewer classes there are: only a mean above the margin that is also significant over the
    shuffles (one-sided, 1 %) is a leak.
    """
    value, passed = "diverged", False
    if len(accuracies) > 1:
        mean, error = mean_and_error(accuracies)
        value = f"{mean:.1%} ± {error:.1%} over {len(accuracies)} shuffles"
        significant = mean - t_quantile(0.99, len(accuracies)) * error > chance
        passed = mean < least_accuracy(chance, margin) or not significant
    return Check(
        "shuffled labels stay at chance",
        passed,
        value,
        f"validation accuracy not significantly above {least_accuracy(chance, margin):.1%}",
        "labels reach the network by another way than the training labels: look how the splits were made; where "
        "training diverged, lower --learning-rate",
    )


def fits_tiny_batch(losses: torch.Tensor) -> Check:
    """Whether the optimizer can do its work: the loss on one small batch falls far."""
    first, last = float(losses[0]), float(losses[-1])
    return Check(
        "a tiny batch can be learnt by heart",
        last <= TINY_LOSS * first,
        f"loss {first:.2f} → {last:.2f} nats in {len(losses)} steps" if math.isfinite(last) else "diverged",
        f"falls to {TINY_LOSS:g} of its start or less",
        "try another --learning-rate; a network too sparse for a few images needs a higher --density",
    )
