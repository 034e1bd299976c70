"""Exact optimal brain surgeon: on a quadratic it is exact, and on a network it predicts and repairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from structnet.actions import brain_surgeon
from structnet.actions.brain_surgeon import Surgeon, per_image_gradients, surgeon
from structnet.data.datasets import load_dataset
from structnet.errors import UserError
from structnet.measure.diagnosis import diagnose
from structnet.network.network import StructNet
from structnet.training.evaluation import evaluate
from structnet.training.fit import fit


def test_two_connections_by_hand() -> None:
    """F = [[1, 1], [1, 1]] + I = [[2, 1], [1, 2]], whose inverse is [[2, −1], [−1, 2]] ÷ 3."""
    found = Surgeon.of(torch.tensor([1.0, 2.0]).double(), torch.ones(2, 1).double(), 1.0, 2)
    assert found.worth() == pytest.approx([1 / (2 * 2 / 3), 4 / (2 * 2 / 3)])
    assert found.without(np.array([0])) == pytest.approx([0.0, 2.5])
    assert found.loss_without(np.array([0])) == pytest.approx(0.75)


@given(seed=st.integers(0, 2**32 - 1), gone=st.integers(1, 4), images=st.integers(1, 9))
def test_no_other_move_of_those_that_stay_costs_less(seed: int, gone: int, images: int) -> None:
    rng = np.random.default_rng(seed)
    gradients = rng.standard_normal((6, images))
    hessian = gradients @ gradients.T / images + 0.1 * np.eye(6)
    start = rng.standard_normal(6)
    found = Surgeon.of(torch.from_numpy(start), torch.from_numpy(gradients), 0.1, 6)
    where = rng.choice(6, gone, replace=False)

    def loss(values: np.ndarray) -> float:
        return 0.5 * float((values - start) @ hessian @ (values - start))

    repaired = found.without(where)
    assert np.all(repaired[where] == 0)
    assert loss(repaired) == pytest.approx(found.loss_without(where), rel=1e-6, abs=1e-9)
    stays = np.setdiff1d(np.arange(6), where)
    for _ in range(5):
        other = repaired.copy()
        other[stays] += 0.1 * rng.standard_normal(len(stays))
        assert loss(other) >= loss(repaired) - 1e-9


@pytest.fixture(scope="module")
def trained() -> StructNet:
    network = StructNet([64, 12, 10], 0.3, rng_seed=0)
    fit(network, load_dataset("digits"), epochs=8, batch_size=32, learning_rate=0.01)
    return network


def test_gradients_of_images_are_those_of_autograd_and_their_mean_is_the_gradient(trained: StructNet) -> None:
    data = load_dataset("digits")
    images, labels = data.train.images[:20], data.train.labels[:20]
    diagnosis = diagnose(trained, images, labels)
    found = per_image_gradients(trained, diagnosis, 20)
    assert found.mean(dim=1).numpy() == pytest.approx(diagnosis.gradient.double().numpy(), abs=1e-6)
    for image in (0, 7):
        alone = diagnose(trained, images[image : image + 1], labels[image : image + 1])
        assert found[:, image].numpy() == pytest.approx(alone.gradient.double().numpy(), abs=1e-6)


def test_it_takes_more_away_for_the_same_loss_than_magnitude(trained: StructNet) -> None:
    data = load_dataset("digits")
    diagnosis = diagnose(trained, data.train.images, data.train.labels)
    found = surgeon(trained, diagnosis)
    magnitude = found.values[: found.connections].abs().numpy()
    count = found.connections // 4
    losses = {}
    for name, order in (("surgeon", np.argsort(found.worth())), ("magnitude", np.argsort(magnitude))):
        gone = order[:count]
        values = (
            found.without(gone)
            if name == "surgeon"
            else np.where(np.isin(np.arange(len(found.values)), gone), 0, found.values)
        )
        changed = StructNet.from_parts(trained.topology, torch.from_numpy(values).float())
        losses[name] = evaluate(changed, data.train).loss
    assert losses["surgeon"] < losses["magnitude"]


def test_a_network_too_large_for_it_is_refused(trained: StructNet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(brain_surgeon, "MOST_PARAMETERS", 100)
    data = load_dataset("digits")
    with pytest.raises(UserError, match="is for at most 100: prune by"):
        surgeon(trained, diagnose(trained, data.train.images[:9], data.train.labels[:9]))
