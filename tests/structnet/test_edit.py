"""Edits by hand: what comes out, and where every parameter comes from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from structnet.growth.scales import refine_input
from structnet.network.activations import ACTIVATIONS
from structnet.network.edit import (
    Edit,
    add_group,
    add_units,
    connect,
    disconnect,
    fold,
    redirect,
    remove_units,
    unchanged,
)
from structnet.network.network import StructNet
from structnet.network.topology import Topology

torch.set_num_threads(1)


def small() -> StructNet:
    """Inputs 0, 1; hidden 2, 3; output 4. Connections 0→2: 1, 1→3: 2, 2→4: 3, 3→4: 4; biases 5, 6, 7."""
    topology, _ = Topology.sorted([2, 2, 1], np.array([0, 1, 2, 3]), np.array([2, 3, 4, 4]))
    return StructNet.from_parts(topology, torch.arange(1.0, 8.0))


def connections(network: StructNet) -> dict[tuple[int, int], float]:
    topology = network.topology
    return dict(
        zip(zip(topology.source.tolist(), topology.target.tolist()), network.values.detach().tolist())
    )


def biases(network: StructNet) -> list[float]:
    return network.values.detach()[network.connection_count :].tolist()


def test_unchanged() -> None:
    network = small()
    edit = unchanged(network)
    assert edit.network is network
    assert (edit.added, edit.freed, len(edit.new), len(edit.new_units)) == (0, 0, 0, 0)


def test_what_becomes_several_is_not_freed() -> None:
    edit = refine_input(small(), 1, 1, 2)
    assert edit.network.architecture == [8, 2, 1]
    assert (edit.added, edit.freed) == (6, 0)
    both = edit.then(disconnect(edit.network, np.flatnonzero(edit.origin == 0)))
    assert (both.added, both.freed) == (2, 1)


def test_connect_puts_new_connections_in_their_place() -> None:
    edit = connect(small(), np.array([1, 0]), np.array([2, 4]), np.array([8.0, 9.0]))
    assert connections(edit.network) == {(0, 2): 1, (1, 2): 8, (1, 3): 2, (0, 4): 9, (2, 4): 3, (3, 4): 4}
    assert biases(edit.network) == [5, 6, 7]
    assert edit.origin.tolist() == [0, -1, 1, -1, 2, 3, 4, 5, 6]
    assert edit.new.tolist() == edit.new_connections.tolist() == [1, 3]
    assert edit.added == 2


@pytest.mark.parametrize(("source", "target"), [(0, 2), (2, 3), (4, 2), (0, 1)])
def test_connect_refuses_what_cannot_be(source: int, target: int) -> None:
    with pytest.raises(ValueError, match="connection"):
        connect(small(), np.array([source]), np.array([target]))


def test_disconnect_keeps_the_units() -> None:
    edit = disconnect(small(), np.array([1]))
    assert connections(edit.network) == {(0, 2): 1, (2, 4): 3, (3, 4): 4}
    assert edit.network.architecture == [2, 2, 1]
    assert (edit.added, edit.freed, len(edit.new)) == (-1, 1, 0)


def test_redirect_takes_value_and_ancestry_along() -> None:
    edit = redirect(small(), np.array([0, 3]), np.array([1, 0]))
    assert connections(edit.network) == {(1, 2): 1, (1, 3): 2, (0, 4): 4, (2, 4): 3}
    assert edit.origin.tolist() == [0, 1, 3, 2, 4, 5, 6]
    assert edit.added == edit.freed == 0
    with pytest.raises(ValueError, match="twice"):
        redirect(small(), np.array([3]), np.array([2]))


def test_add_units_come_last_in_their_group() -> None:
    edit = add_units(small(), 1, np.array([8.0]))
    assert edit.network.architecture == [2, 3, 1]
    assert connections(edit.network) == {(0, 2): 1, (1, 3): 2, (2, 5): 3, (3, 5): 4}
    assert biases(edit.network) == [5, 6, 8, 7]
    assert edit.unit_origin.tolist() == [0, 1, 2, 3, -1, 4]
    assert edit.new.tolist() == [6]
    assert edit.number_now(np.array([4, 2])).tolist() == [5, 2]
    for group in (0, 2):
        with pytest.raises(ValueError, match="hidden groups only"):
            add_units(small(), group, np.array([8.0]))


def test_add_group_lies_between_its_neighbours() -> None:
    edit = add_group(small(), 2, np.array([8.0, 9.0]))
    assert edit.network.architecture == [2, 2, 2, 1]
    assert connections(edit.network) == {(0, 2): 1, (1, 3): 2, (2, 6): 3, (3, 6): 4}
    assert set(edit.network.topology.links) == {(0, 1), (1, 3)}
    assert edit.new_units.tolist() == [4, 5]
    for position in (0, 3):
        with pytest.raises(ValueError, match="between input and output"):
            add_group(small(), position, np.array([8.0]))


def test_remove_units_takes_their_connections() -> None:
    edit = remove_units(small(), np.array([2]))
    assert edit.network.architecture == [2, 1, 1]
    assert connections(edit.network) == {(1, 2): 2, (2, 3): 4}
    assert biases(edit.network) == [6, 7]
    assert edit.origin.tolist() == [1, 3, 5, 6]
    with pytest.raises(KeyError, match="unit 2 is gone"):
        edit.number_now(2)
    assert remove_units(small(), np.array([2, 3])).network.architecture == [2, 1]
    with pytest.raises(ValueError, match="hidden"):
        remove_units(small(), np.array([4]))


def test_then_follows_ancestry_through() -> None:
    first = connect(small(), np.array([1]), np.array([2]), 8.0)
    both = first.then(disconnect(first.network, np.array([0])))
    assert both.origin.tolist() == [-1, 1, 2, 3, 4, 5, 6]
    assert (both.added, both.freed, both.before) == (0, 1, 7)


def test_fold_by_hand() -> None:
    # Unit 3 loses its input: it is constantly relu(6), which the output takes over as 4 · 6 beside its 7.
    without = disconnect(small(), np.array([1])).network
    folded = fold(without)
    assert folded.network.architecture == [2, 1, 1]
    assert connections(folded.network) == {(0, 2): 1, (2, 3): 3}
    assert biases(folded.network) == [5, 31]
    # Unit 2 loses its output: it only goes.
    silent = fold(disconnect(small(), np.array([2])).network)
    assert connections(silent.network) == {(1, 2): 2, (2, 3): 4}
    assert biases(silent.network) == [6, 7]


@given(
    hidden=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    share=st.floats(0, 1),
    activation=st.sampled_from(list(ACTIVATIONS)),
    seed=st.integers(0, 10**6),
)
def test_fold_leaves_the_output_and_no_idle_unit(
    hidden: list[int], share: float, activation: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    network = StructNet([4, *hidden, 3], density=0.7, rng_seed=seed, activation=activation).double()
    with torch.no_grad():
        network.values.copy_(torch.from_numpy(rng.standard_normal(network.parameter_count)))
    gone = np.flatnonzero(rng.random(network.connection_count) < share)
    pruned = disconnect(network, gone).network
    edit: Edit = fold(pruned)
    topology = edit.network.topology
    inside = slice(int(topology.offsets[1]), int(topology.offsets[-2]))
    assert (topology.fan_in()[inside] > 0).all()
    assert (topology.fan_out()[inside] > 0).all()
    assert len(edit.new) == 0
    images = torch.from_numpy(rng.standard_normal((16, 4)))
    assert torch.allclose(edit.network(images), pruned(images), rtol=0, atol=1e-11)
