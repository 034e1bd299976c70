"""Feature maps in whole numbers: their codes by hand, what rounding costs at most, and what training gives back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.c_cases import calibrated, model_of, network_of
from helpers.export_cases import TABLE
from helpers.map_exports import map_case, preprocessing_of, raw_for
from helpers.map_networks import random_map_network

from structnet import StructNet, fit, load_dataset
from structnet.data.dataset import Dataset
from structnet.errors import UserError
from structnet.export.fine_tune import fine_tuned, integers_for, judged
from structnet.export.int8_map_scales import known_activations
from structnet.export.int8_maps import IntegerMaps
from structnet.export.model import Model
from structnet.network.architecture import Architecture, sizes_of
from structnet.network.topology import Topology

CASES = 24


def integers_of(model: Model, raw: np.ndarray) -> IntegerMaps:
    found = calibrated(model, raw)
    assert isinstance(found, IntegerMaps)
    return found


def by_hand(
    shape: Architecture, ends: list[tuple[int, int, int]], values: list[float], **more: float
) -> Model:
    """A network of these (unit, code of its port, target) and values, on pixels."""
    bare = Topology(shape, np.empty(0, np.int32), np.empty(0, np.int32))
    unit, code, target = np.array(ends).T
    topology, order = Topology.sorted(shape, bare.port_of(unit, code), target)
    assert np.all(np.diff(order) > 0)
    network = network_of(topology, "relu", 0).with_values(np.array(values))
    preprocessing = preprocessing_of(shape, "unit")
    if more:
        preprocessing |= {"full_scale": more["full_scale"], "scale": [more["full_scale"]] * shape[0]}
    return model_of(network, preprocessing)


def test_the_mean_of_a_map_has_a_code_of_its_own() -> None:
    """Pixels up to 255 on a map of 2 × 2, whose mean is 1/4 at most: codes of means are 1/4 ÷ 255 apart."""
    model = by_hand(sizes_of("1@2,3x3,1"), [(0, 9, 1)], [2.0, 0.0])
    raw = np.array([[[[0, 0], [0, 255]]], [[[0, 0], [0, 0]]]])
    integers = integers_of(model, raw)
    multiplier, shift = int(integers.mean_multipliers[0]), int(integers.mean_shifts[0])
    assert 0.25 / 255 <= integers.mean_scales[0] < 0.25 / 255 * 129 / 128
    assert integers.mean_scales[0] == pytest.approx(1 / 255 / 4 * 2**shift / multiplier)
    known = integers.known_input(integers.codes_of_raw(raw))
    assert known.states[0, :, :, 0].tolist() == [[0, 0], [0, 255]]
    assert known.means[0, 0] == round(0.25 / integers.mean_scales[0]) and known.means[0, 1] == 0
    # Beyond what was seen a code ends.
    assert integers.known_input(np.full((1, 4), 255, np.uint8)).means.tolist() == [[255]]
    assert integers.weights.tolist() == [127] and len(integers.tables()["g0_mean_multipliers"]) == 1


def test_a_map_has_one_scale_for_all_its_positions() -> None:
    """The centre tap of a map that is 0.5 at most, at one position only."""
    model = by_hand(sizes_of("1@2,3x3,1@2,1"), [(0, 4, 1), (1, 9, 2)], [0.5, 1.0, 0.0, 0.0])
    integers = integers_of(model, np.array([[[[0, 0], [255, 0]]], [[[0, 0], [0, 0]]]]))
    assert integers.scales.shape == (2,) and 1 / 510 <= integers.scales[1] < 1 / 510 * 129 / 128
    codes = integers.known(1, integers.map_sums(1, [integers.known_input(np.array([[0, 0, 255, 0]]))]))
    assert codes.states[0, :, :, 0].tolist() == [[0, 0], [round(0.5 / integers.scales[1]), 0]]


def test_pixels_that_end_early_are_shifted() -> None:
    """Those of 16 by three bits; what cannot be one ends at 255."""
    model = by_hand(sizes_of("1@2,3x3,1@2,1"), [(0, 4, 1), (1, 9, 2)], [0.5, 1.0, 0.0, 0.0], full_scale=16.0)
    integers = integers_of(model, np.array([[[[0, 0], [16, 0]]], [[[0, 0], [0, 0]]]]))
    assert integers.pixel_bits == 3 and integers.scales[0] == 1 / 128
    assert integers.codes_of_raw(np.array([[0, 1, 16, 40]])).tolist() == [[0, 8, 128, 255]]
    assert integers.codes(np.array([[0.0, 1 / 16, 1.0, 1.5]])).tolist() == [[0, 8, 128, 192]]


@pytest.mark.parametrize("in_order", [False, True])
def test_what_is_beyond_a_map_counts_as_0(in_order: bool) -> None:
    """Of tanh, whose codes stand for -1 to 1, and of channels with offsets of their own."""
    shape = sizes_of("2@3,2@3,2@3,2")
    preprocessing = preprocessing_of(shape, "standardised")
    network = random_map_network(
        np.random.default_rng(0), shape, activation="tanh", share=0.7, normalised=False
    )
    model = model_of(network, preprocessing if in_order else preprocessing | {"offset": [33.0, 33.0]})
    integers = integers_of(model, raw_for(model, 30))
    offsets = model.preprocessing["offset"]
    assert integers.zeros.tolist() == [*(round(offset) for offset in offsets), 128, 128, 128, 128]
    assert integers.layout.is_apart == in_order
    raw = raw_for(model, 50, 1)
    wrong = np.abs(integers.logits(raw) * integers.scale - model.logits(raw)).max()
    assert wrong < 0.05 * np.abs(model.logits(raw)).max()


def test_integers_stand_for_a_network_that_is_near() -> None:
    """Each weight is off by half a step of its unit."""
    for rng_seed in range(CASES):
        case = map_case(rng_seed, in_integers=True)
        integers, network = case.integers, case.model.network
        assert isinstance(integers, IntegerMaps)
        topology = network.topology
        values, found = network.values.detach().double().numpy(), integers.values().astype(np.float64)
        step = integers.sum_scales[topology.target - topology.architecture[0]] / integers.read_codes.scales
        count = topology.connections
        assert np.all(np.abs(found - values)[:count] <= 0.501 * step + 1e-6 * np.abs(values[:count]))


def test_no_sum_leaves_its_bound_whatever_the_codes_are() -> None:
    rng = np.random.default_rng(0)
    for rng_seed in range(CASES):
        integers = map_case(rng_seed, in_integers=True).integers
        assert isinstance(integers, IntegerMaps)
        codes = 255 * rng.integers(0, 2, (20, integers.topology.architecture.inputs)).astype(np.uint8)
        known = [integers.known_input(codes)]
        first = integers.topology.architecture[0]
        for group in range(1, integers.topology.groups):
            sums = integers.map_sums(group, known)
            units = integers.topology.units_of(group)
            assert np.all(np.abs(sums) <= integers.bounds[units.start - first : units.stop - first, None])
            if group < integers.topology.groups - 1:
                known.append(integers.known(group, sums))


def test_sums_have_the_means_that_they_have_in_the_network() -> None:
    """To half a step, on the inputs that scales are taken from; where 0 has a code of its own."""
    shape = sizes_of("2@5,3@5,flat,3@3,4,2")
    network = random_map_network(np.random.default_rng(1), shape, normalised=False, share=0.5)
    model = model_of(network, preprocessing_of(shape, "unit"))
    raw = raw_for(model, 40)
    integers, inputs = integers_of(model, raw), model.inputs(raw)
    exact = known_activations(network, inputs)
    with torch.no_grad():
        wanted = network(torch.from_numpy(inputs)).double().numpy().mean(axis=0)
    known = [integers.known_input(integers.codes(inputs))]
    for group in range(1, 5):
        sums = integers.map_sums(group, known)
        if group < 4:
            known.append(integers.known(group, sums))
            units = integers.topology.units_of(group)
            seen = known[-1].states.mean((1, 2, 3)) * integers.scales[units]
            assert np.abs(seen - exact[group].states.mean((1, 2, 3))).max() < 0.02
    first, steps = integers.topology.bias_count - 2, integers.sum_scales[-2:]
    assert first > 0 and np.all(np.abs(sums.mean(axis=1) * steps - wanted) <= 0.5001 * steps + 1e-6)


def test_columns_that_differ_and_channels_in_one_map_are_refused() -> None:
    shape = Architecture([1, 1, 2], [(3, 5), (3, 5), (1, 1)])
    network = random_map_network(np.random.default_rng(0), shape, normalised=False)
    table = Model("net", network, TABLE, ("a", "b"))
    raw = np.array([[0.3, 3, 0.2, 1.0, 2.0, 1, 1e-9, 2]])
    with pytest.raises(UserError, match="int8 is given, but the columns of net are of different kinds"):
        calibrated(table, raw)
    about = {"kind": "image", "shape": [3, 1, 5], "full_scale": 255.0, "scale": [1.0] * 3}
    mixed = model_of(network, about | {"offset": [0.0, 1.0, 2.0]})
    with pytest.raises(UserError, match="int8 is given, but maps of net have pixels of several channels"):
        calibrated(mixed, raw_for(mixed, 3))
    alike = model_of(network, about | {"offset": [1.0] * 3})
    assert isinstance(calibrated(alike, raw_for(alike, 3)), IntegerMaps)


@pytest.fixture(scope="module")
def digits() -> tuple[Dataset, Model]:
    data = load_dataset("digits")
    network = StructNet(sizes_of("1@8,6@8,8@4,10"), 0.8, rng_seed=0)
    fit(network, data, epochs=40, learning_rate=2e-2)
    return data, Model("net", network, data.preprocessing, data.class_names)


def test_a_trained_network_loses_little(digits: tuple[Dataset, Model]) -> None:
    data, model = digits
    integers, report = integers_for(model, data)
    assert report.exact > 0.7 and report.exact - report.accuracy <= 0.01
    raw = data.test.stored.numpy()
    agree = integers.logits(raw).argmax(axis=1) == model.logits(raw).argmax(axis=1)
    assert agree.mean() > 0.97


def test_integers_that_lose_too_much_are_trained(digits: tuple[Dataset, Model]) -> None:
    """One tap of a map is 30 times the others, which have few steps beside it."""
    data, model = digits
    network = model.network
    topology, values = network.topology, network.values.detach().clone()
    taps = topology.span_of((1, 2))
    largest = values[taps].abs().max()
    values[taps.start] = 30 * largest
    coarse = replace(model, network=network.with_values(values))
    rounded = calibrated(coarse, data.train.stored.numpy())
    trained = fine_tuned(coarse, data, rounded, steps=200)
    before, after = judged(rounded, data.validation), judged(trained, data.validation)
    assert isinstance(trained, IntegerMaps) and after.accuracy > before.accuracy + 0.02
