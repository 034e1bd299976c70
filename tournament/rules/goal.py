"""The job that a network is to do: a figure that it has to hold on validation images."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from typing_extensions import override

from structnet.errors import UserError

LEVEL = 0.95  # at which a target is held with --confident: the bound is one-sided
Z = 1.6449  # of the normal distribution at that level
LEAST_ERROR = 1e-9  # that is allowed: less than one of any number of images


class Figure(ABC):
    """A number that says how well a network does on images.

    right: (images,) booleans. bits: (images,) float64, log2-likelihoods of the label. labels: (images,) class numbers.
    """

    rises: ClassVar[bool] = True  # whether more is better

    @abstractmethod
    def of(self, right: np.ndarray, bits: np.ndarray, labels: np.ndarray) -> float:
        """The figure on these images."""

    @abstractmethod
    def bound(self, right: np.ndarray, bits: np.ndarray, labels: np.ndarray) -> float:
        """What the figure is at least (at most where less is better), at 95 %, on images like these."""

    @abstractmethod
    def constant(self, labels: np.ndarray) -> float:
        """The figure of the best answer that is the same for every image."""


class Accuracy(Figure):
    """Share of right answers; its bound is that of Wilson (1927)."""

    @override
    def of(self, right: np.ndarray, bits: np.ndarray, labels: np.ndarray) -> float:
        return float(right.mean())

    @override
    def bound(self, right: np.ndarray, bits: np.ndarray, labels: np.ndarray) -> float:
        from scipy.stats import binomtest

        found = binomtest(int(right.sum()), len(right))
        return float(found.proportion_ci(2 * LEVEL - 1, method="wilson").low)

    @override
    def constant(self, labels: np.ndarray) -> float:
        return float(np.bincount(labels).max() / len(labels))


class BalancedAccuracy(Figure):
    """Share of right answers averaged over the classes that occur, so that a rare class counts as much as others.

    The variance of its bound is that of a share with one more right and one more wrong answer in every class.
    """

    @override
    def of(self, right: np.ndarray, bits: np.ndarray, labels: np.ndarray) -> float:
        hits, images = _by_class(right, labels)
        return float((hits / images).mean())

    @override
    def bound(self, right: np.ndarray, bits: np.ndarray, labels: np.ndarray) -> float:
        hits, images = _by_class(right, labels)
        share = (hits + 1) / (images + 2)
        error = math.sqrt(float((share * (1 - share) / images).sum())) / len(images)
        return self.of(right, bits, labels) - Z * error

    @override
    def constant(self, labels: np.ndarray) -> float:
        return 1 / len(np.unique(labels))


class Loss(Figure):
    """Mean cross-entropy in nats: the less the better."""

    rises = False

    @override
    def of(self, right: np.ndarray, bits: np.ndarray, labels: np.ndarray) -> float:
        return float(-bits.mean() * math.log(2))

    @override
    def bound(self, right: np.ndarray, bits: np.ndarray, labels: np.ndarray) -> float:
        error = float(bits.std(ddof=1)) / math.sqrt(len(bits)) if len(bits) > 1 else math.inf
        return self.of(right, bits, labels) + Z * error * math.log(2)

    @override
    def constant(self, labels: np.ndarray) -> float:
        share = np.bincount(labels) / len(labels)
        share = share[share > 0]
        return float(-(share * np.log(share)).sum())


def _by_class(right: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Right answers and images of every class that occurs."""
    images = np.bincount(labels)
    hits = np.bincount(labels, weights=right, minlength=len(images))
    return hits[images > 0], images[images > 0]


FIGURES: dict[str, Figure] = {
    "accuracy": Accuracy(),
    "loss": Loss(),
    "balanced_accuracy": BalancedAccuracy(),
}


@dataclass(frozen=True)
class Target:
    """A figure by its name in FIGURES, and what it has to be at least, or at most; with confident by its 95 % bound."""

    figure: str
    value: float
    confident: bool = False

    @property
    def rises(self) -> bool:
        """Whether more of the figure is better."""
        return FIGURES[self.figure].rises

    def found(self, right: np.ndarray, bits: np.ndarray, labels: np.ndarray) -> float:
        """What is compared with the value: the figure itself or, with confident, its bound."""
        figure = FIGURES[self.figure]
        return (figure.bound if self.confident else figure.of)(right, bits, labels)

    def error(self, found: float) -> float:
        """The error - the distance from 1, or the figure itself where less is better - as a share of what is allowed.

        The target holds up to 1.
        """
        return (1 - found) / max(LEAST_ERROR, 1 - self.value) if self.rises else found / self.value

    def holds(self, right: np.ndarray, bits: np.ndarray, labels: np.ndarray) -> bool:
        """Whether it does on these images."""
        return self.error(self.found(right, bits, labels)) <= 1

    def shown(self, number: float) -> str:
        """A value of the figure as text."""
        return f"{number:.2%}" if self.rises else f"{number:.4f}"

    @property
    def text(self) -> str:
        """Such as "an accuracy of 97.00 %, surely"."""
        sure = ", with its 95 % bound" if self.confident else ""
        return f"{self.figure.replace('_', ' ')} {self.shown(self.value)}{sure}"


def check_target(target: Target, labels: np.ndarray) -> None:
    """Raises UserError for what no network need be grown for, or none can reach on these validation labels."""
    figure, name = FIGURES[target.figure], f"target_{target.figure}"
    constant = figure.constant(labels)
    if target.error(constant) <= 1:
        raise UserError(
            f"{name} is {target.value:g}, but the same answer to everything has {constant:.4g} on validation: ask for "
            f"{'more' if figure.rises else 'less'} than that"
        )
    best = target.found(np.ones(len(labels), dtype=bool), np.zeros(len(labels)), labels)
    if target.error(best) > 1:
        raise UserError(
            f"{name} is {target.value:g} and confident is on, but {len(labels)} validation images cannot show more "
            f"than {best:.4g}: give more of them, a lower target, or leave confident out"
        )
