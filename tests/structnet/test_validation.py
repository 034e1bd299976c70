"""The checks before an experiment: each on small cases that pass and that fail, and all of them together."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers.data_files import number_table
from hypothesis import given
from hypothesis import strategies as st

from structnet import StructNet, load_dataset
from structnet.data.dataset import Dataset, Split
from structnet.experiments import checks, validation
from structnet.experiments.validation import (
    Trained,
    baselines,
    fits_tiny_batch,
    learns,
    least_accuracy,
    sampled,
    shuffled_labels,
    stays_at_chance,
    tiny_batch_losses,
    validate,
)
from structnet.measure.diagnosis import Diagnosis, diagnose
from structnet.network.remap import from_sequential
from structnet.network.topology import Topology
from structnet.training.evaluation import Evaluation

COLUMNS = {
    "kind": "columns",
    "shape": [1],
    "scaling": "unit",
    "columns": ["a"],
    "offset": [0.0],
    "scale": [1.0],
    "class_names": ["x", "y"],
}


def column(values: list[float]) -> torch.Tensor:
    return torch.tensor(values)[:, None]


def table(
    train: list[float],
    validation: list[float],
    test: list[float],
    labels: tuple[list[int], list[int]] | None = None,
) -> Dataset:
    """One input, two classes; the test split has inputs only, so that reading its labels raises."""
    given = labels or ([0, 1] * len(train), [0, 1] * len(validation))
    splits = [
        Split(column(values), torch.tensor(mine[: len(values)]))
        for values, mine in zip((train, validation), given)
    ]
    unlabelled: Any = SimpleNamespace(images=column(test), stored=column(test))
    return Dataset("table", *splits, unlabelled, 2, ("x", "y"), COLUMNS)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    """Without the labels of the test images: reading them raises."""
    data = load_dataset("digits")
    unlabelled: Any = SimpleNamespace(images=data.test.images, stored=data.test.stored)
    return replace(data, test=unlabelled)


def base(rng_seed: int = 0, density: float = 0.1) -> StructNet:
    return StructNet([64, 32, 10], density, rng_seed=rng_seed, ensure_paths=True)


def made(
    architecture: list[int], pairs: list[tuple[int, int]], weights: list[float], biases: list[float]
) -> StructNet:
    """A network from its connections; pairs in the order of a topology."""
    source, target = np.array(pairs, dtype=int).reshape(-1, 2).T
    topology, _ = Topology.sorted(architecture, source, target)
    return StructNet.from_parts(topology, torch.tensor([*weights, *biases]))


def diagnosed(network: StructNet) -> Diagnosis:
    images = torch.rand(40, network.architecture[0], generator=torch.Generator().manual_seed(0))
    return diagnose(network, images, torch.arange(40) % network.architecture[-1])


# The data


def test_every_class_needs_images_to_train_and_to_validate() -> None:
    assert checks.classes_present(table([0, 1], [0, 1], [0])).passed
    for labels in (([0, 0], [0, 1]), ([0, 1], [1, 1])):
        found = checks.classes_present(table([0, 1], [0, 1], [0], labels))
        assert not found.passed
        assert "0 of class" in found.value


def test_duplicates_are_counted_number_for_number() -> None:
    """-0.0 is 0.0; the next number after 1 is another one; a validation image doubled there counts twice."""
    data = table([0.0, 1.0, 2.0], [-0.0, -0.0, float(np.nextafter(np.float32(1), np.float32(2)))], [2.0, 5.0])
    found = checks.no_duplicates(data)
    assert found.value == "2 of 3 validation images, 1 of 2 test images"
    assert not found.passed


def test_duplicates_may_be_one_in_a_hundred() -> None:
    new = [float(value) for value in range(1, 101)]
    assert checks.no_duplicates(table([0.0], [0.0, *new[1:]], new)).passed
    assert not checks.no_duplicates(table([0.0], [0.0, 0.0, *new[2:]], new)).passed
    assert not checks.no_duplicates(table([0.0], new, [0.0, 0.0, *new[2:]])).passed


def test_moments_by_hand() -> None:
    """Of 1, 2, 3, 6: mean 3, variance (4 + 1 + 0 + 9) ÷ 4."""
    split = Split(torch.tensor([[1.0, 2.0], [3.0, 6.0]]), torch.zeros(2, dtype=torch.int64))
    assert checks.moments(split) == pytest.approx((1, 6, 3, math.sqrt(3.5)))


@pytest.mark.parametrize(
    ("values", "passes"),
    [([0, 1], True), ([0, 20], True), ([0, 20.1], False), ([0, 0.01], False), ([0, math.nan], False)],
)
def test_inputs_must_be_finite_and_of_middling_spread(values: list[float], passes: bool) -> None:
    assert checks.inputs_in_range(table(values, [0, 1], [0])).passed is passes


@pytest.mark.parametrize(
    ("validation", "test", "passes"),
    [
        ([0, 1], [0, 1], True),
        ([0.2, 1.0], [0.1, 1.1], True),
        ([0.3, 1.3], [0, 1], False),
        ([0, 1], [0.3, 1.3], False),
        ([0.3, 0.7], [0, 1], False),
        ([0, 1], [-1, 2], False),
        ([0, 1], [0, math.inf], False),
    ],
)
def test_splits_have_like_means_and_spreads(validation: list[float], test: list[float], passes: bool) -> None:
    """Training 0 and 1: mean and spread 0.5, so a mean may be off by 0.125, a spread be 0.25 to 1."""
    assert checks.splits_alike(table([0, 1], validation, test)).passed is passes


def test_half_of_the_inputs_may_be_constant() -> None:
    data = table([0, 1], [0], [0])
    for images, passes in (([[1.0, 5.0], [2.0, 5.0]], True), ([[5.0, 5.0], [5.0, 5.0]], False)):
        split = Split(torch.tensor(images), torch.tensor([0, 1]))
        assert checks.inputs_vary(replace(data, train=split)).passed is passes


@pytest.mark.parametrize("standardise", [False, True])
def test_preprocessing_of_images_replicates_to_the_bit(standardise: bool) -> None:
    data = load_dataset("digits", standardise=standardise)
    found = checks.preprocessing_replicates(base(), data)
    assert found.passed
    assert data.fingerprint[:12] in found.value
    assert "difference 0 over" in found.value


def test_preprocessing_of_columns_replicates(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    pq.write_table(number_table(200), tmp_path / "train.parquet")
    data = load_dataset(str(tmp_path), standardise=True)
    assert checks.preprocessing_replicates(StructNet([2, 4, 3], 0.5), data).passed


def test_another_preprocessing_than_that_of_the_data_is_found(digits: Dataset) -> None:
    foreign = replace(digits, preprocessing=digits.preprocessing | {"scale": [5.0]})
    assert not checks.preprocessing_replicates(base(), foreign).passed


# The network


def test_gradient_flows_through_a_healthy_network_only() -> None:
    assert checks.gradient_flows(diagnosed(base()), "now").passed
    pairs = [(0, 2), (1, 3), (2, 4), (3, 5)]
    vanishing = made([2, 2, 2], pairs, [1.0, 1.0, 1e-9, 1e-9], [0.0] * 4)
    found = checks.gradient_flows(diagnosed(vanishing), "now")
    assert not found.passed
    assert "link 0→1" in found.value


def test_a_missing_layer_is_found() -> None:
    skipping = made([2, 2, 2], [(0, 4), (1, 5)], [1.0, 1.0], [0.0] * 4)
    found = checks.gradient_flows(diagnosed(skipping), "now")
    assert not found.passed
    assert "no link 0→1" in found.value
    assert "no link 1→2" in found.value


def test_units_need_a_path_and_a_gradient() -> None:
    """Of 4 hidden units only the first has a way out: 3 are idle, which is allowed; without it, none is left."""
    fan_in = [(0, 2), (0, 3), (1, 4), (1, 5)]
    found = checks.units_are_reached(diagnosed(made([2, 4, 2], fan_in, [1.0] * 4, [0.0] * 6)), "now")
    assert found.value.startswith("6 of 6")
    assert not found.passed
    pairs = [*fan_in, (2, 6), (2, 7)]
    found = checks.units_are_reached(diagnosed(made([2, 4, 2], pairs, [1.0] * 5 + [0.5], [0.0] * 6)), "now")
    assert found.value.startswith("3 of 6")
    assert found.passed


def test_an_output_without_a_path_fails() -> None:
    pairs = [(0, 1), (1, 2)]
    assert not checks.units_are_reached(
        diagnosed(made([1, 1, 2], pairs, [1.0, 1.0], [0.0] * 3)), "now"
    ).passed


@pytest.mark.parametrize(("dead", "passes"), [(0, True), (3, True), (4, False)])
def test_a_quarter_of_a_group_must_live(dead: int, passes: bool) -> None:
    pairs = [(0, unit) for unit in range(1, 5)] + [(unit, 5) for unit in range(1, 5)]
    biases = [-5.0] * dead + [0.1] * (4 - dead) + [0.0]
    found = checks.units_respond(diagnosed(made([1, 4, 1], pairs, [1.0] * 8, biases)), "now")
    assert found.value == f"{dead} dead, 0 saturated of 4 hidden units"
    assert found.passed is passes


def test_a_network_without_hidden_units_has_none_that_are_idle() -> None:
    found = diagnosed(StructNet([4, 3], 1.0))
    assert checks.units_respond(found, "now").value == "0 dead, 0 saturated of 0 hidden units"
    assert checks.units_respond(found, "now").passed
    assert checks.units_are_reached(found, "now").passed


@given(st.integers(0, 10_000), st.floats(0.02, 0.6))
def test_paths_are_those_that_powers_of_the_adjacency_matrix_find(rng_seed: int, share: float) -> None:
    rng, sizes = np.random.default_rng(rng_seed), [3, 4, 2, 3]
    group = np.repeat(np.arange(4), sizes)
    joined = (group[:, None] < group[None, :]) & (rng.random((12, 12)) < share)
    topology, _ = Topology.sorted(sizes, *np.nonzero(joined))
    ways = np.linalg.matrix_power(np.eye(12, dtype=int) + joined, 3) > 0
    expected = ways[:3].any(axis=0) & ways[:, 9:].any(axis=1)
    assert np.array_equal(checks.on_a_path(topology), expected)


def test_keys_remap_and_a_wrong_one_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    network, images = base(), torch.rand(20, 64, generator=torch.Generator().manual_seed(0))
    assert checks.keys_remap(network, images).passed

    def without_a_bias(keys: dict[str, torch.Tensor], activation: str) -> StructNet:
        return from_sequential(keys | {"model.3.bias": keys["model.3.bias"] + 1e-3}, activation=activation)

    monkeypatch.setattr(checks, "from_sequential", without_a_bias)
    assert not checks.keys_remap(network, images).passed


# The trainings


def test_baselines_by_hand() -> None:
    """Validation 0111: H = 2 − ¾ log₂ 3. Training 00001 with one more of each: 5 ÷ 7 and 2 ÷ 7."""
    data = table([0.0] * 5, [0.0] * 4, [0.0], ([0, 0, 0, 0, 1], [0, 1, 1, 1]))
    known = baselines(made([1, 2], [(0, 1)], [1.0], [0.0, 0.0]), data)
    entropy = 2 - 0.75 * math.log2(3)
    assert known.guessing == pytest.approx((0.5, entropy - 1))
    assert known.majority == pytest.approx((0.75, entropy + (math.log2(5 / 7) + 3 * math.log2(2 / 7)) / 4))
    assert known.untrained == pytest.approx((0.25, entropy - 1))
    assert known.chance == 0.75


def trained(accuracy: float | None) -> Trained:
    evaluation = None if accuracy is None else Evaluation(1.0, accuracy, np.zeros(1))
    return Trained(base(), 0.01, 1.0, [], evaluation, 0.5)


def test_learning_is_a_margin_above_chance() -> None:
    assert least_accuracy(0.9, 0.1) == pytest.approx(0.91)
    for accuracy, passes in ((0.55, True), (0.549, False), (None, False)):
        assert learns("it learns", trained(accuracy), 0.5, 0.1).passed is passes


@pytest.mark.parametrize(
    ("accuracies", "passes"),
    [
        ([0.1, 0.12, 0.09, 0.1, 0.11], True),
        ([0.3, 0.31, 0.29, 0.3, 0.3], False),
        ([0.18, 0.18, 0.18, 0.18, 0.18], True),
        ([0.9, 0.0, 0.1, 0.0, 0.5], True),
        ([0.5, 0.6], True),
        ([0.9, 0.9], False),
        ([0.1], False),
        ([], False),
    ],
    ids=str,
)
def test_a_leak_is_above_the_margin_and_significant(accuracies: list[float], passes: bool) -> None:
    """Two accuracies of 0.5 and 0.6 are 0.45 ± 0.05 above chance, where 31.8 errors are asked for."""
    assert stays_at_chance(accuracies, 0.1, 0.1).passed is passes


def test_a_tiny_batch_is_learnt_when_the_loss_halves(digits: Dataset) -> None:
    assert fits_tiny_batch(torch.tensor([2.0, 1.0])).passed
    assert not fits_tiny_batch(torch.tensor([2.0, 1.01])).passed
    assert not fits_tiny_batch(torch.tensor([math.nan])).passed
    batch = sampled(digits.train, 8, 0, "test")
    assert fits_tiny_batch(tiny_batch_losses(base(), batch, 0.012)).passed
    assert not fits_tiny_batch(tiny_batch_losses(base(), batch, 1e-7)).passed
    assert not fits_tiny_batch(tiny_batch_losses(base(), batch, 1e30)).passed


def test_shuffling_moves_labels_only(digits: Dataset) -> None:
    one, two = (shuffled_labels(digits.train, 0, turn) for turn in (0, 1))
    assert one.stored is digits.train.stored and one.scaling is digits.train.scaling
    assert not one.labels.equal(two.labels)
    assert float((one.labels == digits.train.labels).double().mean()) < 0.2
    assert one.labels.sort().values.equal(digits.train.labels.sort().values)


def test_a_sample_has_no_image_twice_and_keeps_its_labels() -> None:
    split = Split(column([float(value) for value in range(50)]), torch.arange(50))
    some = sampled(split, 20, 0, "test")
    assert len(set(some.labels.tolist())) == 20
    assert some.images[:, 0].equal(some.labels.float())
    assert sampled(split, 50, 0, "test") is split


# All of it


def short(data: Dataset, **options: Any) -> validation.Validation:
    return validate(base(), data, **{"epochs": 6, "batch_size": 32, **options})


def verdicts(found: validation.Validation) -> dict[str, bool]:
    return {check.name: check.passed for check in found.checks}


def test_digits_pass_and_the_network_is_left_alone(digits: Dataset) -> None:
    network, said = base(), []
    before = network.values.detach().clone()
    found = validate(network, digits, epochs=6, batch_size=32, on_stage=said.append)
    assert not found.failed
    assert len(found.checks) == 17
    assert network.values.equal(before)
    assert len(said) == 4
    assert found.base.evaluation is not None
    assert found.base.evaluation.accuracy > 0.5
    # 33 batches of 32 in an epoch: the base, the dense version twice, five shuffles; and the tiny batch.
    assert found.steps == 6 * 33
    assert found.steps_all == 8 * 6 * 33 + validation.TINY_STEPS
    size, dense = network.parameter_count, network.parameters_dense
    assert found.parameter_steps_all == 6 * 33 * (6 * size + 2 * dense) + validation.TINY_STEPS * size


def test_the_same_seed_gives_the_same_checks(digits: Dataset) -> None:
    assert short(digits, epochs=1).checks == short(digits, epochs=1).checks


def mixed(split: Split) -> Split:
    return Split(split.images, split.labels[torch.randperm(len(split), generator=torch.manual_seed(0))])


def test_labels_that_mean_nothing_are_found(digits: Dataset) -> None:
    found = verdicts(short(replace(digits, train=mixed(digits.train)), epochs=3))
    assert not found["dense version learns"]
    assert not found["base network learns"]
    assert found["a tiny batch can be learnt by heart"]
    assert found["inputs are in range"]


def test_labels_that_reach_the_network_though_they_were_shuffled_are_found(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    unshuffled: Callable[..., Split] = lambda split, rng_seed, turn: split  # noqa: E731
    monkeypatch.setattr(validation, "shuffled_labels", unshuffled)
    found = short(digits)
    assert [check.name for check in found.failed] == ["shuffled labels stay at chance"]


def test_a_diverged_training_is_a_failed_check(digits: Dataset) -> None:
    found = short(digits, learning_rate=1e30, epochs=1)
    assert {check.name for check in found.failed} == {
        "dense version learns",
        "base network learns",
        "shuffled labels stay at chance",
        "a tiny batch can be learnt by heart",
    }
    assert found.base.evaluation is None
    assert not any("after training" in check.name for check in found.checks)
