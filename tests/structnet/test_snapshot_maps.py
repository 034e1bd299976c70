"""Feature maps in snapshots and state dicts: back to the bit, on to the bit, and nothing damaged is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.map_networks import random_images, random_map_network
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load, save

from structnet import StructNet
from structnet.errors import UserError
from structnet.network.architecture import Architecture
from structnet.network.state import TrainState
from structnet.network.topology import Topology
from structnet.storage.snapshot import load_snapshot, save_snapshot
from structnet.training.loop import train_steps
from structnet.training.recipe import Recipe

Arrays = dict[str, np.ndarray]


def bits(array: torch.Tensor | np.ndarray | None) -> tuple[str, bytes] | None:
    if array is None:
        return None
    found = array.detach().numpy() if isinstance(array, torch.Tensor) else array
    return str(found.dtype), found.tobytes()


def known(network: StructNet) -> list[Any]:
    """All that a network is."""
    topology = network.topology
    arrays = topology.source, topology.target, network.values, network.statistics
    return [topology.architecture, network.activation, *map(bits, arrays)]


def known_state(state: TrainState) -> list[Any]:
    adam = state.optimizer
    told = state.step, adam.step, adam.beta1, adam.beta2, adam.epsilon
    return [*known(state.network), *told, bits(adam.first), bits(adam.second), bits(state.born)]


def with_a_past(network: StructNet, rng: np.random.Generator) -> TrainState:
    """As if it had been trained for a while."""
    state = TrainState.fresh(network)
    for moment in (state.optimizer.first, state.optimizer.second):
        moment.copy_(torch.from_numpy(rng.random(network.parameter_count)))
    state.step, state.optimizer.step = 12, 9
    state.born[:] = rng.integers(0, 13, network.parameter_count)
    return state


@given(
    st.integers(0, 10**6), st.sampled_from([torch.float32, torch.float64]), st.sampled_from(["relu", "tanh"])
)
def test_back_to_the_bit(
    tmp_path_factory: pytest.TempPathFactory, seed: int, dtype: torch.dtype, activation: str
) -> None:
    rng = np.random.default_rng(seed)
    state = with_a_past(random_map_network(rng, activation=activation, dtype=dtype), rng)
    path = str(tmp_path_factory.mktemp("maps") / "net")
    save_snapshot(path, state, preprocessing={})
    assert known_state(load_snapshot(path).state) == known_state(state)
    assert known(StructNet.load(path)) == known(state.network)


def test_training_goes_on_to_the_bit(tmp_path: Path) -> None:
    """60 steps are 30, a snapshot, and 30 more; with a batch that is no multiple of a block."""
    rng = np.random.default_rng(3)
    shape = Architecture([1, 3, 4, 3], [(6, 5), (6, 5), (3, 3), (1, 1)], flat=[2])
    network = random_map_network(rng, shape, normalised=True, share=0.5)
    split, recipe = random_images(rng, shape, 90), Recipe(41, l1=1e-4, input_dropout=0.1, shift=1, flip=True)
    whole, half = TrainState.fresh(network.fork()), TrainState.fresh(network.fork())
    losses = train_steps(whole, split, recipe, 60, lambda step: 0.01 / (1 + step))
    first = train_steps(half, split, recipe, 30, lambda step: 0.01 / (1 + step))
    save_snapshot(str(tmp_path / "half"), half, preprocessing={})
    again = load_snapshot(str(tmp_path / "half")).state
    rest = train_steps(again, split, recipe, 30, lambda step: 0.01 / (1 + step))
    assert known_state(again) == known_state(whole)
    assert torch.equal(torch.cat([first, rest]), losses)
    assert known(whole.network) != known(network)


def small() -> StructNet:
    """2 maps of 2 × 2 into one of 2 × 2, with a flat group, and three classes; unit numbers 0 1 | 2 | 3 4 5.

    Window 1: ports of units 0 and 1 are their centre and mean, 0 1 and 2 3; of unit 2 also its positions, 4 … 9.
    """
    shape = Architecture([2, 1, 3], [(2, 2), (2, 2), (1, 1)], window=1, flat=[1])
    topology = Topology(shape, np.array([0, 2, 3, 5, 6, 9], np.int32), np.array([2, 2, 4, 3, 3, 5], np.int32))
    return StructNet.from_parts(
        Topology.sorted(shape, topology.source, topology.target)[0],
        torch.arange(10, dtype=torch.float32),
        statistics=torch.tensor([[0.5, 0, 0, 0], [2.0, 1, 1, 1]]),
    )


@pytest.fixture
def written(tmp_path: Path) -> Path:
    small().save(str(tmp_path / "maps"))
    return tmp_path / "maps"


def test_what_is_in_the_file(written: Path) -> None:
    arrays = load(written.with_suffix(".safetensors").read_bytes())
    assert arrays["architecture"].tolist() == [2, 1, 3]
    assert arrays["sides"].tolist() == [[2, 2], [2, 2], [1, 1]]
    assert (arrays["window"].tolist(), arrays["flat"].tolist()) == ([1], [1])
    # Into the map, then from the inputs into the output, then from the map: its mean and two of its positions.
    assert arrays["source"].tolist() == [0, 1, 1, 2, 2, 2]
    assert arrays["offset"].tolist() == [0, 0, 1, 1, 2, 5]
    assert arrays["target"].tolist() == [2, 2, 4, 3, 3, 5]
    assert arrays["offset"].dtype == np.int32
    assert arrays["statistics"].tolist() == [[0.5, 0, 0, 0], [2.0, 1, 1, 1]]


def test_a_network_that_does_not_normalise_has_no_statistics(tmp_path: Path) -> None:
    folded = small().folded()
    folded.save(str(tmp_path / "folded"))
    assert "statistics" not in load((tmp_path / "folded.safetensors").read_bytes())
    assert StructNet.load(str(tmp_path / "folded")).statistics is None


def test_networks_without_maps_are_written_as_ever(tmp_path: Path) -> None:
    network = StructNet([6, 4, 3], 0.5, rng_seed=3)
    network.save(str(tmp_path / "plain"))
    topology, zeros = network.topology, np.zeros(network.parameter_count, np.float32)
    expected = save(
        {
            "values": network.values.detach().numpy(),
            "first": zeros,
            "second": zeros,
            "born": np.zeros(network.parameter_count, np.int64),
            "source": topology.source,
            "target": topology.target,
            "architecture": np.array([6, 4, 3]),
        }
    )
    assert (tmp_path / "plain.safetensors").read_bytes() == expected


def _at(name: str, place: Any, value: Any) -> Callable[[Arrays], None]:
    def change(arrays: Arrays) -> None:
        arrays[name][place] = value

    return change


def _without(*names: str) -> Callable[[Arrays], None]:
    def change(arrays: Arrays) -> None:
        for name in names:
            del arrays[name]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_at("sides", 1, (3, 2)), "group 1 has maps of 3 × 2 after maps of 2 × 2"),
        (_at("sides", 1, (2, 0)), "sides are at least 1"),
        (_at("sides", 0, (0, 0)), "sides are at least 1"),
        (_at("sides", 2, (2, 2)), "the output is .* but must be plain"),
        (_at("sides", slice(None), 1), "there are sides, but no group has maps"),
        (lambda a: a.update(sides=a["sides"][:2]), r"'sides' has shape \(2, 2\)"),
        (lambda a: a.update(sides=a["sides"].reshape(-1)), r"'sides' has shape \(6,\)"),
        (lambda a: a.update(sides=a["sides"].astype(np.float32)), "'sides' has shape .* and type float32"),
        (_at("window", 0, 2), "the window is 2, but must be odd"),
        (_at("window", 0, 2**33 + 1), "more units than can be numbered"),
        (lambda a: a.update(window=np.array([1, 1])), r"'window' \(2,\)"),
        (_at("flat", 0, 3), "group 3 is flat, but groups are numbered 0 … 2"),
        (_at("flat", 0, -1), "group -1 is flat"),
        (_at("flat", 0, 0), "starts at a port that its source does not have"),
        (_at("offset", 0, 1), "from group 0 to group 1 starts at a port it cannot read"),
        (_at("offset", 2, 0), "from group 0 to group 2 starts at a port it cannot read"),
        (_at("offset", 0, 2), "starts at a port that its source does not have"),
        (_at("offset", 5, -1), "starts at a port that its source does not have"),
        (_at("offset", slice(3, 5), (3, 2)), "not in their order"),
        (_at("offset", slice(3, 5), 4), "given twice"),
        (_at("source", 0, 7), "a connection names a unit outside 0 … 5"),
        (_at("source", 0, -1), "a connection names a unit outside 0 … 5"),
        (_at("target", 5, 6), "a connection names a unit outside 0 … 5"),
        (lambda a: a.update(offset=a["offset"][:-1]), "5 offsets for 6 connections"),
        (_without("offset"), "its arrays are"),
        (_without("window", "flat"), "its arrays are"),
        (_without("sides"), "its arrays are"),
        (_without("offset", "sides", "window", "flat", "statistics"), "given twice"),
        (_at("statistics", (1, 0), -0.5), "a variance is negative"),
        (_at("statistics", (0, 0), np.nan), "a mean or a variance is not finite"),
        (_at("statistics", (1, 3), np.inf), "a mean or a variance is not finite"),
        (lambda a: a.update(statistics=a["statistics"][:, :3]), "'statistics' has shape"),
        (lambda a: a.update(statistics=a["statistics"][0]), "'statistics' has shape"),
        (lambda a: a.update(statistics=a["statistics"].astype(np.float64)), "have different types"),
        (lambda a: a.update(extra=a["flat"]), "its arrays are"),
    ],
)
def test_damaged_files_are_refused(written: Path, change: Callable[[Arrays], None], message: str) -> None:
    """Whoever writes the tensors can write their checksum as well, so the checksum is not enough."""
    file = written.with_suffix(".safetensors")
    arrays = {name: array.copy() for name, array in load(file.read_bytes()).items()}
    change(arrays)
    data = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    file.write_bytes(data)
    content = json.loads(written.with_suffix(".json").read_text())
    content["tensors_sha256"] = hashlib.sha256(data).hexdigest()
    written.with_suffix(".json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=message) as refused:
        load_snapshot(str(written))
    assert str(refused.value).startswith(f"{file} is damaged: ")
    assert "\n" not in str(refused.value)


# --- state dicts


@given(st.integers(0, 10**6))
def test_a_state_dict_is_the_whole_network(seed: int) -> None:
    network = random_map_network(np.random.default_rng(seed))
    state = network.state_dict()
    assert known(StructNet.from_state_dict(state)) == known(network)
    target = torch.nn.Sequential(StructNet([7, 2], 1.0))
    result = target.load_state_dict({f"0.{name}": tensor for name, tensor in state.items()})
    assert (result.missing_keys, result.unexpected_keys) == ([], [])
    assert known(target[0]) == known(network)


def test_state_dicts_between_networks_with_and_without_maps() -> None:
    maps, plain = small(), StructNet([7, 4, 2], 0.5)
    holder = small()
    holder.load_state_dict(plain.state_dict())
    assert known(holder) == known(plain)
    holder.load_state_dict(maps.state_dict())
    assert known(holder) == known(maps)
    with torch.no_grad():
        assert holder.statistics is not None and maps.statistics is not None
        holder.statistics.zero_()
        assert maps.statistics.abs().sum() > 0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"statistics": torch.ones(2, 3)}, "'statistics' has shape"),
        ({"statistics": -torch.ones(2, 4)}, "a variance is negative"),
        ({"sides": torch.ones(3, 2, dtype=torch.int64)}, "no group has maps"),
        ({"offset": torch.zeros(6, dtype=torch.int32)}, "starts at a port it cannot read"),
    ],
)
def test_damaged_state_dicts_are_refused(changed: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StructNet.from_state_dict(small().state_dict() | changed)
