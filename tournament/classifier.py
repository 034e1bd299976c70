"""Growing as an estimator of scikit-learn, for pipelines, cross-validation and searches. Needs no Ray."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags, check_consistent_length, check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from typing_extensions import override

from structnet.data.columns import fitted_columns, number_columns, raw_values
from structnet.data.dataset import Dataset, Split, dataset_of, validation_size
from structnet.data.preprocessing import preprocess, table_preprocessing
from structnet.data.tables import Column
from structnet.measure.fitting_size import parameters_within
from structnet.measure.size import stored_bytes
from structnet.network.network import StructNet
from structnet.network.random_topology import least_density
from structnet.seeds import stream
from structnet.training.fit import fit
from structnet.training.fitted_rate import fitted_rate
from tournament.coordinator import Tournament
from tournament.settings import fitted_batch, fitted_settings

HIDDEN, DENSITY, KNEE = 100, 0.01, 0.01  # as `structnet grow` has them
LAST_EPOCHS, LAST_RATE = 20, 0.15  # over all rows in the end, and the share of the usual learning rate
LEAST_BATCH = 16  # of that training
LEAST_SPLIT = 40  # rows; of fewer, those that train decide as well
BLOCK = 10_000  # rows predicted at once


class GrownClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A sparse network, grown to be as small as it may be: by default the knee of accuracy over size.

    Columns are standardised, skewed ones straightened, missing values filled, and texts of a pandas frame encoded. A
    tenth of the rows, or a quarter of few, decides; once that is done, the network trains on over all rows for a while.

    max_parameters, max_bytes: what the network may have at most. target_accuracy: the smallest network that holds it on
    the rows that decide. epochs: over the rows that train; None for what suits their number. random_state: as elsewhere
    in scikit-learn; the same number gives the same network.

    After `fit`: classes_, n_features_in_, feature_names_in_ for a frame, n_parameters_, n_bytes_, validation_accuracy_
    (before the last training), network_ (a StructNet), preprocessing_ (plain values, structnet.data.tables).
    """

    def __init__(
        self,
        *,
        max_parameters: int | None = None,
        max_bytes: int | None = None,
        target_accuracy: float | None = None,
        epochs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.max_parameters = max_parameters
        self.max_bytes = max_bytes
        self.target_accuracy = target_accuracy
        self.epochs = epochs
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Grows a network. X: (rows, columns) numbers, or a frame that may have texts; y: (rows,) labels.

        Raises ValueError for data that cannot be learned from, UserError for limits that no network meets.
        """
        rows, y = self._rows(X, y, reset=True)
        check_classification_targets(y)
        self.classes_, numbers = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"y has 1 class, {self.classes_[0]!s}, but needs at least two: there is nothing to tell apart"
            )
        rng_seed = int(check_random_state(self.random_state).randint(2**31))
        data = self._dataset(rows, numbers)
        shape = (data.input_units, HIDDEN, data.classes)
        density = min(1.0, max(DENSITY, 1.2 * least_density(shape)))
        seed = StructNet(shape, density, rng_seed=rng_seed, ensure_paths=True)
        settings = fitted_settings(len(data.train), **self._job(shape), learning_rate=fitted_rate(data.train))
        result = Tournament(seed, data, settings=settings).run()
        self.validation_accuracy_ = result.measured.accuracy
        self.network_ = _trained_on_all(result.network, data, rng_seed)
        self.preprocessing_ = data.preprocessing
        self.n_parameters_ = self.network_.parameter_count
        self.n_bytes_ = stored_bytes(self.network_.topology)
        return self

    def save(self, path: str) -> None:
        """Writes a snapshot, path.safetensors and path.json, as `structnet predict` and `structnet export` take it."""
        check_is_fitted(self)
        names = self.preprocessing_["class_names"]
        self.network_.save(path, preprocessing=self.preprocessing_, class_names=names)

    def _job(self, shape: Sequence[int]) -> dict[str, Any]:
        """What is asked for, as options of a tournament."""
        limits = [] if self.max_parameters is None else [int(self.max_parameters)]
        if self.max_bytes is not None:
            limits.append(parameters_within(int(self.max_bytes), shape))
        asked = {
            "max_parameters": min(limits) if limits else None,
            "max_bytes": None if self.max_bytes is None else int(self.max_bytes),
            "target_accuracy": self.target_accuracy,
            "knee": None if limits or self.target_accuracy is not None else KNEE,
            "epochs": self.epochs,
        }
        return {name: value for name, value in asked.items() if value is not None}

    def _dataset(self, rows: Any, numbers: np.ndarray) -> Dataset:
        """What trains and what decides, and again what decides in place of a test, which nobody reads."""
        train, decide = _divided(numbers)
        columns = _fitted(rows, train)
        values, names = _raw(rows, columns), tuple(str(label) for label in self.classes_)
        parts = {"train": train, "validation": decide, "test": decide}
        raw = {split: (values[where], numbers[where]) for split, where in parts.items()}
        return dataset_of("the rows", raw, table_preprocessing(columns, names, True, "y", []))

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability of each class, (rows, classes), in the order of `classes_`."""
        check_is_fitted(self)
        values = _raw(self._rows(X, reset=False)[0], self.preprocessing_["columns"])
        found = np.empty((len(values), len(self.classes_)))
        with torch.no_grad():
            for start in range(0, len(values), BLOCK):
                inputs = preprocess(values[start : start + BLOCK], self.preprocessing_)
                found[start : start + BLOCK] = self.network_(inputs).double().softmax(dim=1).numpy()
        return found

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each row, (rows,)."""
        numbers = self.predict_proba(X).argmax(axis=1)
        found: np.ndarray = self.classes_[numbers]
        return found

    def _rows(self, X: Any, y: Any = None, *, reset: bool) -> tuple[Any, Any]:
        """X as float64 (rows, columns) or, where it is a frame with more than numbers, as a table; and y, checked."""
        if _has_texts(X):
            given = validate_data(self, X, skip_check_array=True, reset=reset)
            rows = pa.Table.from_pandas(given, preserve_index=False)
            if y is None:
                return rows, None
            check_consistent_length(given, y)
            return rows, column_or_1d(y, warn=True)
        checked: dict[str, Any] = {"dtype": np.float64, "ensure_all_finite": "allow-nan", "reset": reset}
        if y is None:
            return validate_data(self, X, **checked), None
        rows, y = validate_data(self, X, y, **checked)
        return rows, y

    @override
    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


def _has_texts(rows: Any) -> bool:
    kinds = getattr(rows, "dtypes", None)
    return kinds is not None and hasattr(rows, "columns") and any(kind.kind not in "iuf" for kind in kinds)


def _fitted(rows: Any, train: np.ndarray) -> list[Column]:
    """How columns become inputs, by the rows that train."""
    if isinstance(rows, pa.Table):
        return fitted_columns(rows.take(pa.array(train)), rows.column_names, Path("X"), standardise=True)
    return number_columns([f"x{at}" for at in range(rows.shape[1])], rows[train], standardise=True)


def _raw(rows: Any, columns: Sequence[Column]) -> np.ndarray:
    return raw_values(rows, columns, Path("X")) if isinstance(rows, pa.Table) else np.asarray(rows)


def _divided(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions that train and that decide: of each class its share, always in one order; of few rows all for both."""
    order = stream(0, "splits").permutation(len(numbers))
    if len(order) < LEAST_SPLIT:
        return order, order
    share = validation_size(len(order)) / len(order)
    decide = np.zeros(len(order), dtype=bool)
    for number in np.unique(numbers):
        places = np.flatnonzero(numbers[order] == number)
        decide[places[len(places) - round(share * len(places)) :]] = True
    return order[~decide], order[decide]


def _trained_on_all(network: StructNet, data: Dataset, rng_seed: int) -> StructNet:
    """The network, trained on over all rows, those that decided too, when there is nothing left to decide.

    Test, 5 rng_seeds, without and with it: breast cancer 97.5 and 98.1, wine 97.8 and 98.3, digits 94.8 and 95.7.
    """
    same = torch.equal(data.train.labels, data.validation.labels)
    parts = [data.train] if same else [data.train, data.validation]
    rows = Split(torch.cat([part.stored for part in parts]), torch.cat([part.labels for part in parts]))
    batch_size, rate = max(LEAST_BATCH, fitted_batch(len(rows))), LAST_RATE * fitted_rate(rows)
    trained = network.fork()
    everything = replace(data, train=rows)
    fit(trained, everything, epochs=LAST_EPOCHS, learning_rate=rate, batch_size=batch_size, rng_seed=rng_seed)
    return trained
