"""Usable information of a network about the label, in bits, with its standard error.

The mutual information between a deterministic network's units and its input is infinite or constant, and no
deterministic step can raise what the units say about the label. What growth raises is *usable* information
(Xu et al. 2020): the entropy of the labels minus the cross-entropy of a decoder of bounded power on images it
was not fitted on. It is a lower bound on I(units; label) in expectation, and can be negative when the decoder
is worse than the label frequencies. Two decoders:

- `decoder_information`: the network's own output;
- `probe_information`: a linear Gaussian probe on any layer, fitted in closed form.

Both keep the log-likelihood of every image, so that two networks are compared image by image: `paired_gain`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from structnet.measure.statistics import mean_and_error

# A probe with fewer fit samples per unit than this underestimates too much to compare layers of unequal
# width.
FIT_SAMPLES_PER_UNIT = 50

# Added to the probe's covariance, relative to the mean variance: units that do not vary within a class would
# otherwise make it singular.
RIDGE = 1e-4

# A unit whose standard deviation is below this share of its largest absolute value counts as constant.
CONSTANT = 1e-9

# The factor on a probe's evidence is sought in [0, 16], to within 2⁻¹³.
LARGEST_SCALE = 16.0
HALVINGS = 16


@dataclass(frozen=True)
class Information:
    """Usable information about the label.

    `bits`: H(Y) plus the mean of `log2_likelihood`. `standard_error`: of that mean over the images, in bits;
    infinite for a single image. `log2_likelihood` (n,) float64: log2 p(label | image) of every image, in the
    order of the images.
    """

    bits: float
    standard_error: float
    log2_likelihood: np.ndarray


def label_entropy(labels: torch.Tensor) -> float:
    """Entropy in bits of the label frequencies of this very set; labels (n,) int64, from 0.

    Raises ValueError on an empty set or a negative label.
    """
    _check_labels(labels, classes=None)
    counts = torch.bincount(labels).to(torch.float64)
    frequencies = counts[counts > 0] / labels.numel()
    return max(0.0, -float((frequencies * frequencies.log2()).sum()))


def log2_likelihoods(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """log2 p(label | image) for logits (n, classes) and labels (n,): float64 (n,), on their device.

    Raises ValueError where a label is not a class of the logits.
    """
    _check_rows("logits", logits, labels)
    _check_labels(labels, classes=logits.shape[1])
    return log2_of_labels(logits.t(), labels)


def log2_of_labels(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """log2 p(label | image) for logits (..., classes, n), as networks compute them: float64 (..., n)."""
    log_p = torch.log_softmax(logits.detach().to(torch.float64), dim=-2)
    return log_p.gather(-2, labels.expand(*logits.shape[:-2], 1, -1)).squeeze(-2) / math.log(2)


def decoder_information(logits: torch.Tensor, labels: torch.Tensor) -> Information:
    """Usable information of the network's own output: H(Y) minus its cross-entropy, for logits (n, classes).

    Raises ValueError when a log-likelihood is not finite: the network has diverged, and has no information.
    """
    return _information(log2_likelihoods(logits, labels), labels)


def probe_information(
    features: torch.Tensor,
    labels: torch.Tensor,
    *,
    classes: int,
    project_to: int | None = None,
    rng_seed: int = 0,
) -> Information:
    """Usable information of a layer: H(Y) minus the held-out cross-entropy of a linear Gaussian probe.

    features (n, units), labels (n,) in [0, classes). The probe: class means and one covariance shared by the
    classes, shrunk towards a multiple of the identity (Ledoit & Wolf 2004), give logits linear in the units
    by one solve; the log of the label frequencies (add-one smoothed) is added; one temperature scales the
    evidence of the units against that prior. Two-fold cross-fitting: every image is judged by a probe fitted
    on the other half. The halves alternate by position within each class, so they depend on the labels alone
    and every class of two images or more is in both, even where labels repeat with a period.

    Units that are constant on the fit half are left out. When the rest are more than `project_to`, or more
    than one per 50 fit images, they are standardised and projected at random (seed `rng_seed`) to the smaller
    of the two widths (at least 1): give all candidates of a comparison the same `project_to`.

    The result does not change with the scale or the order of the units (before projection), and hardly with
    copies of them. What only combinations of units tell (the exclusive or of two) the probe cannot see: a
    layer of high information can have usable information 0.

    Raises ValueError on features that are not finite, labels outside [0, classes), or fewer than 4 images.
    """
    _check_rows("features", features, labels)
    _check_labels(labels, classes)
    if labels.numel() < 4:
        raise ValueError(f"there are {labels.numel()} images, but the probe needs at least 4: 2 in each half")
    if project_to is not None and project_to < 1:
        raise ValueError(f"project_to is {project_to}, but must be at least 1: it is a number of units")
    if not bool(torch.isfinite(features).all()):
        raise ValueError("features must be finite, but some are NaN or infinite: the network has diverged")

    x = features.detach().to(torch.float64)
    # A first scaling by the range keeps the squares below within what a float64 holds.
    x = x / x.abs().amax(dim=0).clamp_min(torch.finfo(torch.float64).tiny)
    log2_likelihood = torch.empty(labels.numel(), dtype=torch.float64, device=x.device)
    first, second = _halves(labels)
    for fit, judged in ((first, second), (second, first)):
        probabilities = _probe(x[fit], labels[fit], x[judged], classes, project_to, rng_seed)
        log2_likelihood[judged] = probabilities.gather(1, labels[judged][:, None]).squeeze(1).log2()
    return _information(log2_likelihood, labels)


def _information(log2_likelihood: torch.Tensor, labels: torch.Tensor) -> Information:
    values = log2_likelihood.cpu().numpy()
    if not np.isfinite(values).all():
        raise ValueError("log-likelihoods must be finite, but some are not: the network has diverged")
    mean, standard_error = mean_and_error(values)
    return Information(label_entropy(labels) + mean, standard_error, values)


def _halves(labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Indices of two halves that alternate by position within each class; sizes differ by at most one."""
    by_class = torch.argsort(labels, stable=True)
    return by_class[0::2].sort().values, by_class[1::2].sort().values


def _probe(
    fit: torch.Tensor,
    fit_labels: torch.Tensor,
    judged: torch.Tensor,
    classes: int,
    project_to: int | None,
    rng_seed: int,
) -> torch.Tensor:
    """Probabilities (judged, classes) by a probe fitted on fit (n_fit, units); they are never 0."""
    fit, judged = _standardised(fit, judged)
    limit = max(1, fit.shape[0] // FIT_SAMPLES_PER_UNIT)
    width = limit if project_to is None else min(limit, project_to)
    if fit.shape[1] > width:
        projection = _random_projection(fit.shape[1], width, rng_seed).to(fit.device)
        fit, judged = fit @ projection, judged @ projection

    counts = torch.bincount(fit_labels, minlength=classes).to(torch.float64)
    prior = (counts + 1) / (counts.sum() + classes)
    temper = _evidence_scale(fit, fit_labels, prior)
    logits = prior.log() + temper * _evidence(fit, fit_labels, judged, classes)
    # n fit images cannot make anyone surer than one part in n: without this share of the prior a single image
    # far outside the fit half could cost more bits than all others together.
    doubt = 1 / (fit.shape[0] + 1)
    return (1 - doubt) * torch.softmax(logits, dim=1) + doubt * prior


def _standardised(fit: torch.Tensor, judged: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Both by the mean and standard deviation of the fit half, without the units that are constant there."""
    mean = fit.mean(dim=0)
    fit, judged = fit - mean, judged - mean
    spread = fit.square().mean(dim=0).sqrt()
    varies = spread > CONSTANT
    if not bool(varies.all()):
        # By numbers, as torch picks columns by booleans at half the speed.
        units = varies.nonzero().squeeze(1)
        fit, judged, spread = (part.index_select(-1, units) for part in (fit, judged, spread))
    return fit.div_(spread), judged.div_(spread)


def _random_projection(units: int, width: int, rng_seed: int) -> torch.Tensor:
    """Gaussian (units, width), drawn by numpy so that it is the same on every device."""
    draw = np.random.default_rng(rng_seed).standard_normal((units, width))
    return torch.from_numpy(draw / math.sqrt(units))


def _evidence(fit: torch.Tensor, labels: torch.Tensor, judged: torch.Tensor, classes: int) -> torch.Tensor:
    """log p(units | class) up to a constant per image, by Gaussians of one covariance: (judged, classes).

    The mean of fit need not be zero. A class without an image sits at the mean of all.
    """
    centre = fit.mean(dim=0)
    fit = fit - centre
    # A product with the one-hot matrix, because summing by index is not deterministic on a GPU.
    one_hot = torch.nn.functional.one_hot(labels, classes).to(fit.dtype)
    means = (one_hot.T @ fit) / one_hot.sum(dim=0).clamp_min(1)[:, None]
    # The second term is for units that are constant altogether: then any positive number will do.
    ridge = RIDGE * fit.square().mean() + torch.finfo(fit.dtype).tiny if fit.numel() else 0.0
    covariance = _shrunk_covariance(fit.sub_(means[labels]))
    covariance.diagonal().add_(ridge)
    weights = torch.cholesky_solve(means.T, torch.linalg.cholesky(covariance))
    return judged @ weights - (centre @ weights + 0.5 * (means.T * weights).sum(dim=0))


def _shrunk_covariance(centred: torch.Tensor) -> torch.Tensor:
    """Covariance of centred (n, units), shrunk towards mean variance × identity (Ledoit & Wolf 2004)."""
    n, units = centred.shape
    covariance = centred.T @ centred / n
    if units == 0:
        return covariance
    target = covariance.diagonal().mean() * torch.eye(units, dtype=centred.dtype, device=centred.device)
    distance = (covariance - target).square().sum()
    sampling_error = (centred.square().sum(dim=1).square().mean() - covariance.square().sum()) / n
    share = (sampling_error / distance).clamp(0, 1) if bool(distance > 0) else torch.zeros_like(distance)
    return covariance + share * (target - covariance)


def _evidence_scale(fit: torch.Tensor, labels: torch.Tensor, prior: torch.Tensor) -> float:
    """The factor on the evidence (inverse temperature) of least cross-entropy, in [0, 16].

    It is found within the fit half, on quarters judged by a probe of the other quarter: a probe is always
    sure of the images it was fitted on. Evidence that does not generalise gets 0, which leaves the prior.
    """
    # Classes × images: a softmax over the first dimension takes a third of the time of one over the last.
    evidence = torch.empty(prior.numel(), fit.shape[0], dtype=fit.dtype, device=fit.device)
    first, second = _halves(labels)
    for quarter, judged in ((first, second), (second, first)):
        evidence[:, judged] = _evidence(fit[quarter], labels[quarter], fit[judged], prior.numel()).T
    of_label = evidence.gather(0, labels[None, :]).mean()
    log_prior = prior.log()[:, None]

    def slope(factor: float) -> float:
        p = torch.softmax(torch.add(log_prior, evidence, alpha=factor), dim=0)
        return float(p.mul_(evidence).sum() / fit.shape[0] - of_label)

    return convex_minimum(slope, LARGEST_SCALE, HALVINGS)


def convex_minimum(slope: Callable[[float], float], highest: float, halvings: int) -> float:
    """Where a convex function on [0, highest] is least, by its slope: within highest ÷ 2^(halvings + 1)."""
    from scipy.optimize import bisect

    def side(place: float) -> float:
        # At the ends the slope is not asked for: where it keeps its sign, the least lies at one of them.
        falls = place == 0 or (place < highest and slope(place) < 0)
        return -1.0 if falls else 1.0

    return float(bisect(side, 0.0, highest, xtol=0.75 * highest / 2**halvings))


def _check_rows(name: str, rows: torch.Tensor, labels: torch.Tensor) -> None:
    if rows.ndim != 2 or labels.ndim != 1 or rows.shape[0] != labels.shape[0]:
        raise ValueError(
            f"{name} have shape {tuple(rows.shape)} and labels {tuple(labels.shape)}, "
            f"but must be (n, …) and (n,): one row per label"
        )


def _check_labels(labels: torch.Tensor, classes: int | None) -> None:
    if labels.ndim != 1 or labels.numel() == 0:
        raise ValueError(f"labels have shape {tuple(labels.shape)}, but must be (n,) with n ≥ 1")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or (classes is not None and high >= classes):
        rule = "at least 0" if classes is None else f"in [0, {classes})"
        raise ValueError(f"labels are {low} to {high}, but must be {rule}: they are numbers of classes")
