"""`fit`: it learns, restores the best epoch, keeps its limit and never reads the test split."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.training_cases import Untouchable, flat, small_data

from structnet import StructNet, load_dataset
from structnet.errors import UserError
from structnet.network.state import TrainState
from structnet.storage.schemas import SCHEMAS
from structnet.training.evaluation import evaluate
from structnet.training.fit import fit


def test_fit_learns_digits() -> None:
    data = replace(load_dataset("digits"), test=Untouchable())  # type: ignore[arg-type]
    network = StructNet([64, 32, 10], density=0.3, rng_seed=0)
    history = fit(network, data, epochs=10, learning_rate=1e-2, batch_size=32)
    assert history.epochs[-1]["accuracy"] > 0.9
    assert evaluate(network, data.validation).accuracy == history.epochs[-1]["accuracy"]


def test_history_has_the_columns_of_the_table() -> None:
    data = small_data()
    seen: list[dict[str, Any]] = []
    network = StructNet([16, 5, 3], density=0.5)
    history = fit(
        network, data, epochs=3, learning_rate=0.01, schedule="constant", batch_size=20, on_epoch=seen.append
    )
    assert seen == history.epochs
    for number, row in enumerate(history.epochs, start=1):
        # Whose network it was and how long it took, the caller knows. What comes behind is of networks that evolve.
        columns = SCHEMAS["epochs"].names
        assert {*row, "trial", "network", "seconds"} == set(columns[: columns.index("seconds") + 1])
        assert row["epoch"] == number
        assert row["parameters"] == network.parameter_count
        assert row["learning_rate"] == 0.01
        assert 0 <= row["accuracy"] <= 1
    measured = evaluate(network, data.validation)
    assert (row["loss"], row["accuracy"]) == (measured.loss, measured.accuracy)


def test_without_patience_all_epochs_are_trained() -> None:
    history = fit(StructNet([16, 5, 3], density=0.5), small_data(random_labels=True), epochs=6, batch_size=20)
    assert len(history.epochs) == 6
    assert history.state is not None
    assert history.state.step == 18


@pytest.mark.parametrize("patience", [1, 3])
def test_early_stopping_restores_the_best_epoch_exactly(patience: int) -> None:
    data = small_data(random_labels=True)
    network = StructNet([16, 12, 3], density=1.0)
    history = fit(
        network,
        data,
        epochs=60,
        learning_rate=0.02,
        schedule="constant",
        batch_size=20,
        patience=patience,
        input_dropout=0.1,
    )
    losses = [row["loss"] for row in history.epochs]
    best = history.best_epoch
    assert losses[best - 1] == min(losses)
    assert len(losses) == best + patience < 60
    assert evaluate(network, data.validation).loss == losses[best - 1]
    assert history.state is not None
    assert history.state.network is network
    assert history.state.step == best * 3

    again = StructNet([16, 12, 3], density=1.0)
    fit(
        again,
        data,
        epochs=best,
        learning_rate=0.02,
        schedule="constant",
        batch_size=20,
        input_dropout=0.1,
    )
    assert torch.equal(flat(again), flat(network))


@pytest.mark.parametrize("epochs", [1, 2, 5])
@pytest.mark.parametrize("batch_size", [8, 60])
def test_the_limit_on_parameters_holds_at_the_end(epochs: int, batch_size: int) -> None:
    network = StructNet([16, 8, 3], density=0.9)
    assert network.parameter_count > 140
    history = fit(network, small_data(), epochs=epochs, batch_size=batch_size, max_parameters=60)
    # Folding may free more than was to be pruned; it grows back if there is a change left.
    assert (50 if epochs * 60 // batch_size > 5 else 30) <= network.parameter_count <= 60
    assert history.epochs[-1]["parameters"] == network.parameter_count
    assert history.state is not None
    assert history.state.network is network
    assert len(history.state.optimizer.first) == len(history.state.born) == network.parameter_count


def test_where_nothing_can_be_folded_the_limit_is_reached_exactly() -> None:
    network = StructNet([16, 3], density=1.0)
    fit(network, small_data(), epochs=5, batch_size=8, max_parameters=20)
    assert network.parameter_count == 20


def test_only_epochs_within_the_limit_can_be_best() -> None:
    data = small_data(random_labels=True)
    network = StructNet([16, 8, 3], density=0.9)
    options: dict[str, Any] = {"learning_rate": 0.02, "batch_size": 8, "max_parameters": 60}
    history = fit(network, data, epochs=12, patience=2, **options)
    fitting = [row for row in history.epochs if row["parameters"] <= 60]
    assert 0 < len(fitting) < len(history.epochs)
    assert network.parameter_count <= 60
    assert evaluate(network, data.validation).loss == min(row["loss"] for row in fitting)


def test_a_limit_above_the_size_lets_nothing_grow() -> None:
    network = StructNet([16, 8, 3], density=0.4)
    size = network.parameter_count
    history = fit(network, small_data(), epochs=6, batch_size=8, max_parameters=10_000)
    assert max(row["parameters"] for row in history.epochs) <= size
    assert network.parameter_count >= size - 10


@pytest.mark.parametrize("options", [{}, {"max_parameters": 60, "patience": 3}])
def test_the_same_seed_gives_the_same_network_to_the_bit(options: dict[str, Any]) -> None:
    results = []
    for rng_seed in (1, 1, 2):
        network = StructNet([16, 8, 3], density=0.9)
        history = fit(
            network,
            small_data(),
            epochs=4,
            batch_size=8,
            input_dropout=0.2,
            shift=1,
            l1=1e-4,
            rng_seed=rng_seed,
            **options,
        )
        results.append((flat(network), history.epochs))
    assert torch.equal(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]
    assert results[0][1] != results[2][1]


def test_going_on_from_a_state_is_going_on() -> None:
    data = small_data()
    options: dict[str, Any] = {"schedule": "constant", "batch_size": 8, "input_dropout": 0.2, "shift": 1}
    whole, cut = StructNet([16, 8, 3], density=0.5), StructNet([16, 8, 3], density=0.5)
    all_rows = fit(whole, data, epochs=5, **options).epochs
    first = fit(cut, data, epochs=2, **options)
    assert first.state is not None
    sent = TrainState.from_arrays(first.state.to_arrays())
    resumed = StructNet([16, 8, 3], density=0.5, rng_seed=9)
    second = fit(resumed, data, epochs=3, state=sent, **options)
    assert torch.equal(flat(resumed), flat(whole))
    assert second.state is not None
    assert second.state.step == 35
    losses = [row["train_loss"] for row in first.epochs + second.epochs]
    assert losses == [row["train_loss"] for row in all_rows]


def test_an_unknown_schedule_is_refused() -> None:
    with pytest.raises(UserError, match="schedule is 'stepped', but must be one of cosine, linear, constant"):
        fit(StructNet([16, 3]), small_data(), schedule="stepped")


def test_fit_takes_weight_decay() -> None:
    norms = {}
    for decay in (0.0, 10.0):
        network = StructNet([16, 5, 3], density=1.0, rng_seed=0)
        fit(network, small_data(), epochs=3, learning_rate=0.01, batch_size=20, weight_decay=decay)
        norms[decay] = float(flat(network)[: network.connection_count].norm())
    assert norms[10.0] < 0.8 * norms[0.0]
