"""What an accuracy is worth where one class is much commoner than others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Times its equal share that the commonest class has, from which on accuracy alone misleads.
IMBALANCED = 1.5


@dataclass(frozen=True)
class Balance:
    """Answers on a split, where classes may be rare.

    majority: the share of the commonest class, which a constant answer gets. balanced_accuracy: the share of right
    answers averaged over the classes that occur. is_imbalanced: whether the commonest class has more than 1.5 times its
    equal share. says_one_class: whether all answers that are right are of the commonest class, and all of it.
    """

    majority: float
    balanced_accuracy: float
    is_imbalanced: bool
    says_one_class: bool

    @property
    def shown(self) -> str:
        """What to put behind an accuracy; nothing where that says enough."""
        if not self.is_imbalanced:
            return ""
        return f" (balanced {self.balanced_accuracy:.2%}; the commonest class is {self.majority:.2%})"


def balance_of(right: np.ndarray, labels: np.ndarray, classes: int) -> Balance:
    """Of answers, (images,) booleans whether they are right, to these class numbers, (images,)."""
    counts = np.bincount(labels, minlength=classes)
    commonest = int(counts.argmax())
    majority = float(counts[commonest]) / len(labels)
    return Balance(
        majority,
        float(balanced_accuracy(right, labels)),
        majority * classes > IMBALANCED,
        bool(np.array_equal(right, labels == commonest)),
    )


def balanced_accuracy(right: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The share of right answers averaged over the classes that occur, (...); right: (..., images) booleans."""
    images = np.bincount(labels)
    occur = np.flatnonzero(images)
    hits = right.reshape(-1, len(labels)) @ (labels[:, None] == occur).astype(np.float64)
    shares: np.ndarray = (hits / images[occur]).mean(axis=1).reshape(right.shape[:-1])
    return shares
