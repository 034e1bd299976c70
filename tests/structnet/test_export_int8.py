"""Networks in whole numbers: their scales by hand, what rounding costs at most, and what training them gives back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.c_cases import Case, calibrated, cases, image_model, model_of, network_of
from helpers.compiled_cases import linked
from helpers.export_cases import TABLE
from hypothesis import given
from hypothesis import strategies as st

from structnet import StructNet, fit, load_dataset
from structnet.data.dataset import Dataset
from structnet.errors import UserError
from structnet.export.fine_tune import fine_tuned, integers_for, judged
from structnet.export.model import Model
from structnet.network.activations import ACTIVATIONS, activation_named
from structnet.network.topology import Topology

FLAGS = [1, 2, 3, 4, 5, 7, 10, 12, 13, 14]  # of the inputs of TABLE


def by_hand(
    sizes: tuple[int, ...], source: list[int], target: list[int], values: list[float], **more: float
) -> Model:
    """A network of these values on pixels."""
    topology, _ = Topology.sorted(sizes, np.array(source), np.array(target))
    model = image_model(topology, "relu", **more)
    return replace(model, network=model.network.with_values(np.array(values)))


def test_the_largest_contribution_to_a_unit_is_127_steps() -> None:
    """Pixels of 255 are inputs of 1: a weight of 1.27 is 0.01 of a step for each; -0.635 is half of that."""
    model = by_hand((2, 1), [0, 1], [2, 2], [1.27, -0.635, 0.1])
    integers = calibrated(model, np.array([[0, 0], [255, 255]]))
    assert integers.weights.tolist() == [127, -64]
    # One step is 0.01 / 255 of a logit, and the sum of the only class is its logit times 255.
    assert integers.sum_scales[0] == pytest.approx(0.01 / 255)
    assert integers.multipliers.tolist() == [255] and integers.scale == pytest.approx(0.01 / 255 / 255)
    # 63.5 steps became 64, which at the mean pixel, 127.5, takes 63.75 from the sum: the bias gives it back.
    assert integers.biases.tolist() == [2550 + 64]
    assert integers.logits(np.array([[255, 0]])).tolist() == [[255 * (127 * 255 + 2614)]]


def test_codes_of_units_reach_to_the_largest_activation_seen() -> None:
    """The unit is 0.5 at most: its codes are 1/510 apart, but for a multiplier of 8 bits."""
    model = by_hand((1, 1, 1), [0, 1], [1, 2], [0.5, 1.0, 0.0, 0.0])
    integers = calibrated(model, np.array([[0], [255]]))
    step = 0.5 / 127 / 255
    multiplier, shift = int(integers.multipliers[0]), int(integers.shifts[0])
    assert integers.scales[1] == pytest.approx(step * 2**shift / multiplier)
    assert 1 / 510 <= integers.scales[1] < 1 / 510 * 129 / 128 and 128 <= multiplier <= 255
    sums = np.array([[-5, 0, 127 * 255, 127 * 255 * 3]])
    largest = round(0.5 / integers.scales[1])
    assert integers.codes_of(1, sums).tolist() == [[0, 0, largest, 255]] and largest in (253, 254, 255)


def test_pixels_that_end_early_are_shifted_where_they_meet_hidden_units() -> None:
    """Pixels of 16 times 16 have the scale of codes, so that the weights beside them keep their 8 bits."""
    model = by_hand((1, 1, 1), [0, 0, 1], [1, 2, 2], [1.0, 1.0, 1.0, 0.0, 0.0], full_scale=16.0)
    integers = calibrated(model, np.array([[0], [16]]))
    assert integers.input_shifts.tolist() == [0, 0, 4]
    assert integers.weights[1:].tolist() == [round(127 / (256 * integers.scales[1])), 127]
    assert integers.weights[1] > 120
    long = by_hand((1, 1, 1), [0, 0, 1], [1, 2, 2], [1.0, 1.0, 1.0, 0.0, 0.0])
    assert calibrated(long, np.array([[0], [255]])).input_shifts.tolist() == [0, 0, 0]


@given(case=cases())
def test_integers_stand_for_a_network_that_is_near(case: Case) -> None:
    """Each weight is off by half a step of its unit, and without hidden units nothing else is rounded."""
    model, network = case.model, case.model.network
    integers = case.integers or calibrated(model, case.raw)
    topology, inputs = network.topology, network.architecture[0]
    values, found = network.values.detach().double().numpy(), integers.values().astype(np.float64)
    unit = topology.target - inputs
    factor = np.where(
        topology.source < inputs, 2.0 ** integers.input_shifts[topology.group_of(topology.target)], 1.0
    )
    step = integers.sum_scales[unit] * factor / integers.scales[topology.source]
    # A step is at least what the largest value needs, and half a step more than rounding is single precision.
    assert np.all(np.abs(found - values)[: len(unit)] <= 0.501 * step + 1e-6 * np.abs(values[: len(unit)]))
    if len(network.architecture) == 2:
        codes = integers.codes_of_raw(case.raw)
        inputs_again = (codes * integers.scales + integers.offsets).astype(np.float32)
        said = network.with_values(found)(torch.from_numpy(inputs_again)).detach().numpy()
        np.testing.assert_allclose(
            integers.logits(case.raw) * integers.scale, said, atol=1e-5 * (1 + np.abs(said).max())
        )


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
@given(rng_seed=st.integers(0, 999))
def test_a_code_is_the_nearest_to_the_activation(activation: str, rng_seed: int) -> None:
    """To a bit more than half of what a code stands for, and where codes end the last of them."""
    rng = np.random.default_rng(rng_seed)
    network = network_of(linked([3, 4, 2], [0.8, 0.0, 1.0], rng), activation, rng_seed)
    model = model_of(
        network, {"kind": "image", "shape": [1, 1, 3], "full_scale": 255.0, "offset": [0.0], "scale": [255.0]}
    )
    integers = calibrated(model, rng.integers(0, 256, (30, 3)))
    bounds = integers.bounds[:4, None]
    sums = np.rint(bounds * np.linspace(-1, 1, 401)).astype(np.int64)
    exact = torch.from_numpy(sums * integers.sum_scales[:4, None])
    numbers = network.topology.shapes(network.values.detach()).double().reshape(4, -1)
    activations = activation_named(activation).of(exact, numbers).numpy()
    scale, offset = integers.scales[3:, None], integers.offsets[3:, None]
    inside = np.clip(activations, offset, offset + 255 * scale)
    wrong = np.abs(integers.codes_of(1, sums) * scale + offset - inside)
    # Lines between entries of the table of the sigmoid add to that; of SReLU the rounding of slopes and of thresholds.
    more = (0.25 if activation in ("tanh", "sigmoid") else 0.0) * scale
    if integers.bends is not None:
        bends = torch.abs(numbers[:, 1::2] - 1).amax(dim=1, keepdim=True).numpy()
        reach = np.abs(exact.numpy()) + torch.abs(numbers).sum(dim=1, keepdim=True).numpy()
        more = 0.51 * (bends * integers.sum_scales[:4, None] + 2.0**-integers.bends.bits * reach)
    assert np.all(wrong <= 0.5 * scale + more + 1e-12)


@given(
    rng_seed=st.integers(0, 999),
    size=st.sampled_from([1e-12, 1e-3, 1.0, 1e4, 1e12]),
    bias=st.sampled_from([0.0, 1e-9, 1.0, 1e9]),
)
def test_no_sum_leaves_32_bits_whatever_the_values_are(rng_seed: int, size: float, bias: float) -> None:
    """On the codes that make each sum largest and smallest; a network that could leave them is not made."""
    rng = np.random.default_rng(rng_seed)
    topology = linked([400, 5, 4, 3], rng.random(6).tolist(), rng)
    model = image_model(topology, list(ACTIVATIONS)[rng_seed % 4], rng_seed)
    values = model.network.values.detach() * size
    values[topology.connections :] *= bias / size
    model = replace(model, network=model.network.with_values(values))
    raw = rng.integers(0, 256, (20, 400))
    try:
        integers = calibrated(model, raw)
    except UserError as error:
        assert "activations that are not finite" in str(error) and size * bias > 1
        return
    for group in range(1, topology.groups):
        for sign in (-1, 1):
            for unit in range(*topology.offsets[group : group + 2]):
                state = np.zeros((topology.units, 1), dtype=np.int64)
                row = topology.target == unit
                state[topology.source[row], 0] = np.where(sign * integers.weights[row] > 0, 255, 0)
                most = integers.sums(group, state)[unit - topology.offsets[group], 0]
                assert abs(int(most)) <= integers.bounds[unit - 400] <= 2**31 - 1
    assert np.all(np.abs(integers.logits(np.full((1, 400), 255)).astype(np.int64)) <= 2**31 - 1)
    for part in (slice(0, 9), slice(9, 12)):  # hidden units, classes
        biases = integers.biases.copy()
        biases[part] = 2**31 - 1
        with pytest.raises(ValueError, match="may leave 32 bits"):
            integers.with_biases(
                np.where(integers.bounds > np.abs(integers.biases.astype(np.int64)), biases, -(2**31))
            )


def test_sums_of_many_weights_have_larger_steps() -> None:
    """70,000 · 127 · 255 is more than 32 bits hold, of a hidden unit and of a class."""
    topology = linked([70_000, 1, 1], [1.0, 1.0, 0.0], np.random.default_rng(0))
    model = image_model(topology, "relu")
    values = torch.ones(topology.parameters)
    model = replace(model, network=model.network.with_values(values))
    raw = np.full((2, 70_000), [[0], [255]])
    integers = calibrated(model, raw)
    assert 2**29 < integers.bounds.max() <= 2**31 - 1
    np.testing.assert_allclose(integers.logits(raw) * integers.scale, model.logits(raw), rtol=0.01, atol=100)


def test_steps_are_as_large_as_a_threshold_needs() -> None:
    """All sums lie below a left threshold of 1,000, which is 3 · 10¹³ of the steps that the weights need."""
    topology = linked([1, 1, 1], [1.0, 0.0, 1.0], np.random.default_rng(0))
    model = image_model(topology, "srelu")
    network = model.network.with_values(np.array([1e-6, 1.0, 0.0, 0.0, 1e3, 0.5, 1.0, 1.0]))
    for sign in (1, -1):
        network.topology.shapes(network.values.detach())[:] = torch.tensor(
            [1e3, 0.5, 1.0, 1.0] if sign > 0 else [-2e3, 1.0, 1e3, 0.5]
        )
        model = replace(model, network=network)
        integers = calibrated(model, np.array([[0], [255]]))
        np.testing.assert_allclose(integers.values()[4:], network.values.detach().numpy()[4:], rtol=1e-4)


def test_units_that_nothing_leads_to_and_that_never_move_have_codes() -> None:
    """A constant, a unit that is always 0, and a class of which nothing is known."""
    model = by_hand((1, 2, 2), [0, 1, 2], [2, 3, 3], [-1.0, 1.0, 1.0, 0.3, -0.1, 0.0, -7.5])
    raw = np.array([[0], [100], [255]])
    integers, expected = calibrated(model, raw), model.logits(raw)
    np.testing.assert_allclose(integers.logits(raw) * integers.scale, expected, atol=0.01)


def test_flags_of_a_table_are_0_and_255_and_a_constant_column_is_in_range() -> None:
    network = network_of(linked([15, 2], [1.0], np.random.default_rng(0)), "relu", 0)
    model = Model("net", network, TABLE, ("a", "b"))
    raw = np.array([[0.3, 3, 0.2, 1.0, 2.0, 1, 1e-9, 2], [0.3, np.nan, np.nan, 2.0, -3.0, 0, 2e-9, np.nan]])
    integers = calibrated(model, raw)
    codes = integers.codes_of_raw(raw)
    # What is 1 in every row is no less a flag.
    for some in (integers, calibrated(model, raw[:1])):
        assert np.all(some.offsets[FLAGS] == 0) and np.all(some.scales[FLAGS] == 1 / 255)
    # plain | red green blue other missing | holes, missing | logarithm | square | known | tiny | x y missing
    assert codes[:, FLAGS].tolist() == [
        [0, 0, 0, 255, 0, 0, 255, 0, 0, 0],
        [0, 0, 0, 0, 255, 255, 0, 0, 0, 255],
    ]
    # Of two rows one is the least and the other the largest.
    assert codes[:, [6, 8, 9, 11]].tolist() == [[0, 0, 255, 0], [255, 255, 0, 255]]
    assert codes[:, 0].tolist() == [0, 0] and integers.offsets[0] == pytest.approx(0.3 - 0.25)


def test_values_that_are_not_finite_are_refused() -> None:
    model = by_hand((2, 1), [0, 1], [2, 2], [1.0, float("nan"), 0.0])
    with pytest.raises(
        UserError, match="model 'net' has values that are not finite, which no integers stand for"
    ):
        calibrated(model, np.array([[0, 0], [255, 255]]))


def test_bytes_are_those_of_all_tables() -> None:
    """4 weights and their biases, the length of a row and one index each, a multiplier for each unit, and a shift."""
    model = by_hand((20, 2, 1), [3, 19, 4, 20], [20, 20, 21, 22], [1.0, 0.5, 0.2, 2.0, 0.1, 0.2, 0.3])
    integers = calibrated(model, np.array([[0] * 20, [255] * 20]))
    tables = {name: table.nbytes for name, table in integers.tables().items()}
    assert tables == {
        "g1_biases": 4 if integers.biases[:2].max() > 127 else 2,
        "g1_input_weights": 3,
        "g1_input_counts": 2,
        "g1_input_sources": 3,
        "g1_multipliers": 2,
        "g1_shifts": 2,
        "g2_biases": tables["g2_biases"],
        "g2_hidden_weights": 1,
        "g2_multipliers": 1,
    }
    assert integers.bytes == sum(tables.values())


@pytest.fixture(scope="module")
def coarse() -> tuple[Dataset, Model]:
    """Digits, and a network that rounding harms: each unit has a weight of 200 from a pixel that is always 0."""
    data = load_dataset("digits")
    dead = 0
    assert data.train.stored.reshape(len(data.train), -1)[:, dead].max() == 0
    network = StructNet([64, 12, 10], 0.4, rng_seed=0)
    fit(network, data, epochs=30, learning_rate=1e-2)
    topology, values = network.topology, network.values.detach().clone()
    kept = (topology.source != dead).nonzero()[0]
    source = np.concatenate([topology.source[kept], np.full(12, dead)])
    target = np.concatenate([topology.target[kept], np.arange(64, 76)])
    wider, order = Topology.sorted(network.architecture, source, target)
    given = torch.cat([values[kept], torch.full((12,), 200.0)])
    made = network.like(wider, torch.cat([given[order], values[topology.connections :]]))
    return data, Model("net", made, data.preprocessing, data.class_names)


def test_integers_that_lose_too_much_are_trained(coarse: tuple[Dataset, Model]) -> None:
    data, model = coarse
    integers, report = integers_for(model, data)
    assert report.exact - report.rounded > 0.02 and report.trained is not None
    assert report.exact - report.trained < 0.2 * (report.exact - report.rounded)
    assert judged(integers, data.validation).accuracy == report.trained == report.accuracy
    said = f"{report.rounded:.2%} in int8 as rounded, and {report.trained:.2%} after 1,000 steps of training them."
    assert str(report) == f"On validation: {report.exact:.2%} in float32, {said}"


def test_integers_that_lose_little_stay_as_they_were_rounded() -> None:
    """And the test set, here an empty one, says nothing to them."""
    data = load_dataset("digits")
    network = StructNet([64, 12, 10], 0.4, rng_seed=0)
    fit(network, data, epochs=30, learning_rate=1e-2)
    model = Model("net", network, data.preprocessing, data.class_names)
    integers, report = integers_for(model, replace(data, test=data.test.part(0, 0)))
    assert report.trained is None and report.exact - report.rounded <= 0.001
    assert report.accuracy == report.rounded == judged(integers, data.validation).accuracy
    assert str(report).endswith(f"{report.rounded:.2%} in int8 as rounded.")
    rounded = calibrated(model, data.train.stored.numpy())
    np.testing.assert_array_equal(integers.weights, rounded.weights)


def test_training_that_does_harm_is_left(coarse: tuple[Dataset, Model]) -> None:
    """Of wrong labels."""
    data, model = coarse
    rounded = calibrated(model, data.train.stored.numpy())
    wrong = replace(data, train=data.train.relabelled((data.train.labels + 1) % 10))
    assert fine_tuned(model, wrong, rounded, steps=300) is rounded


def test_the_sign_of_a_width_of_srelu_is_free_in_training_too() -> None:
    data = load_dataset("digits")
    network = StructNet([64, 8, 10], 0.4, activation="srelu")
    found = []
    for sign in (1.0, -1.0):
        values = network.values.detach().clone()
        network.topology.shapes(values).view(-1, 4)[:, 2] = 0.3 * sign
        model = Model("net", network.with_values(values), data.preprocessing, data.class_names)
        found.append(
            fine_tuned(model, data, calibrated(model, data.train.stored.numpy()), steps=200).values()
        )
    np.testing.assert_array_equal(found[0], found[1])
