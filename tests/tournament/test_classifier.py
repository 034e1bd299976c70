"""Growing as an estimator: the rules of scikit-learn, tables with texts, limits, and no Ray."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_iris, load_wine, make_moons
from sklearn.exceptions import NotFittedError, SkipTestWarning
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import check_estimator

from structnet.errors import UserError
from structnet.measure.prediction import predict
from tournament import GrownClassifier

QUICK = {"epochs": 5, "random_state": 0}


def test_it_passes_the_checks_of_scikit_learn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SkipTestWarning)  # of arrays that are no arrays of numpy
        check_estimator(GrownClassifier(epochs=2))


def test_moons_are_told_apart_by_few_parameters() -> None:
    X, y = make_moons(800, noise=0.2, random_state=0)
    grown = GrownClassifier(max_parameters=40, random_state=0).fit(X[:600], y[:600])
    assert grown.n_parameters_ == grown.network_.parameter_count <= 40
    assert grown.score(X[600:], y[600:]) > 0.93
    shares = grown.predict_proba(X[600:])
    assert np.allclose(shares.sum(axis=1), 1) and (shares.argmax(axis=1) == grown.predict(X[600:])).all()


def test_the_same_number_gives_the_same_network_and_another_another() -> None:
    X, y = load_wine(return_X_y=True)
    one, two, other = (GrownClassifier(epochs=3, random_state=seed).fit(X, y) for seed in (1, 1, 2))
    assert (one.predict_proba(X) == two.predict_proba(X)).all()
    assert not np.allclose(one.predict_proba(X), other.predict_proba(X))


def test_labels_are_of_any_kind_and_columns_of_texts_and_gaps() -> None:
    rng = np.random.default_rng(0)
    kinds = rng.choice(["red", "green", "blue"], 400)
    frame = pd.DataFrame(
        {
            "kind": kinds,
            "size": np.where(rng.random(400) < 0.2, np.nan, rng.normal(size=400)),
            "flag": rng.random(400) < 0.5,
        }
    )
    y = np.where((kinds == "red") ^ frame["flag"], "yes", "no")
    grown = GrownClassifier(epochs=60, random_state=0).fit(frame[:300], y[:300])
    assert grown.feature_names_in_.tolist() == ["kind", "size", "flag"]
    assert set(grown.predict(frame[300:])) <= {"yes", "no"}
    assert grown.score(frame[300:], y[300:]) > 0.95
    # A kind that nobody has seen, and one that is missing, are answered too.
    odd = pd.DataFrame({"kind": ["pink", None], "size": [0.0, np.nan], "flag": [True, False]})
    assert len(grown.predict(odd)) == 2
    with pytest.raises(ValueError, match="feature names"):
        grown.predict(frame.rename(columns={"size": "length"}))


def test_it_works_in_pipelines_searches_and_cross_validation() -> None:
    X, y = load_iris(return_X_y=True)
    pipeline = make_pipeline(MinMaxScaler(), GrownClassifier(**QUICK))
    assert cross_val_score(pipeline, X, y, cv=3).min() > 0.3
    limits = {"grownclassifier__max_parameters": [12, 60]}
    search = GridSearchCV(pipeline, limits, cv=3).fit(X, y)
    assert search.best_estimator_[-1].n_parameters_ <= search.best_params_["grownclassifier__max_parameters"]


@pytest.mark.parametrize("limit", [120, 400])
def test_bytes_are_a_limit(limit: int) -> None:
    X, y = load_wine(return_X_y=True)
    grown = GrownClassifier(max_bytes=limit, **QUICK).fit(X, y)
    assert 0.8 * limit < grown.n_bytes_ <= limit
    with pytest.raises(UserError, match="max_bytes is 5, but must be at least"):
        GrownClassifier(max_bytes=5).fit(X, y)


def test_a_target_is_held_on_rows_that_do_not_train() -> None:
    X, y = load_wine(return_X_y=True)
    grown = GrownClassifier(target_accuracy=0.9, epochs=20, random_state=0).fit(X, y)
    assert grown.validation_accuracy_ >= 0.9


def test_it_is_saved_as_every_command_takes_it(tmp_path: Path) -> None:
    frame, y = load_iris(return_X_y=True, as_frame=True)
    grown = GrownClassifier(**QUICK).fit(frame.assign(kind=list("ab") * 75), y)
    grown.save(str(tmp_path / "iris"))
    frame.assign(kind=list("ab") * 75).to_csv(tmp_path / "rows.csv", index=False)
    found = predict(str(tmp_path / "iris"), str(tmp_path / "rows.csv")).table
    assert found["prediction"].to_pylist() == [
        str(label) for label in grown.predict(frame.assign(kind=list("ab") * 75))
    ]
    with pytest.raises(NotFittedError):
        GrownClassifier().save(str(tmp_path / "nothing"))


def test_few_rows_and_lonely_classes_are_learned_all_the_same() -> None:
    X = np.arange(12.0)[:, None]
    grown = GrownClassifier(**QUICK).fit(X, ["a"] * 8 + ["b"] * 3 + ["c"])
    assert grown.classes_.tolist() == ["a", "b", "c"]
    with pytest.raises(ValueError, match="y has 1 class, a, but needs at least two"):
        GrownClassifier().fit(X, ["a"] * 12)


@pytest.mark.slow
def test_it_needs_no_ray() -> None:
    code = (
        "import sys\n"
        "sys.modules['ray'] = None\n"
        "from sklearn.datasets import load_iris\n"
        "from tournament import GrownClassifier\n"
        "X, y = load_iris(return_X_y=True)\n"
        "print(GrownClassifier(epochs=2).fit(X, y).score(X, y))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert 0 <= float(done.stdout) <= 1
