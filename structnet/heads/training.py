"""A model with attention heads in training: batches, steps, judgement. Images and texts go the same way.

AdamW, gradients clipped to norm 1, as in the source. What is random is a function of (rng_seed, step).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn
from torch.optim import AdamW

from structnet.data.dataset import Split
from structnet.errors import WorkFailed
from structnet.heads.layers import HeadModel
from structnet.heads.scores import loss_of
from structnet.heads.surgery import Head, hold_frozen, parameters_of, ramp
from structnet.modules.evaluation import Batch, evaluate_module, parameters_in, taken
from structnet.seeds import stream, torch_seed
from structnet.training.batches import batch_indices
from structnet.training.evaluation import Evaluation

CLIP = 1.0
WEIGHT_DECAY = 0.01
BLOCK = 250  # images or windows that are judged at once
SCORED_BATCHES = 2


@dataclass
class HeadState:
    """A model and its optimizer, of which group 0 is for all but attention and group 1 + i for that of layer i.

    step: made so far along this line. begun: of heads that are new the step at which they came, for as long as their
    gates still rise. touched: layers whose heads were changed.
    """

    model: HeadModel
    optimizer: AdamW
    step: int = 0
    begun: dict[Head, int] = field(default_factory=dict)
    touched: set[int] = field(default_factory=set)

    @classmethod
    def fresh(cls, model: HeadModel) -> HeadState:
        """A model before its first step."""
        attention = [parameters_of(model, [layer]) for layer in range(len(model.layers))]
        known = {id(parameter) for group in attention for parameter in group}
        others = [one for one in model.module.parameters() if id(one) not in known]
        groups = [{"params": group} for group in (others, *attention)]
        return cls(model, AdamW(groups, weight_decay=WEIGHT_DECAY))

    @property
    def parameters(self) -> int:
        """That exist."""
        return parameters_in(self.model.module)


@dataclass(frozen=True)
class Tuning:
    """How steps are made. touched_rate: times the rate, of the attention of layers whose heads were changed.

    ramp: steps over which the gates of new heads rise.
    """

    batch_size: int
    rng_seed: int
    touched_rate: float = 1.0
    ramp: int = 100


def batch_of(split: Split, positions: np.ndarray) -> Batch:
    """The images or windows at these positions, as a model takes them."""
    return taken(split.at(positions))


def scoring_batches(split: Split, tuning: Tuning, step: int) -> list[Batch]:
    """Training data to score heads on at a step, drawn for that alone."""
    size = min(len(split), tuning.batch_size * SCORED_BATCHES)
    drawn = stream(tuning.rng_seed, "head scores", step).permutation(len(split))[:size]
    return [batch_of(split, part) for part in np.array_split(drawn, SCORED_BATCHES)]


def train(
    state: HeadState, split: Split, tuning: Tuning, steps: int, rate: Callable[[int], float]
) -> np.ndarray:
    """Trains in place for so many steps; their losses, (steps,) nats. rate: of the step along this line.

    Raises WorkFailed where a loss is not finite.
    """
    model, losses = state.model, np.empty(steps)
    model.module.train()
    with torch.random.fork_rng():
        _train(state, split, tuning, rate, losses)
    if not np.isfinite(losses).all():
        raise WorkFailed(f"Diverged: a loss is not finite in steps {state.step - steps} to {state.step}")
    return losses


def _train(
    state: HeadState, split: Split, tuning: Tuning, rate: Callable[[int], float], losses: np.ndarray
) -> None:
    """losses: to be filled in."""
    model = state.model
    for index in range(len(losses)):
        # What models of others drop in a step is a function of the step too.
        torch.manual_seed(torch_seed(tuning.rng_seed, "dropout", state.step))
        positions = batch_indices(len(split), min(tuning.batch_size, len(split)), tuning.rng_seed, state.step)
        _set_rates(state, rate(state.step), tuning.touched_rate)
        if state.begun:
            _raise_gates(state, tuning.ramp)
        loss = loss_of(model, batch_of(split, positions))
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        hold_frozen(model)
        nn.utils.clip_grad_norm_(model.module.parameters(), CLIP)
        state.optimizer.step()
        losses[index] = loss.item()
        state.step += 1


def _set_rates(state: HeadState, rate: float, touched_rate: float) -> None:
    for number, group in enumerate(state.optimizer.param_groups):
        group["lr"] = rate * (touched_rate if number - 1 in state.touched else 1.0)


def _raise_gates(state: HeadState, length: int) -> None:
    ramp(state.model, state.begun, state.step, length)
    state.begun = {head: first for head, first in state.begun.items() if state.step - first + 1 < length}


def judge(model: HeadModel, split: Split, *, block: int = BLOCK) -> Evaluation:
    """The model on every image or text of a split."""
    return evaluate_module(model.module, split, block, logits=model.logits)


def touch(state: HeadState, heads: Iterable[Head]) -> None:
    """Notes the layers of heads that were changed."""
    state.touched |= {layer for layer, _ in heads}
