"""The work of a contender, free of Ray: train a line, survey a network, run a fork, shrink.

Everything is a function of plain arrays and numbers, so a retry on another worker gives the same answer, and
one worker or ten give the same tables.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from structnet.actions import ACTIONS, action_of
from structnet.actions.base import Context, Proposal
from structnet.actions.patch import random_twin
from structnet.data import Split
from structnet.diagnosis import diagnose
from structnet.information import probe_information
from structnet.network import StructNet
from structnet.seeds import stream
from structnet.shrinking import Shrinking, shrink_steps
from structnet.train_state import TrainState
from structnet.training import Recipe, batch_indices, constant, cosine, evaluate, train_steps

Arrays = Mapping[str, Any]
SURVEY_IMAGES = 2048


@dataclass(frozen=True)
class Measured:
    """A network on the validation set. bits and probe_bits: (images,) log2-likelihoods of the true label."""

    accuracy: float
    loss: float
    bits: np.ndarray
    probe_bits: np.ndarray | None = None


@dataclass(frozen=True)
class Report:
    """What came of a fork: its measure, or the error that ended it."""

    measured: Measured | None
    seconds: float
    worker: str = ""
    error: str = ""


@dataclass(frozen=True)
class Survey:
    """What a round may choose from.

    proposals: those that enter, best first. too_dear: the best site of every action that the balance does not
    cover. rewire: the plan of the second control. twin: the random twin of the best patch that enters. steps:
    what screening cost, in optimizer steps.
    """

    proposals: list[Proposal]
    too_dear: list[Proposal]
    rewire: Proposal | None
    twin: Proposal | None
    steps: int
    saturated: int
    dead: int
    warnings: list[str]


def train_line(
    state: Arrays, train: Split, validation: Split, recipe: Recipe, steps: int, rate: float, with_probe: bool
) -> tuple[Measured, list[float], dict[str, Any]]:
    """Trains the winning line at a constant rate; returns its measure, the losses and the new state."""
    line = TrainState.from_arrays(state, train.labels.device)
    losses = train_steps(line, train, recipe, steps, constant(rate))
    return measure(line, validation, with_probe=with_probe), losses.tolist(), line.to_arrays()


def run_fork(
    state: Arrays,
    proposal: Proposal | None,
    train: Split,
    validation: Split,
    recipe: Recipe,
    steps: int,
    rate: float,
    with_probe: bool,
) -> tuple[Measured, dict[str, Any]]:
    """Applies a proposal (None: nothing, a control or a survivor) and trains for so many steps."""
    fork = TrainState.from_arrays(state, train.labels.device)
    if proposal is not None:
        fork = fork.edited(action_of(proposal.action).apply(fork.network, proposal))
    train_steps(fork, train, recipe, steps, constant(rate))
    return measure(fork, validation, with_probe=with_probe), fork.to_arrays()


def measure(state: TrainState, validation: Split, *, with_probe: bool = False) -> Measured:
    """The network on the validation set, in bits per image; with the probe on the units that feed the output."""
    found = evaluate(state.network, validation, with_features=with_probe)
    probe = None
    if with_probe and found.features is not None:
        features = torch.from_numpy(found.features)
        labels = validation.labels.cpu()
        classes = state.network.architecture[-1]
        probe = probe_information(features, labels, classes=classes).log2_likelihood
    return Measured(found.accuracy, found.loss, found.log2_likelihood, probe)


def survey(
    state: Arrays,
    train: Split,
    recipe: Recipe,
    *,
    actions: tuple[str, ...],
    sizes: tuple[int, ...],
    rate: float,
    rng_seed: int,
    round_number: int,
    balance: float,
    candidates: int,
) -> Survey:
    """Diagnoses a network and screens its growth sites by predicted gain: one backward pass for hundreds.

    sizes: parameters to aim at. rate: of the heats. balance: credits that decide what is affordable.
    candidates: how many proposals may enter.
    """
    line = TrainState.from_arrays(state, train.labels.device)
    images = min(SURVEY_IMAGES, len(train))
    where = torch.from_numpy(batch_indices(len(train), images, rng_seed, line.step)).to(train.labels.device)
    diagnosis = diagnose(line.network, train.images[where], train.labels[where])
    rng = stream(rng_seed, "survey", round_number)
    context = Context(line, diagnosis, sizes, rate, rng)
    found = [proposal for name in actions for proposal in ACTIONS[name].propose(context)]
    rewire = ACTIONS["rewire"].propose(context)
    entering, too_dear = screen(found, sizes, balance, candidates)
    patch = next((proposal for proposal in entering if proposal.action == "patch"), None)
    return Survey(
        proposals=entering,
        too_dear=too_dear,
        rewire=rewire[0] if rewire else None,
        twin=random_twin(context, patch) if patch else None,
        steps=-(-images // recipe.batch_size),
        saturated=len(diagnosis.saturated),
        dead=len(diagnosis.dead),
        warnings=diagnosis.warnings,
    )


def screen(
    found: list[Proposal], sizes: tuple[int, ...], balance: float, candidates: int
) -> tuple[list[Proposal], list[Proposal]]:
    """The proposals that enter, and the best site of every action that is too dear.

    In order of predicted gain per parameter, but in three turns: the best affordable site of every action
    whatever its promise - first-order gain compares connections, not actions -, then the best of every action
    in every size class, then the rest.
    """
    promise = [proposal.predicted_gain / max(1, abs(proposal.parameters_added)) for proposal in found]
    ranked = [found[index] for index in sorted(range(len(found)), key=lambda index: (-promise[index], index))]
    affordable = [proposal for proposal in ranked if proposal.parameters_added <= balance]
    dear = [proposal for proposal in ranked if proposal.parameters_added > balance]
    sized, rest = _first_of_each(affordable, lambda proposal: (proposal.action, _size_class(proposal, sizes)))
    best, others = _first_of_each(sized, lambda proposal: proposal.action)
    too_dear, _ = _first_of_each(dear, lambda proposal: proposal.action)
    return (best + others + rest)[:candidates], too_dear


def _first_of_each(
    ranked: list[Proposal], kind: Callable[[Proposal], Hashable]
) -> tuple[list[Proposal], list[Proposal]]:
    seen: set[Hashable] = set()
    first: list[Proposal] = []
    rest: list[Proposal] = []
    for proposal in ranked:
        (rest if kind(proposal) in seen else first).append(proposal)
        seen.add(kind(proposal))
    return first, rest


def _size_class(proposal: Proposal, sizes: tuple[int, ...]) -> int:
    """The size whose ratio to the proposal's is nearest to 1."""
    added = max(1, abs(proposal.parameters_added))
    return min(range(len(sizes)), key=lambda index: abs(math.log(sizes[index] / added)))


def shrink(
    state: Arrays,
    train: Split,
    validation: Split,
    recipe: Recipe,
    shrinking: Shrinking,
    *,
    start: int,
    stop: int,
    steps: int,
    rate: float,
    with_probe: bool,
) -> tuple[Measured, int, int, dict[str, Any]]:
    """A stretch of the final phase from `start` to `stop`: anneal, buy, move and sell.

    Returns the measure, the parameter-steps spent, the most parameters it had, and the new state.
    """
    line = TrainState.from_arrays(state, train.labels.device)
    falling = cosine(rate, start, stop)
    spent, largest, end = 0, 0, line.step + steps
    while line.step < end:
        # One change at a time, so that every step is counted at the size it was taken with.
        here = min(shrinking.every - (line.step - shrinking.start) % shrinking.every, end - line.step)
        line, _ = shrink_steps(line, train, recipe, here, falling, shrinking)
        spent += here * line.network.parameter_count
        largest = max(largest, line.network.parameter_count)
    return measure(line, validation, with_probe=with_probe), spent, largest, line.to_arrays()


def train_dense(
    architecture: tuple[int, ...],
    train: Split,
    validation: Split,
    test: Split,
    recipe: Recipe,
    steps: int,
    rate: float,
) -> tuple[Measured, Measured]:
    """The opponent of a grown network: a dense one, trained as long, annealed; measured on validation and test."""
    network = StructNet(list(architecture), density=1.0, rng_seed=recipe.rng_seed).to(train.labels.device)
    line = TrainState.fresh(network)
    train_steps(line, train, recipe, steps, cosine(rate, 0, steps))
    return measure(line, validation), measure(line, test)
