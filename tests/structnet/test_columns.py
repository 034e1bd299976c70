"""Columns become inputs as scikit-learn's own transformers make them, from plain values alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, PowerTransformer, StandardScaler

from structnet.data.columns import (
    category_column,
    fitted_columns,
    input_columns,
    number_columns,
    numbers,
    raw_values,
)
from structnet.data.tables import Column, input_count, table_inputs, yeo_johnson
from structnet.errors import UserError

RNG = np.random.default_rng(0)
NORMAL, SKEWED = RNG.normal(5, 3, 400), np.exp(RNG.normal(0, 1.5, 400)) * 1e4


def inputs_of(values: np.ndarray, columns: list[Column]) -> np.ndarray:
    """By the columns after they have been JSON."""
    made = table_inputs(values, json.loads(json.dumps(columns)))
    assert made.shape[1] == input_count(columns)
    return made


def test_even_columns_are_standardised_and_skewed_ones_straightened() -> None:
    values = np.stack([NORMAL, SKEWED, -SKEWED], axis=1)
    columns = number_columns(["normal", "skewed", "left"], values, standardise=True)
    assert [column["power"] is None for column in columns] == [True, False, False]
    made = inputs_of(values, columns)
    assert np.allclose(made[:, 0], StandardScaler().fit_transform(values[:, :1])[:, 0], atol=1e-6)
    assert np.allclose(made[:, 1:], PowerTransformer().fit_transform(values[:, 1:]), atol=1e-5)
    assert np.allclose(made.mean(axis=0), 0, atol=1e-6) and np.allclose(made.std(axis=0), 1, atol=1e-6)


def test_without_standardising_columns_go_from_0_to_1_as_they_are() -> None:
    values = np.stack([NORMAL, SKEWED], axis=1)
    columns = number_columns(["normal", "skewed"], values, standardise=False)
    assert np.allclose(inputs_of(values, columns), MinMaxScaler().fit_transform(values), atol=1e-6)


def test_what_is_missing_gets_the_median_and_an_indicator() -> None:
    values = NORMAL.copy()[:, None]
    values[::7] = np.nan
    columns = number_columns(["a"], values, standardise=True)
    filled = make_pipeline(SimpleImputer(strategy="median"), StandardScaler()).fit_transform(values)
    made = inputs_of(values, columns)
    assert np.allclose(made[:, 0], filled[:, 0], atol=1e-6)
    assert made[:, 1].tolist() == np.isnan(values[:, 0]).astype(float).tolist()


def test_a_value_that_is_missing_only_later_gets_the_median_without_an_indicator() -> None:
    columns = number_columns(["a"], np.array([[1.0], [2.0], [6.0]]), standardise=True)
    assert (
        inputs_of(np.array([[np.nan], [2.0]]), columns).tolist() == [[pytest.approx(-0.46291, abs=1e-5)]] * 2
    )


def test_a_constant_column_is_0_and_stays_finite() -> None:
    for standardise in (True, False):
        columns = number_columns(["a"], np.full((5, 1), 7.0), standardise)
        assert inputs_of(np.array([[7.0], [8.0]]), columns).tolist() == [[0.0], [1.0]]


def test_few_values_are_no_curve_to_be_straightened() -> None:
    flags = np.zeros((400, 1))
    flags[:10] = 1
    assert number_columns(["flag"], flags, standardise=True)[0]["power"] is None


def test_texts_get_an_input_each_as_the_encoder_has_them() -> None:
    texts = ["b", "a", "c", "a", None, "b", "a"]
    column = category_column("x", texts)
    assert (column["categories"], column["other"], column["missing"]) == (["a", "b", "c"], False, True)
    raw = raw_values(pa.table({"x": texts}), [column], Path("rows"))
    known = np.array([text for text in texts if text], dtype=object)[:, None]
    encoded = OneHotEncoder(sparse_output=False).fit_transform(known)
    made = inputs_of(raw, [column])
    there = [text is not None for text in texts]
    assert np.array_equal(made[there, :3], encoded)
    assert made[:, 3].tolist() == [0, 0, 0, 0, 1, 0, 0] and not made[4, :3].any()


def test_two_texts_need_one_input() -> None:
    column = category_column("x", ["no", "yes", "no"])
    raw = raw_values(pa.table({"x": ["yes", "no", "maybe", None]}), [column], Path("rows"))
    assert inputs_of(raw, [column]).tolist() == [[1], [0], [0], [0]]


def test_rare_texts_share_an_input_with_those_that_nobody_has_seen() -> None:
    texts = ["often"] * 300 + ["now and then"] * 50 + ["rare", "rarer"] * 2
    column = category_column("x", texts)
    assert (column["categories"], column["other"]) == (["now and then", "often"], True)
    raw = raw_values(pa.table({"x": ["often", "rare", "new"]}), [column], Path("rows"))
    assert inputs_of(raw, [column]).tolist() == [[0, 1, 0], [0, 0, 1], [0, 0, 1]]
    encoder = OneHotEncoder(min_frequency=5, handle_unknown="infrequent_if_exist", sparse_output=False)
    encoder.fit(np.array(texts, dtype=object)[:, None])
    given = np.array(["often", "rare", "new"], dtype=object)[:, None]
    assert np.array_equal(inputs_of(raw, [column]), encoder.transform(given))


def test_there_are_at_most_forty_inputs_of_a_column() -> None:
    texts = [f"t{at % 90:02d}" for at in range(5000)]
    column = category_column("x", texts)
    assert len(column["categories"]) + column["other"] == 40


def test_booleans_and_categories_are_texts() -> None:
    rows = pa.table({"flag": [True, False, None], "kind": pa.array(["u", "v", "u"]).dictionary_encode()})
    columns = fitted_columns(rows, rows.column_names, Path("rows"), standardise=True)
    assert [column["categories"] for column in columns] == [["false", "true"], ["u", "v"]]
    assert inputs_of(raw_values(rows, columns, Path("rows")), columns).tolist() == [
        [0, 1, 0, 0],
        [1, 0, 0, 1],
        [0, 0, 1, 0],
    ]


def test_columns_of_all_kinds_follow_each_other_in_the_order_of_the_table() -> None:
    rows = pa.table({"t": ["p", "q", "r"] * 4, "n": np.arange(12.0), "m": [1.0, None, 3.0] * 4})
    columns = fitted_columns(rows, ["t", "n", "m"], Path("rows"), standardise=False)
    made = inputs_of(raw_values(rows, columns, Path("rows")), columns)
    assert made[1].tolist() == [0, 1, 0, pytest.approx(1 / 11), 0.5, 1]


def test_columns_that_name_or_count_the_rows_are_left_out_and_said() -> None:
    rows = pa.table(
        {
            "id": np.arange(60),
            "who": [f"person {at}" for at in range(60)],
            "nothing": pa.nulls(60, pa.float64()),
            "x": RNG.normal(size=60),
            "key": list("ab") * 30,
            "label": [0, 1] * 30,
        }
    )
    found = input_columns(rows, Path("rows"), "label", ["key"])
    assert (found.names, found.keys) == (["x"], ["key", "id", "who", "nothing"])
    said = " ".join(found.notes)
    assert "'id' counts the rows" in said and "'who' has 60 different texts in 60 rows" in said
    assert "'nothing' is empty" in said and "'key' is an index" in said


def test_what_new_rows_lack_or_have_of_another_type_is_named() -> None:
    train = pa.table({"a": [1.0, 2.0], "b": ["x", "y"]})
    columns = fitted_columns(train, ["a", "b"], Path("train"), standardise=True)
    with pytest.raises(UserError, match="new has no column 'b': it must have 'a', 'b'"):
        raw_values(pa.table({"a": [1.0]}), columns, Path("new"))
    with pytest.raises(UserError, match="column 'a' of new is of type string, but must be numeric"):
        raw_values(pa.table({"a": ["many"], "b": ["x"]}), columns, Path("new"))
    with pytest.raises(UserError, match="column 'a' of new is inf in row 1, but must be finite or empty"):
        raw_values(pa.table({"a": [1.0, np.inf], "b": ["x", "y"]}), columns, Path("new"))
    assert raw_values(pa.table({"a": [1], "b": [7]}), columns, Path("new")).tolist() == [[1, 2]]


def test_columns_that_must_be_there_may_not_be_empty() -> None:
    with pytest.raises(UserError, match="column 'a' of rows is empty in row 1"):
        numbers(pa.table({"a": [1.0, None]}), Path("rows"), ["a"])


@given(st.lists(st.floats(-1e8, 1e8), min_size=1, max_size=20), st.floats(-4, 6))
def test_the_power_transform_is_that_of_scipy(values: list[float], power: float) -> None:
    with np.errstate(all="ignore"):
        expected = scipy.stats.yeojohnson(np.array(values), power)
        made = yeo_johnson(np.array(values), power)
    usable = np.isfinite(expected) & (np.abs(expected) < 1e12)
    assert np.allclose(made[usable], expected[usable], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("power", [0.0, 1e-12, 2.0, 2 - 1e-12])
def test_the_power_transform_is_smooth_where_its_formula_divides_by_0(power: float) -> None:
    values = np.array([-3.0, -0.5, 0.0, 0.5, 3.0])
    assert np.allclose(yeo_johnson(values, power), scipy.stats.yeojohnson(values, round(power)), atol=1e-9)
