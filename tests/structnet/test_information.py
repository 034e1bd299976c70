"""Information in bits, against channels whose information is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import one_hot

from structnet.measure.information import (
    _shrunk_covariance,
    decoder_information,
    label_entropy,
    log2_likelihoods,
    probe_information,
)
from structnet.measure.statistics import paired_gain

torch.set_num_threads(1)


def channel_bits(classes: int, flip: float) -> float:
    """Information through a channel that replaces a uniform label by another one with this chance."""
    entropy = -flip * math.log2(flip) - (1 - flip) * math.log2(1 - flip)
    return math.log2(classes) - entropy - flip * math.log2(classes - 1)


def through_channel(n: int, classes: int, flip: float, rng_seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What was received and what was sent, both (n,)."""
    rng = np.random.default_rng(rng_seed)
    sent = rng.integers(classes, size=n)
    received = (sent + rng.integers(1, classes, size=n) * (rng.random(n) < flip)) % classes
    return torch.from_numpy(received), torch.from_numpy(sent)


def gaussian_mixture(n: int, units: int, classes: int, rng_seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(rng_seed)
    means = rng.standard_normal((classes, units))
    labels = rng.integers(classes, size=n)
    features = means[labels] + rng.standard_normal((n, units))
    return torch.from_numpy(features).float(), torch.from_numpy(labels)


def seeded(rng_seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(rng_seed)


# --- the entropy of the labels and the network's own output


def test_entropy_by_hand() -> None:
    assert label_entropy(torch.tensor([0, 1, 2, 3])) == pytest.approx(2)
    assert label_entropy(torch.tensor([0, 0, 1, 3])) == pytest.approx(1.5)  # class 2 is absent
    assert label_entropy(torch.tensor([5, 5, 5])) == 0


def test_log2_likelihoods_by_hand() -> None:
    # p = 1/2, 1/4, 1/4 for every image, whatever constant is added to the logits
    logits = torch.tensor([[2.0, 1, 1], [102, 101, 101]]) * math.log(2)
    bits = log2_likelihoods(logits, torch.tensor([0, 2]))
    assert bits.dtype == torch.float64
    assert bits.tolist() == pytest.approx([-1, -2], abs=1e-5)


def test_decoder_by_hand() -> None:
    # H(Y) of (1/2, 1/4, 1/4) is 1.5 bits; log2 p is -1, -1, -2, -2: mean -1.5, variance 1/3
    logits = torch.tensor([2.0, 1, 1]).log().expand(4, 3)
    result = decoder_information(logits, torch.tensor([0, 0, 1, 2]))
    assert result.bits == pytest.approx(0, abs=1e-6)
    assert result.standard_error == pytest.approx(math.sqrt(1 / 3) / 2, abs=1e-6)
    assert result.log2_likelihood == pytest.approx([-1, -1, -2, -2], abs=1e-6)


def test_a_uniform_decoder_knows_less_than_the_label_frequencies() -> None:
    labels = torch.tensor([0, 0, 0, 1])
    result = decoder_information(torch.zeros(4, 8), labels)
    assert result.bits == pytest.approx(label_entropy(labels) - 3)
    assert result.standard_error == 0


def test_a_perfect_decoder_knows_the_labels() -> None:
    labels = torch.arange(10).repeat(3)
    assert decoder_information(200.0 * one_hot(labels), labels).bits == pytest.approx(math.log2(10))


@pytest.mark.parametrize(("classes", "flip"), [(2, 0.25), (5, 0.2), (10, 0.5)])
def test_decoder_of_a_symmetric_channel(classes: int, flip: float) -> None:
    """Counts in exact proportion, so the truth holds to rounding; the decoder is the true posterior."""
    wrong = 10
    right = round(wrong * (classes - 1) * (1 - flip) / flip)
    counts = torch.full((classes, classes), wrong).fill_diagonal_(right)
    sent, received = torch.cartesian_prod(torch.arange(classes), torch.arange(classes)).T
    sent, received = sent.repeat_interleave(counts.ravel()), received.repeat_interleave(counts.ravel())
    posterior = torch.full((classes, classes), flip / (classes - 1), dtype=torch.float64)
    logits = posterior.fill_diagonal_(1 - flip).log()[received]
    assert decoder_information(logits, sent).bits == pytest.approx(channel_bits(classes, flip), abs=1e-12)


def test_the_standard_error_covers_the_truth() -> None:
    """|z| ≤ 2 in at least 90 of 100 channels; 95 expected."""
    posterior = torch.full((4, 4), 0.1).fill_diagonal_(0.7)
    within = 0
    for rng_seed in range(100):
        received, sent = through_channel(500, 4, 0.3, rng_seed)
        result = decoder_information(posterior.log()[received], sent)
        # H(Y) of the sample has an error of its own, which is of second order for uniform labels.
        within += abs(result.bits - channel_bits(4, 0.3)) <= 2 * result.standard_error
    assert within >= 90


def test_one_image_has_no_standard_error() -> None:
    assert decoder_information(torch.zeros(1, 2), torch.tensor([1])).standard_error == math.inf
    assert paired_gain(np.array([-1.0]), np.array([-3.0])) == (2.0, math.inf)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_diverged_network_has_no_information(bad: float) -> None:
    with pytest.raises(ValueError, match="diverged"):
        decoder_information(torch.tensor([[0.0, bad], [0, 0]]), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="diverged"):
        probe_information(torch.tensor([[0.0, bad]] * 9), torch.zeros(9, dtype=torch.int64), classes=2)


def test_labels_must_be_classes() -> None:
    with pytest.raises(ValueError, match=r"labels are 0 to 2, but must be in \[0, 2\)"):
        log2_likelihoods(torch.zeros(2, 2), torch.tensor([0, 2]))
    with pytest.raises(ValueError, match=r"in \[0, 2\)"):
        probe_information(torch.zeros(4, 1), torch.tensor([0, 1, 2, 0]), classes=2)
    with pytest.raises(ValueError, match="at least 0"):
        label_entropy(torch.tensor([-1, 0]))
    with pytest.raises(ValueError, match="n ≥ 1"):
        label_entropy(torch.tensor([], dtype=torch.int64))
    with pytest.raises(ValueError, match="one row per label"):
        log2_likelihoods(torch.zeros(3, 2), torch.tensor([0, 1]))


# --- the difference of two networks on the same images


def test_paired_gain_by_hand() -> None:
    gain, error = paired_gain(np.array([-1.0, -1, -2]), np.array([-2.0, -4, -4]))  # differences 1, 3, 2
    assert gain == pytest.approx(2)
    assert error == pytest.approx(1 / math.sqrt(3))


@given(st.lists(st.tuples(st.floats(-50, 0), st.floats(-50, 0)), min_size=2, max_size=20))
def test_paired_gain_is_antisymmetric(pairs: list[tuple[float, float]]) -> None:
    fork, control = np.array(pairs).T
    gain, error = paired_gain(fork, control)
    assert paired_gain(control, fork) == pytest.approx((-gain, error))
    assert paired_gain(fork, fork) == (0.0, 0.0)


def test_paired_gain_is_more_certain_than_either() -> None:
    """What makes an image hard for both networks cancels."""
    rng = np.random.default_rng(0)
    control = -rng.exponential(3, size=1000)
    fork = control + 0.1 + 0.01 * rng.standard_normal(1000)
    gain, error = paired_gain(fork, control)
    assert gain == pytest.approx(0.1, abs=2 * error)
    assert error < 0.001 < control.std() / math.sqrt(1000)


@pytest.mark.parametrize(
    ("fork", "control"), [([1.0], [1.0, 2.0]), ([], []), ([[1.0]], [[1.0]]), ([math.nan], [0.0])]
)
def test_paired_gain_refuses(fork: list[float], control: list[float]) -> None:
    with pytest.raises(ValueError, match="but"):
        paired_gain(np.array(fork), np.array(control))


# --- the probe, where the truth is known


def test_probe_of_independent_features_is_zero() -> None:
    for rng_seed in range(5):
        labels = gaussian_mixture(2000, 4, 5, rng_seed)[1]
        result = probe_information(torch.randn(2000, 20, generator=seeded(rng_seed)), labels, classes=5)
        assert abs(result.bits) <= max(2 * result.standard_error, 0.002)


def test_probe_of_shuffled_labels_is_not_above_zero() -> None:
    """10 seeds, 20 units: one may lie above 2 standard errors by chance (2.3 % each)."""
    above = 0
    for rng_seed in range(10):
        features, labels = gaussian_mixture(2000, 20, 5, rng_seed)
        result = probe_information(
            features, labels[torch.randperm(2000, generator=seeded(rng_seed))], classes=5
        )
        above += result.bits > 2 * result.standard_error
        assert result.bits < 0.005
    assert above <= 1


def test_probe_of_the_label_itself_is_its_entropy() -> None:
    labels = gaussian_mixture(3000, 1, 10, 0)[1]
    result = probe_information(one_hot(labels, 10).float(), labels, classes=10)
    assert result.bits == pytest.approx(label_entropy(labels), abs=0.002)


@pytest.mark.parametrize(("classes", "flip"), [(2, 0.1), (4, 0.3), (10, 0.5)])
def test_probe_of_a_symmetric_channel(classes: int, flip: float) -> None:
    received, sent = through_channel(6000, classes, flip, rng_seed=1)
    result = probe_information(one_hot(received, classes).float(), sent, classes=classes)
    assert result.bits == pytest.approx(channel_bits(classes, flip), abs=2 * result.standard_error)


@pytest.mark.parametrize("half_distance", [0.5, 1.0, 2.0])
def test_probe_of_two_gaussians(half_distance: float) -> None:
    """Two classes N(±μ, 1), equally likely: I = 1 − E log2(1 + exp(−2μx)) under the positive class."""
    x = np.linspace(-12, 12, 20_001)
    density = np.exp(-((x - half_distance) ** 2) / 2) / math.sqrt(2 * math.pi)
    truth = 1 - np.trapezoid(density * np.logaddexp(0, -2 * half_distance * x), x) / math.log(2)
    labels = torch.arange(6000) % 2
    noise = torch.randn(6000, 1, generator=seeded(0))
    result = probe_information(half_distance * (2 * labels[:, None] - 1) + noise, labels, classes=2)
    assert result.bits == pytest.approx(truth, abs=2 * result.standard_error)
    assert result.bits > 0.9 * truth


def test_probe_uses_the_covariance_within_classes() -> None:
    """Neither unit tells the label (d′ = 0.4 of noise 1), their difference does: two Gaussians, d′ = 4."""
    labels = torch.arange(4000) % 2
    noise, small = torch.randn(2, 4000, 1, generator=seeded(0))
    second = noise + 0.2 * (2 * labels[:, None] - 1) + 0.1 * small
    assert probe_information(second, labels, classes=2).bits < 0.1
    assert probe_information(torch.cat([noise, second], dim=1), labels, classes=2).bits > 0.85


def test_probe_cannot_see_an_exclusive_or() -> None:
    """The documented limit: the two units determine the label, and no linear probe can tell."""
    bits = torch.randint(0, 2, (4000, 2), generator=seeded(0))
    labels = bits[:, 0] ^ bits[:, 1]
    assert abs(probe_information(bits.float(), labels, classes=2).bits) < 0.005
    assert probe_information(one_hot(2 * bits[:, 0] + bits[:, 1]).float(), labels, classes=2).bits > 0.99


# --- what must not change it


@given(rng_seed=st.integers(0, 3), exponent=st.floats(-12, 12), shift=st.floats(-10, 10))
def test_probe_is_invariant_to_scale_and_order(rng_seed: int, exponent: float, shift: float) -> None:
    features, labels = gaussian_mixture(600, 5, 3, rng_seed)
    features = features.double()
    scales = torch.logspace(0, exponent, 5, dtype=torch.float64)
    changed = ((features + shift) * scales)[:, torch.randperm(5, generator=seeded(rng_seed))]
    was, now = (probe_information(x, labels, classes=3).bits for x in (features, changed))
    assert now == pytest.approx(was, abs=1e-4)


def test_probe_hardly_changes_with_copies_of_units() -> None:
    features, labels = gaussian_mixture(4000, 8, 10, 0)
    was = probe_information(features, labels, classes=10)
    for copies in (features, features[:, :3]):
        now = probe_information(torch.cat([features, copies], dim=1), labels, classes=10)
        gain, error = paired_gain(now.log2_likelihood, was.log2_likelihood)
        assert abs(gain) <= max(2 * error, 0.01)
        assert abs(gain) < 0.02


def test_constant_units_change_nothing() -> None:
    features, labels = gaussian_mixture(400, 4, 3, 0)
    constant = torch.tensor([0.0, 0.1, -1e8, 1e-30]).expand(400, 4)
    was = probe_information(features, labels, classes=3)
    now = probe_information(torch.cat([features, constant], dim=1), labels, classes=3)
    assert now.log2_likelihood == pytest.approx(was.log2_likelihood, abs=1e-9)
    # Without a unit that says anything the probe knows the label frequencies.
    for nothing in (constant, torch.zeros(400, 0)):
        assert probe_information(nothing, labels, classes=3).bits == pytest.approx(0, abs=0.01)


def test_noise_units_do_not_raise_it() -> None:
    """10 seeds, 20 noise units: one gain above 2 standard errors is allowed by chance (2.3 % each)."""
    above = 0
    for rng_seed in range(10):
        features, labels = gaussian_mixture(3000, 8, 5, rng_seed)
        noise = torch.randn(3000, 20, generator=seeded(rng_seed))
        was = probe_information(features, labels, classes=5)
        now = probe_information(torch.cat([features, noise], dim=1), labels, classes=5)
        gain, error = paired_gain(now.log2_likelihood, was.log2_likelihood)
        above += gain > 2 * error
        assert gain > -0.1
    assert above <= 1


def test_useful_units_raise_it() -> None:
    features, labels = gaussian_mixture(3000, 8, 5, 0)
    was = probe_information(features[:, :4], labels, classes=5)
    now = probe_information(features, labels, classes=5)
    gain, error = paired_gain(now.log2_likelihood, was.log2_likelihood)
    assert gain > 5 * error


# --- how it is held out, and its edges


def test_no_image_is_judged_by_a_probe_that_saw_it() -> None:
    """Changing one image's features leaves the judgement of its own half untouched, its own apart."""
    features, labels = gaussian_mixture(200, 2, 2, 0)
    was = probe_information(features, labels, classes=2).log2_likelihood
    features[7] *= 0.5  # within the range: the first scaling stays as it was
    moved = probe_information(features, labels, classes=2).log2_likelihood != was
    by_class = np.argsort(labels.numpy(), kind="stable")
    half = np.empty(200, dtype=bool)
    half[by_class] = np.arange(200) % 2 == 0
    assert moved[7]
    same_half = half == half[7]
    same_half[7] = False
    assert not moved[same_half].any()
    assert moved[half != half[7]].all()


def test_labels_in_a_cycle_are_no_trap() -> None:
    """Every other image has an even label: halves by position alone would share no class."""
    labels = torch.arange(1000) % 10
    features = one_hot(labels, 10) + 0.1 * torch.randn(1000, 10, generator=seeded(0))
    assert probe_information(features, labels, classes=10).bits > 3.2


def test_absent_and_single_classes_are_allowed() -> None:
    features, labels = gaussian_mixture(400, 3, 3, 0)
    labels[labels == 1] = 0
    labels[0] = 1  # one image: absent from one of the halves
    result = probe_information(features, labels, classes=7)
    assert math.isfinite(result.bits)
    assert result.bits > 0.2
    assert probe_information(features, torch.zeros(400, dtype=torch.int64), classes=1).bits == 0


def test_one_outlier_does_not_decide() -> None:
    """A unit that fires on two images, once a million times stronger, costs bits for few images."""
    features, labels = gaussian_mixture(400, 4, 3, 0)
    rare = torch.zeros(400, 1)
    rare[10], rare[11] = 1e-3, 1e3
    was = probe_information(features, labels, classes=3)
    now = probe_information(torch.cat([features, rare], dim=1), labels, classes=3)
    assert now.bits > was.bits - 0.1
    assert now.log2_likelihood.min() > -20


def test_few_samples_are_projected_to_one_unit_per_fifty() -> None:
    """With 200 images a half has 100: two units, however many there are; 60 informative ones stay useful."""
    features, labels = gaussian_mixture(200, 60, 2, 0)
    explicit = probe_information(features, labels, classes=2, project_to=2)
    assert probe_information(features, labels, classes=2).bits == explicit.bits
    assert probe_information(features, labels, classes=2, project_to=50).bits == explicit.bits
    assert probe_information(features, labels, classes=2, project_to=1).bits != explicit.bits


def test_projection_depends_on_the_seed_alone() -> None:
    features, labels = gaussian_mixture(2000, 16, 4, 0)
    results = [
        probe_information(features, labels, classes=4, project_to=6, rng_seed=seed) for seed in (0, 0, 1)
    ]
    assert results[0].bits == results[1].bits != results[2].bits
    full = probe_information(features, labels, classes=4)
    assert all(0 < result.bits < full.bits for result in results)
    assert probe_information(features, labels, classes=4, project_to=16).bits == full.bits


@given(
    n=st.integers(4, 12),
    units=st.integers(0, 3),
    classes=st.integers(1, 4),
    values=st.sampled_from([1.0, 1e-300, 1e300, 0.0]),
    rng_seed=st.integers(0, 100),
)
def test_tiny_and_extreme_inputs_stay_finite(
    n: int, units: int, classes: int, values: float, rng_seed: int
) -> None:
    rng = np.random.default_rng(rng_seed)
    features = torch.from_numpy(values * rng.standard_normal((n, units)))
    result = probe_information(features, torch.from_numpy(rng.integers(classes, size=n)), classes=classes)
    assert result.log2_likelihood.shape == (n,)
    assert np.isfinite(result.log2_likelihood).all()
    assert (result.log2_likelihood <= 0).all()


def test_probe_refuses() -> None:
    labels = torch.tensor([0, 1, 0])
    with pytest.raises(ValueError, match="there are 3 images"):
        probe_information(torch.zeros(3, 2), labels, classes=2)
    with pytest.raises(ValueError, match="project_to is 0"):
        probe_information(torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64), classes=2, project_to=0)


def test_shrinkage_is_ledoit_and_wolf() -> None:
    from sklearn.covariance import ledoit_wolf

    for n, units in ((10, 6), (50, 3), (7, 1)):
        centred = np.random.default_rng(n).standard_normal((n, units)) * np.arange(1, units + 1)
        expected, _ = ledoit_wolf(centred, assume_centered=True)
        assert _shrunk_covariance(torch.from_numpy(centred)).numpy() == pytest.approx(expected)
