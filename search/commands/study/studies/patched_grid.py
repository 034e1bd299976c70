"""The networks of a small grid, trained as in a hunt, described, and then patched beside three controls.

Each network is trained on four times over the same batches, always from the same state: patched by the largest
gradients; with as many connections at random places; after moving as many; and as it is. Networks of one depth and all
their arms are one cohort.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np

from search.commands.study.study import Measurement, Place, Task
from structnet.actions import ACTIONS
from structnet.actions.base import Context
from structnet.data.dataset import Dataset
from structnet.experiments.rescue import best_site
from structnet.experiments.rescue_controls import moved, random_places, values_like_an_action
from structnet.measure.diagnosis import diagnose
from structnet.measure.information import label_entropy
from structnet.network.architecture import hidden_units
from structnet.network.edit import connect
from structnet.network.network import StructNet
from structnet.network.state import TrainState
from structnet.seeds import stream
from structnet.training.batches import diagnosis_sample, steps_per_epoch
from structnet.training.cohort import Cohort
from structnet.training.evaluation import chance_accuracy
from structnet.training.recipe import Recipe
from structnet.training.schedules import cosine
from structnet.trials.champions import patchability

LEAST_PATCH = 20  # parameters
ARMS = ("patched", "random", "moved", "static")


def measure(task: Task, data: Dataset, place: Place) -> list[Measurement]:
    """Of every network, by its number in the grid: what was known of it, and the information of each arm.

    task.options: hidden (widths of each architecture), densities, epochs, more_epochs (after the patch), patch_share
    (parameters of the patch by those there are), batch_size, learning_rate (at the start of a cosine, both times).
    """
    found, number = [], 0
    for states in _starts(task, data):
        cohort = _trained(states, task, data, task.options["epochs"])
        accuracies = cohort.evaluate(data.validation).accuracy
        whole = np.flatnonzero(~cohort.diverged() & np.isfinite(accuracies))
        described, arms = [], []
        for member in whole.tolist():
            context = _context(cohort.take(member), task, data, number + member)
            of_arms, patch = _arms(context)
            arms += of_arms
            described.append(_predictors(context, float(accuracies[member]), data) | patch)
        if arms:
            bits = _information(_trained(arms, task, data, task.options["more_epochs"]), data)
            for member, about, ends in zip(
                whole.tolist(), described, bits.reshape(-1, len(ARMS)), strict=True
            ):
                found += _rows_of(number + member, about, dict(zip(ARMS, ends.tolist(), strict=True)))
        number += len(states)
    return [*found, Measurement("networks", number)]


def _rows_of(number: int, about: dict[str, float], information: dict[str, float]) -> list[Measurement]:
    """The rows of one network; none where an arm diverged."""
    if not np.isfinite(list(information.values())).all():
        return []
    values = about | {f"information:{arm}": bits for arm, bits in information.items()}
    return [Measurement(quantity, value, number) for quantity, value in values.items()]


def _starts(task: Task, data: Dataset) -> list[list[TrainState]]:
    """The untrained networks of the grid, those of one depth together."""
    shapes = [[data.input_units, *hidden, data.classes] for hidden in task.options["hidden"]]
    return [
        [
            TrainState.fresh(StructNet(shape, density, rng_seed=task.rng_seed))
            for shape in same_depth
            for density in task.options["densities"]
        ]
        for _, same_depth in groupby(sorted(shapes, key=len), key=len)
    ]


def _trained(states: Sequence[TrainState], task: Task, data: Dataset, epochs: int) -> Cohort:
    """All of them after so many more epochs, along a cosine of their own."""
    recipe = Recipe(task.options["batch_size"], rng_seed=task.rng_seed)
    steps = epochs * steps_per_epoch(len(data.train), recipe.batch_size)
    cohort = Cohort(states, [task.options["learning_rate"]] * len(states))
    cohort.train(data.train, recipe, steps, cosine(1.0, cohort.step, cohort.step + steps))
    return cohort


def _context(state: TrainState, task: Task, data: Dataset, number: int) -> Context:
    """A trained network as an action sees it, with the size that its patch should have."""
    sample = diagnosis_sample(data.train, task.rng_seed, state.step)
    diagnosis = diagnose(state.network, sample.images, sample.labels)
    size = max(LEAST_PATCH, round(task.options["patch_share"] * state.network.parameter_count))
    rng = stream(task.rng_seed, "patchability", number)
    return Context(state, diagnosis, (size,), task.options["learning_rate"], rng)


def _arms(context: Context) -> tuple[list[TrainState], dict[str, float]]:
    """The state that every arm goes on from, in the order of ARMS, and what is known of the patch.

    Where a network has no room for the whole patch, all arms make do with what there is.
    """
    state, (size,) = context.state, context.sizes
    patch = best_site(ACTIONS["patch"].propose(context), size, size)
    if patch is None:
        none = dict.fromkeys(("patch", "predicted gain", "predicted gain per parameter"), 0.0)
        return [state.copy() for _ in ARMS], none
    network, count = state.network, patch.parameters_added
    source, target = random_places(network.topology, count, context.rng)
    values = values_like_an_action(network, context.diagnosis, source, target, context.rng)
    edits = (
        ACTIONS["patch"].apply(network, patch),
        connect(network, source, target, values),
        moved(context, count),
    )
    about = {
        "patch": float(count),
        "predicted gain": patch.predicted_gain,
        "predicted gain per parameter": patch.predicted_gain / count,
    }
    return [*(state.edited(edit) for edit in edits), state], about


def _predictors(context: Context, accuracy: float, data: Dataset) -> dict[str, float]:
    """What is known of a network before it is patched; patchability only where it has one."""
    diagnosis, topology = context.diagnosis, context.topology
    hidden = hidden_units(topology.architecture)
    saturated, dead = len(diagnosis.saturated), len(diagnosis.dead)
    chance = chance_accuracy(data.validation.labels, data.classes)
    found = {
        "patchability": patchability(saturated, dead, hidden, accuracy, chance),
        "error": 1 - accuracy,
        "train loss": diagnosis.loss,
        "density": topology.density,
        "parameters": float(topology.parameters),
        "hidden units": float(hidden),
        "saturated share": saturated / hidden,
        "dead share": dead / hidden,
        "gradient norm": float(diagnosis.gradient.norm()),
    }
    return {name: value for name, value in found.items() if value is not None}


def _information(cohort: Cohort, data: Dataset) -> np.ndarray:
    """(members,) bits on validation; not finite where a network diverged."""
    bits = label_entropy(data.validation.labels) + cohort.evaluate(data.validation).log2_likelihood.mean(
        axis=1
    )
    return np.where(cohort.diverged(), np.nan, bits)
