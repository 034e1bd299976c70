"""`fit`: a network, a dataset, so many epochs - with early stopping, and pruning to a size if asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from structnet.data.dataset import Dataset
from structnet.errors import UserError
from structnet.network.network import StructNet
from structnet.network.state import TrainState
from structnet.training.batches import steps_per_epoch
from structnet.training.evaluation import Evaluation, evaluate
from structnet.training.loop import train_steps
from structnet.training.rates import AgeRates
from structnet.training.recipe import Recipe
from structnet.training.schedules import SCHEDULES
from structnet.training.shrinking import Shrinking, shrink_steps


@dataclass
class History:
    """What `fit` did: a row per epoch (the columns of the `epochs` table), and the state it ended with."""

    epochs: list[dict[str, Any]] = field(default_factory=list)
    state: TrainState | None = None
    best_epoch: int = 0


def fit(
    network: StructNet,
    data: Dataset,
    *,
    epochs: int = 5,
    learning_rate: float = 2e-3,
    schedule: str = "cosine",
    batch_size: int = 128,
    l1: float = 0.0,
    input_dropout: float = 0.0,
    shift: int = 0,
    rates: AgeRates | None = None,
    weight_decay: float = 0.0,
    patience: int | None = None,
    max_parameters: int | None = None,
    rng_seed: int = 0,
    state: TrainState | None = None,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
) -> History:
    """Trains a network in place on data.train and restores the epoch of least validation loss.

    batch_size … weight_decay, rng_seed: as in structnet.training.recipe.Recipe.
    patience: stops after so many epochs without a new best; None trains them all, and ends with the last
    epoch as it is. max_parameters: connections are pruned by w²·√v on a cubic schedule until 70 % of the
    training (structnet.training.shrinking), and only epochs within the limit can be best. state: to go on from a
    snapshot. Raises UserError for an unknown schedule, Diverged if training does.
    """
    if schedule not in SCHEDULES:
        raise UserError(f"schedule is '{schedule}', but must be one of {', '.join(SCHEDULES)}")
    recipe = Recipe(batch_size, l1, input_dropout, shift, rates, rng_seed, weight_decay)
    state = state or TrainState.fresh(network)
    per_epoch = steps_per_epoch(len(data.train), batch_size)
    start, stop = state.step, state.step + epochs * per_epoch
    rate = SCHEDULES[schedule](learning_rate, start, stop)
    shrinking = None
    if max_parameters is not None:
        size = state.network.parameter_count
        shrinking = Shrinking(start, stop, size, size, max_parameters)
    history, best = History(), None
    for epoch in range(1, epochs + 1):
        if shrinking is None:
            losses = train_steps(state, data.train, recipe, per_epoch, rate)
        else:
            state, losses = shrink_steps(state, data.train, recipe, per_epoch, rate, shrinking)
        measured, last = evaluate(state.network, data.validation), state.step - 1
        pace = shrinking.pace(last) if shrinking else 1
        row = _row(epoch, state, rate(last) * pace, float(losses.mean()), measured)
        history.epochs.append(row)
        if on_epoch:
            on_epoch(row)
        fits = max_parameters is None or state.network.parameter_count <= max_parameters
        if patience is not None and fits and (best is None or measured.loss < best[0]):
            best = measured.loss, state.copy()
            history.best_epoch = epoch
        if patience is not None and best is not None and epoch - history.best_epoch >= patience:
            break
    history.state = best[1] if best is not None else state
    network.become(history.state.network)
    history.state.network = network
    return history


def _row(
    epoch: int, state: TrainState, learning_rate: float, train_loss: float, measured: Evaluation
) -> dict[str, Any]:
    return {
        "epoch": epoch,
        "parameters": state.network.parameter_count,
        "learning_rate": learning_rate,
        "train_loss": train_loss,
        "loss": measured.loss,
        "accuracy": measured.accuracy,
    }
