"""What does a grown network give on a table, beside what people use there: accuracy, rare classes, and bytes.

Every rng_seed has a split of its own of all rows, a fifth of each class for test. All methods are given the same
inputs, with columns as structnet.data.columns makes them, and all other rows: of those a grown network keeps back what
decides. Bytes are float32: 4 for a number; for a node of a tree 10, its column, threshold and two children; and for a
grown network with its indices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from search.commands.study.comparison import (
    POINTS,
    TEST,
    Column,
    arm_table,
    draw_arms,
    in_points,
    lead_of,
    means_of,
)
from search.commands.study.study import Finding, Measurement, Place, Row, Scale, Study, Task, verdict
from search.commands.study.tasks import tasks_of
from search.report.charts import Chart
from structnet.data.dataset import Dataset
from structnet.measure.imbalance import balance_of

GROWN, SMALL, LINEAR, TREES, PERCEPTRON = (
    "grown",
    "grown small",
    "logistic regression",
    "boosted trees",
    "MLP",
)
ARMS: dict[str, dict[str, Any]] = {arm: {} for arm in (GROWN, SMALL, LINEAR, TREES, PERCEPTRON)}
TEST_SHARE, HIDDEN = 0.2, 100  # the MLP's, as scikit-learn has it
NUMBER_BYTES, NODE_BYTES = 4, 10
CLOSE = 0.01  # of accuracy
BALANCED: Column = ("balanced_accuracy", "balanced, %", 100, 2)
BYTES: Column = ("bytes", "bytes", 1, 0)
PARAMETERS: Column = ("parameters", "parameters", 1, 0)


def tasks(data: Dataset, scale: Scale) -> list[Task]:
    return tasks_of(ARMS, scale, epochs=5 if scale.quick else None)


def measure(task: Task, data: Dataset, place: Place) -> list[Measurement]:
    """Accuracy and balanced accuracy on test, parameters and bytes."""
    from sklearn.model_selection import train_test_split

    splits = (data.train, data.validation, data.test)
    rows = np.concatenate([split.images.flatten(1).numpy() for split in splits])
    labels = np.concatenate([split.labels.numpy() for split in splits])
    train, test, known, expected = train_test_split(
        rows, labels, test_size=TEST_SHARE, stratify=labels, random_state=task.rng_seed
    )
    model, parameters, taken = MAKERS[task.arm](train, known, task)
    right = model.predict(test) == expected
    return [
        Measurement("test_accuracy", float(right.mean())),
        Measurement("balanced_accuracy", balance_of(right, expected, data.classes).balanced_accuracy),
        Measurement("parameters", parameters),
        Measurement("bytes", taken),
    ]


def _grown(rows: np.ndarray, labels: np.ndarray, task: Task) -> tuple[Any, int, int]:
    return _fitted_network(rows, labels, task, None)


def _small(rows: np.ndarray, labels: np.ndarray, task: Task) -> tuple[Any, int, int]:
    classes = len(np.unique(labels))
    outputs = 1 if classes == 2 else classes  # as scikit-learn has them
    perceptron = (rows.shape[1] + 1) * HIDDEN + (HIDDEN + 1) * outputs
    return _fitted_network(rows, labels, task, perceptron // 10)


def _fitted_network(
    rows: np.ndarray, labels: np.ndarray, task: Task, limit: int | None
) -> tuple[Any, int, int]:
    from tournament.classifier import GrownClassifier

    model = GrownClassifier(
        max_parameters=limit, epochs=task.options["epochs"], random_state=task.rng_seed
    ).fit(rows, labels)
    return model, model.n_parameters_, model.n_bytes_


def _linear(rows: np.ndarray, labels: np.ndarray, task: Task) -> tuple[Any, int, int]:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=5000).fit(rows, labels)
    count = model.coef_.size + model.intercept_.size
    return model, count, NUMBER_BYTES * count


def _trees(rows: np.ndarray, labels: np.ndarray, task: Task) -> tuple[Any, int, int]:
    from sklearn.ensemble import HistGradientBoostingClassifier

    model = HistGradientBoostingClassifier(random_state=task.rng_seed).fit(rows, labels)
    nodes = sum(len(tree.nodes) for trees in model._predictors for tree in trees)
    return model, nodes, NODE_BYTES * nodes


def _perceptron(rows: np.ndarray, labels: np.ndarray, task: Task) -> tuple[Any, int, int]:
    from sklearn.neural_network import MLPClassifier

    model = MLPClassifier((HIDDEN,), max_iter=1000, random_state=task.rng_seed).fit(rows, labels)
    count = sum(part.size for part in (*model.coefs_, *model.intercepts_))
    return model, count, NUMBER_BYTES * count


MAKERS: dict[str, Callable[[np.ndarray, np.ndarray, Task], tuple[Any, int, int]]] = {
    GROWN: _grown,
    SMALL: _small,
    LINEAR: _linear,
    TREES: _trees,
    PERCEPTRON: _perceptron,
}


def judge(rows: Sequence[Row]) -> Finding:
    """Yes if a tenth of the MLP is surely not worse than it by a point, no if it surely is; open in between."""
    lead = lead_of(SMALL, PERCEPTRON, rows, "test_accuracy")
    sizes = means_of(rows, "bytes")
    sentences = (
        f"With at most a tenth of its parameters, a grown network leads the MLP by {in_points(lead)} points.",
        f"It takes {sizes[SMALL]:,.0f} bytes, the MLP {sizes[PERCEPTRON]:,.0f}, boosted trees {sizes[TREES]:,.0f} and "
        f"logistic regression {sizes[LINEAR]:,.0f}.",
    )
    holds = verdict(yes=lead.low > -CLOSE, no=lead.high < -CLOSE, otherwise="open")
    return Finding(holds, sentences, arm_table(rows, (TEST, BALANCED, PARAMETERS, BYTES), PERCEPTRON))


def draw(rows: Sequence[Row]) -> Chart:
    """A point for every method and rng_seed."""
    return draw_arms(rows, "test_accuracy", "Test accuracy, %", scale=100)


STUDY = Study(
    name="tables",
    question="What does a grown network give on a table, beside logistic regression, boosted trees and an MLP?",
    claim="within a point of the MLP at a tenth of its parameters or fewer",
    dataset="breast_cancer",
    tasks=tasks,
    measure=measure,
    judge=judge,
    draw=draw,
    seen="Test accuracy of every method",
    reading=POINTS,
)
