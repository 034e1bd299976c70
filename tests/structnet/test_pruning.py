"""A network pruned to a size, by magnitude or while it trains."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.training_cases import skip_network
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from structnet import StructNet, fit, from_module, load_dataset
from structnet.errors import UserError
from structnet.network.edit import add_units, disconnect, fold
from structnet.training.evaluation import evaluate
from structnet.training.pruning import pruned_to

torch.set_num_threads(1)


def by_hand() -> StructNet:
    """Two inputs, two hidden units, one output: units 2 and 3 with weights 1, 9 and 8, 2; output 7 and -6."""
    first, last = nn.Linear(2, 2), nn.Linear(2, 1)
    with torch.no_grad():
        for tensor, values in (
            (first.weight, [[1.0, 9.0], [8.0, 2.0]]),
            (first.bias, [0.5, 0.25]),
            (last.weight, [[7.0, -6.0]]),
            (last.bias, [3.0]),
        ):
            tensor.copy_(torch.tensor(values))
    return from_module(nn.Sequential(first, nn.ReLU(), last))


def test_the_smallest_weights_go_first_whatever_their_layer() -> None:
    assert pruned_to(by_hand(), 8).values.tolist() == [9, 8, 2, 7, -6, 0.5, 0.25, 3]
    assert pruned_to(by_hand(), 7).values.tolist() == [9, 8, 7, -6, 0.5, 0.25, 3]


def test_a_unit_without_a_way_out_goes_with_its_bias_and_its_connections() -> None:
    """The next to go is -6, after which unit 3 says nothing: 8, its bias and itself go as well."""
    smaller = pruned_to(by_hand(), 6)
    assert smaller.architecture == [2, 1, 1] and smaller.values.tolist() == [9, 7, 0.5, 3]


def test_a_unit_without_a_way_in_is_folded_into_what_it_feeds() -> None:
    network = from_module(nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 2)))
    network = network.with_values(torch.tensor([1.0, 20, 30, 0.5, 0, 0]))
    smaller = pruned_to(network, 3)
    assert smaller.architecture == [1, 2] and smaller.values.tolist() == [10, 15]


def test_units_that_do_nothing_go_before_any_connection_of_the_others() -> None:
    network = by_hand()
    idle = add_units(network, 1, np.array([4.0])).network
    assert torch.equal(pruned_to(idle, network.parameter_count).values, network.values)


@given(st.integers(0, 99), st.integers(5, 80))
def test_any_size_that_is_possible_is_kept_and_no_more_is_pruned_than_it_takes(
    rng_seed: int, size: int
) -> None:
    network = StructNet([6, 5, 5, 4], 0.8, rng_seed=rng_seed)
    weakest = np.argsort(np.abs(network.values.detach().numpy()[: network.connection_count]), kind="stable")
    smaller = pruned_to(network, size)
    assert smaller.parameter_count <= size
    if size >= network.parameter_count:
        assert torch.equal(smaller.values, network.values)
        return
    fewest = next(
        candidate
        for count in range(len(weakest) + 1)
        if (candidate := fold(disconnect(network, weakest[:count]).network).network).parameter_count <= size
    )
    assert smaller.architecture == fewest.architecture and torch.equal(smaller.values, fewest.values)


def test_the_given_network_stays_as_it_is() -> None:
    network = skip_network()
    before = network.values.detach().clone()
    smaller = pruned_to(network, network.parameter_count)
    with torch.no_grad():
        smaller.values.zero_()
    pruned_to(network, network.parameter_count - 3)
    assert torch.equal(network.values, before)


def test_a_size_below_what_is_possible_is_refused() -> None:
    with pytest.raises(UserError, match="the limit is 1 parameters, but must be at least 2"):
        pruned_to(by_hand(), 1)


def test_with_data_it_trains_on_the_way_and_keeps_more_accuracy() -> None:
    data = load_dataset("digits")
    network = StructNet([64, 32, 10], 1.0)
    fit(network, data, epochs=4, batch_size=32)
    before = network.values.detach().clone()
    at_once = pruned_to(network, 250)
    trained = pruned_to(network, 250, data, epochs=4, batch_size=32)
    assert max(at_once.parameter_count, trained.parameter_count) <= 250
    assert torch.equal(network.values, before)
    assert evaluate(trained, data.validation).accuracy > evaluate(at_once, data.validation).accuracy + 0.1
