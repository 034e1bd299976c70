"""Likelihoods at a fitted temperature: blind to the scale of the logits, and to the image that is read."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from structnet import StructNet
from structnet.data.datasets import load_dataset
from structnet.measure.calibration import fitted_scale, tempered_likelihoods
from structnet.measure.information import convex_minimum, log2_of_labels
from structnet.network.state import TrainState
from structnet.training.loop import train_steps
from structnet.training.recipe import Recipe
from structnet.training.schedules import constant
from tournament.workers.fork import measure


def case(images: int = 4000, scale: float = 1.0, rng_seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (5, images) that are the true log-odds, times a scale; labels drawn from them."""
    rng = np.random.default_rng(rng_seed)
    logits = rng.normal(0, 2.0, (5, images))
    p = np.exp(logits)
    p /= p.sum(axis=0)
    labels = (rng.random(images) > p.cumsum(axis=0)).sum(axis=0)
    return torch.from_numpy(scale * logits), torch.from_numpy(labels)


@pytest.mark.parametrize("scale", [0.01, 0.3, 3.0, 100.0])
def test_the_scale_of_the_logits_does_not_matter(scale: float) -> None:
    plain, labels = case()
    scaled, _ = case(scale=scale)
    one, other = tempered_likelihoods(plain, labels), tempered_likelihoods(scaled, labels)
    torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_the_true_temperature_is_found(scale: float) -> None:
    logits, labels = case(40_000, scale)
    assert fitted_scale(logits, labels) == pytest.approx(1 / scale, rel=0.03)


def test_it_repairs_what_being_too_sure_costs() -> None:
    true, labels = case()
    sure = tempered_likelihoods(5 * true, labels).mean()
    assert log2_of_labels(5 * true, labels).mean() < sure - 1
    assert float(sure) == pytest.approx(float(log2_of_labels(true, labels).mean()), abs=0.01)


def test_an_image_has_no_say_in_its_own_temperature_and_halves_none_in_each_other() -> None:
    logits, labels = case(400)
    before = tempered_likelihoods(logits, labels)
    changed = labels.clone()
    changed[0::4] = (changed[0::4] + 1) % 5
    after = tempered_likelihoods(logits, changed)
    assert torch.equal(before[1::2], after[1::2])  # the other half
    assert not torch.isclose(before[2::4], after[2::4]).all()  # what the changed quarter is fitted for
    wrong = log2_of_labels(logits[:, 0::4] * fitted_scale(logits[:, 2::4], labels[2::4]), changed[0::4])
    assert torch.equal(after[0::4], wrong)


def test_where_all_is_right_one_error_elsewhere_costs_little() -> None:
    logits = torch.zeros(3, 400, dtype=torch.float64)
    labels = torch.arange(400) % 3
    logits[labels, torch.arange(400)] = 1.0
    labels = labels.clone()
    labels[0] = (labels[0] + 1) % 3
    worst = float(tempered_likelihoods(logits, labels).min())
    assert -12 < worst < -5  # one part in a hundred and two, in three classes: log2(1 / 306) is -8.3


def test_logits_that_say_nothing_and_too_few_images() -> None:
    labels = torch.tensor([0, 1, 0, 1])
    assert torch.equal(tempered_likelihoods(torch.zeros(2, 4), labels), torch.full((4,), -1.0).double())
    with pytest.raises(ValueError, match="there are 3 images"):
        tempered_likelihoods(torch.zeros(2, 3), labels[:3])


def test_a_network_that_is_ten_times_as_sure_has_the_same_bits() -> None:
    digits = load_dataset("digits")
    state = TrainState.fresh(StructNet([64, 32, 10], 1.0, rng_seed=0))
    plain = measure(state, digits.validation)
    train_steps(state, digits.train, Recipe(32), 300, constant(1e-2))
    plain = measure(state, digits.validation)
    topology, values = state.network.topology, state.network.values.detach()
    last = topology.group_of(topology.target) == 2
    with torch.no_grad():
        values[: topology.connections][torch.from_numpy(last)] *= 10
        values[topology.connections + 32 :] *= 10
    sure = measure(state, digits.validation)
    assert sure.accuracy == plain.accuracy
    assert sure.bits.mean() < plain.bits.mean() - 0.1
    assert plain.tempered_bits is not None and sure.tempered_bits is not None
    np.testing.assert_allclose(sure.tempered_bits, plain.tempered_bits, atol=1e-4)
    assert sure.tempered_bits.mean() > sure.bits.mean() + 0.1


@pytest.mark.parametrize("least", [-1.0, 0.0, 3.3, 8.0, 15.9, 16.0, 20.0])
def test_the_least_of_a_convex_function_is_found_by_halving(least: float) -> None:
    """Also at an end of the interval, and with as many slopes as halvings and one."""
    asked: list[float] = []

    def slope(place: float) -> float:
        asked.append(place)
        return place - least

    found = convex_minimum(slope, 16.0, 10)
    assert abs(found - min(max(least, 0.0), 16.0)) <= 16.0 / 2**11
    assert len(asked) == 11
