"""The work of a contender, free of Ray: train a line, survey a network, start and train a fork, shrink.

Everything is a function of plain arrays and numbers, so a retry on another worker gives the same answer, and
one worker or ten give the same tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from structnet.actions import ACTIONS, action_of
from structnet.actions.base import Context, Proposal
from structnet.data.dataset import Split
from structnet.growth.room import with_room
from structnet.growth.triggers import Watches
from structnet.measure.calibration import tempered_likelihoods
from structnet.measure.diagnosis import diagnose_inputs, unhealthy_by_group
from structnet.measure.information import probe_information
from structnet.network.network import StructNet
from structnet.network.state import TrainState
from structnet.seeds import stream
from structnet.training.batches import DIAGNOSIS_IMAGES, batch_indices, images_for_gradients, sample_inputs
from structnet.training.evaluation import Evaluation, evaluate_all, features_of
from structnet.training.loop import Diverged, train_steps
from structnet.training.recipe import Recipe
from structnet.training.schedules import constant, cosine
from structnet.training.shrinking import Shrinking, shrink_steps
from tournament.rules.screening import Bandit, Score, screen

Arrays = Mapping[str, Any]
TEMPERED_IMAGES = 40  # with fewer no temperature is fitted
NOT_FINITE = "its logits are not finite"


@dataclass(frozen=True)
class Measured:
    """A network on the validation set. bits: (images,) log2-likelihoods of the true label.

    probe_bits: those of the probe, if asked for. tempered_bits: at a fitted temperature, where there are enough images.
    right: (images,) booleans, whether the answer is the label.
    """

    accuracy: float
    loss: float
    bits: np.ndarray
    probe_bits: np.ndarray | None = None
    tempered_bits: np.ndarray | None = None
    right: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))

    def bits_by(self, estimator: str) -> np.ndarray:
        """(images,) by `decoder`, `probe` or `tempered`; by the decoder where the other was not taken."""
        other = {"probe": self.probe_bits, "tempered": self.tempered_bits}.get(estimator)
        return self.bits if other is None else other


@dataclass(frozen=True)
class ForkReport:
    """What came of a fork: its measure, or the error that ended it."""

    measured: Measured | None
    seconds: float
    worker: str = ""
    error: str = ""


@dataclass(frozen=True)
class Shrunk:
    """What came of a stretch of the final phase. largest: the most parameters that the network had in it."""

    measured: Measured
    parameter_steps: int
    largest: int


@dataclass(frozen=True)
class SurveyPlan:
    """What a survey is told.

    sizes: parameters to aim at. rate: of the heats. balance: credits that decide what is affordable. candidates: how
    many proposals may enter. screening: by which rule of tournament.rules.screening; scores: those of earlier rounds,
    for `thompson`.
    """

    actions: tuple[str, ...]
    sizes: tuple[int, ...]
    rate: float
    rng_seed: int
    round_number: int
    balance: float
    candidates: int
    screening: str = "promise"
    scores: tuple[Score, ...] = ()


@dataclass(frozen=True)
class Survey:
    """What a round may choose from.

    proposals: those that enter, best first. too_dear: the best site of every action that the balance does not
    cover. controls: what each action that is a control does first. twin: the random twin of the best that enters and
    has one. steps: what screening cost, in optimizer steps. sizes: what was aimed at, in parameters.
    """

    proposals: list[Proposal]
    too_dear: list[Proposal]
    controls: list[Proposal]
    twin: Proposal | None
    steps: int
    saturated: int
    dead: int
    warnings: list[str]
    sizes: tuple[int, ...]


def train_line(
    state: Arrays,
    train: Split,
    validation: Split,
    recipe: Recipe,
    steps: int,
    rate: float,
    with_probe: bool,
    watches: Watches = "loss",
) -> tuple[Measured, list[float], dict[str, Any]]:
    """Trains the winning line at a constant rate.

    Returns its measure, the loss or the norm of the gradient of every step, and the new state.
    """
    line = TrainState.from_arrays(state, train.labels.device)
    norms = torch.empty(steps, device=train.labels.device) if watches == "gradient_norm" else None
    losses = train_steps(line, train, recipe, steps, constant(rate), norms=norms)
    series = losses if norms is None else norms
    return measure(line, validation, with_probe=with_probe), series.tolist(), line.to_arrays()


def start_fork(state: Arrays, proposal: Proposal | None, device: torch.device | str) -> TrainState:
    """A state of its own with a proposal applied; None adds nothing: a control or a survivor."""
    fork = TrainState.from_arrays(state, device)
    if proposal is None:
        return fork
    return fork.edited(action_of(proposal.action).apply(fork.network, proposal))


def measure(state: TrainState, validation: Split, *, with_probe: bool = False) -> Measured:
    """The network on the validation set, in bits per image; with the probe on the units that feed the output.

    Raises Diverged if some likelihood is not finite: such a network can be compared with none.
    """
    measured = measure_all([state], validation, with_probe=with_probe)[0]
    if measured is None:
        raise Diverged(NOT_FINITE)
    return measured


def measure_all(
    states: Sequence[TrainState], validation: Split, *, with_probe: bool = False
) -> list[Measured | None]:
    """As `measure`, several networks at once; None for one that can be compared with none."""
    found = evaluate_all([state.network for state in states], validation, with_logits=True)
    return [
        _measured(state.network, evaluation, validation, with_probe)
        for state, evaluation in zip(states, found)
    ]


def _measured(network: StructNet, found: Evaluation, validation: Split, with_probe: bool) -> Measured | None:
    if not np.isfinite(found.log2_likelihood).all():
        return None
    assert found.logits is not None
    right = (found.logits.argmax(dim=0) == validation.labels).cpu().numpy()
    probe = tempered = None
    if len(validation) >= TEMPERED_IMAGES:
        tempered = tempered_likelihoods(found.logits, validation.labels).cpu().numpy()
    features = features_of(network, validation) if with_probe else None
    if features is not None:
        labels, classes = validation.labels.cpu(), network.architecture[-1]
        probe = probe_information(torch.from_numpy(features), labels, classes=classes).log2_likelihood
    return Measured(found.accuracy, found.loss, found.log2_likelihood, probe, tempered, right)


def survey(state: Arrays, train: Split, recipe: Recipe, plan: SurveyPlan) -> Survey:
    """Diagnoses a network and screens its growth sites by predicted gain: one backward pass for hundreds."""
    line = TrainState.from_arrays(state, train.labels.device)
    positions = _diagnosed(line, train, plan.rng_seed)
    diagnosis = diagnose_inputs(line.network, *sample_inputs(train, positions, line.network.values.dtype))
    rng = stream(plan.rng_seed, "survey", plan.round_number)
    context = Context(line, diagnosis, plan.sizes, plan.rate, rng)
    found = [proposal for name in plan.actions for proposal in ACTIONS[name].propose(context)]
    of_controls = [action.propose(context) for action in ACTIONS.values() if action.role == "control"]
    bandit = None
    if plan.screening == "thompson":
        bandit = Bandit(plan.scores, stream(plan.rng_seed, "thompson", plan.round_number))
    entering, too_dear = screen(found, plan.sizes, plan.balance, plan.candidates, bandit)
    twins = (action_of(proposal.action).twin(context, proposal) for proposal in entering)
    return Survey(
        proposals=entering,
        too_dear=too_dear,
        controls=[proposals[0] for proposals in of_controls if proposals],
        twin=next((twin for twin in twins if twin is not None), None),
        steps=-(-len(positions) // recipe.batch_size),
        saturated=len(diagnosis.saturated),
        dead=len(diagnosis.dead),
        warnings=diagnosis.warnings,
        sizes=plan.sizes,
    )


def count_unhealthy(
    state: TrainState, train: Split, rng_seed: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Saturated and dead units of each group, each (groups,), on the images of a survey, of maps a quarter of them."""
    network = state.network
    positions = _diagnosed(state, train, rng_seed)
    images = images_for_gradients(network.topology.architecture, len(positions))
    inputs, _ = sample_inputs(train, positions[:images], network.values.dtype)
    return unhealthy_by_group(network, inputs)


def _diagnosed(state: TrainState, train: Split, rng_seed: int) -> np.ndarray:
    """(images,) positions of the training images that a network is diagnosed on at its step."""
    return batch_indices(len(train), min(DIAGNOSIS_IMAGES, len(train)), rng_seed, state.step)


def shrink(
    state: Arrays,
    train: Split,
    validation: Split,
    recipe: Recipe,
    shrinking: Shrinking,
    steps: int,
    rate: float,
    widths: tuple[int, ...],
    with_probe: bool,
) -> tuple[Shrunk, dict[str, Any]]:
    """A stretch of the final phase: anneal, add, move and prune. rate: at the start of the phase.

    widths: to which hidden groups come back when it begins, as in structnet.growth.room; empty for none. Returns what
    came of it and the new state.
    """
    line = TrainState.from_arrays(state, train.labels.device)
    if widths and line.step == shrinking.start:
        line = with_room(line, shrinking.peak, shrinking.limit, widths)
    falling = cosine(rate, shrinking.start, shrinking.stop)
    spent, largest, end = 0, 0, line.step + steps
    while line.step < end:
        # One change at a time, so that every step is counted at the size it was taken with.
        here = min(shrinking.every - (line.step - shrinking.start) % shrinking.every, end - line.step)
        line, _ = shrink_steps(line, train, recipe, here, falling, shrinking)
        spent += here * line.network.parameter_count
        largest = max(largest, line.network.parameter_count)
    return Shrunk(measure(line, validation, with_probe=with_probe), spent, largest), line.to_arrays()


def train_dense(
    architecture: tuple[int, ...],
    train: Split,
    validation: Split,
    test: Split,
    recipe: Recipe,
    steps: int,
    rate: float,
) -> tuple[Measured, Measured]:
    """A dense network, annealed over so many steps; its measures on validation and test."""
    network = StructNet(architecture, density=1.0, rng_seed=recipe.rng_seed).to(train.labels.device)
    line = TrainState.fresh(network)
    train_steps(line, train, recipe, steps, cosine(rate, 0, steps))
    return measure(line, validation), measure(line, test)
