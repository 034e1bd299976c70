"""What the columns of a table are, and how each becomes inputs: fitted to training rows by scikit-learn.

What is kept of its transformers is plain numbers and texts (structnet.data.tables), so that nothing of them is needed
to use a network.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from structnet.data.rows import as_texts, counting_columns, is_number, is_text, listed, numbers_of, texts_of
from structnet.data.tables import Column, yeo_johnson
from structnet.errors import UserError

MOST_CATEGORIES = 40
LEAST_OF_CATEGORY = 5  # training rows; rarer ones share an input
SKEWED = 1.0  # skewness from which on a column is transformed
# A column of fewer different values is no curve to be straightened.
LEAST_VALUES = 10
_DATE = re.compile(r"\d{4}-\d{1,2}-\d{1,2}([T ].*)?|\d{1,2}[./-]\d{1,2}[./-](\d{4}|\d{2})( .*)?")
_DATES_LOOKED_AT = 100


class Inputs(NamedTuple):
    """names: of the columns that become inputs. keys: of those left out. notes: why, a sentence each."""

    names: list[str]
    keys: list[str]
    notes: list[str]


def input_columns(rows: pa.Table, path: Path, label: str, keys: Sequence[str]) -> Inputs:
    """Which columns of training rows are inputs: all but the label, the keys, and those that name or count the rows.

    Raises UserError where none is left, or one is of a type that is no input, such as a date.
    """
    notes = [f"Column {name!r} is an index, no input: left out." for name in keys]
    counting = [name for name in counting_columns(rows, label) if name not in keys]
    notes += [f"Column {name!r} counts the rows: left out." for name in counting]
    left_out = [*keys, *counting]
    names = []
    for name in rows.column_names:
        if name == label or name in left_out:
            continue
        reason = _useless(rows, name, path)
        if reason:
            left_out.append(name)
            notes.append(f"Column {name!r} {reason}: left out.")
        else:
            names.append(name)
    if not names:
        others = f" (left out: {listed(left_out)})" if left_out else ""
        raise UserError(
            f"{path} has no column beside {label!r}{others}: add an image column or columns to learn from"
        )
    return Inputs(names, left_out, notes)


def _useless(rows: pa.Table, name: str, path: Path) -> str:
    """Why a column is no input, or nothing; raises UserError for a type that cannot be one."""
    kind = rows.schema.field(name).type
    if rows[name].null_count == rows.num_rows:
        return "is empty"
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if is_number(kind) or pa.types.is_boolean(kind):
        return ""
    dates = pa.types.is_temporal(kind)
    if is_text(kind):
        texts = rows[name].drop_null()
        dates = all(_DATE.fullmatch(text.strip()) for text in texts[:_DATES_LOOKED_AT].to_pylist())
        distinct = pc.count_distinct(texts).as_py()
        if not dates and distinct > MOST_CATEGORIES and 2 * distinct > len(texts):
            return f"has {distinct:,} different texts in {len(texts):,} rows, as a name has"
    if dates:
        raise UserError(
            f"column {name!r} of {path} holds dates such as {rows[name].drop_null()[0]}, which are no inputs: replace "
            "it by numbers, such as the month or the days since an event, or remove it"
        )
    if not is_text(kind):
        raise UserError(
            f"column {name!r} of {path} is of type {kind}, but must be numeric, boolean or text (or image or img as a "
            "struct of bytes and path): remove it or code it as numbers"
        )
    return ""


def raw_values(rows: pa.Table, columns: Sequence[Column], path: Path) -> np.ndarray:
    """Raw values of these columns, float64 (n, columns), as `structnet.data.tables` says them.

    Raises UserError where a column is missing, holds texts in place of numbers, or an infinite value.
    """
    names = [column["name"] for column in columns]
    if missing := [name for name in names if name not in rows.column_names]:
        raise UserError(f"{path} has no column {missing[0]!r}: it must have {listed(names)}")
    values = [
        _numbers(rows, column["name"], path)
        if column["kind"] == "number"
        else _codes(rows[column["name"]], column["categories"])
        for column in columns
    ]
    return np.stack(values, axis=1)


def numbers(rows: pa.Table, path: Path, names: Sequence[str]) -> np.ndarray:
    """The values of columns of numbers, float64 (n, columns), all of them there and finite; raises UserError."""
    if missing := [name for name in names if name not in rows.column_names]:
        raise UserError(f"{path} has no column {missing[0]!r}: it must have {listed(names)}")
    values = np.stack([_numbers(rows, name, path) for name in names], axis=1)
    empty = np.argwhere(np.isnan(values))
    if len(empty):
        row, at = empty[0]
        raise UserError(
            f"column {names[at]!r} of {path} is empty in row {row}, but must be a number: fill or remove such rows"
        )
    return values


def _numbers(rows: pa.Table, name: str, path: Path) -> np.ndarray:
    kind = rows.schema.field(name).type
    if not (is_number(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind)):
        raise UserError(
            f"column {name!r} of {path} is of type {kind}, but must be numeric: correct the cells that are no numbers"
        )
    values = numbers_of(rows[name])
    infinite = np.flatnonzero(np.isinf(values))
    if len(infinite):
        raise UserError(
            f"column {name!r} of {path} is {values[infinite[0]]} in row {infinite[0]}, but must be finite or empty: "
            f"correct the {len(infinite)} such rows"
        )
    return values


def _codes(column: pa.ChunkedArray, categories: Sequence[str]) -> np.ndarray:
    """Positions in the categories, (n,): their count for any other text, NaN where there is none."""
    texts = as_texts(column)
    places = pc.index_in(texts, value_set=pa.array(categories, pa.string()))
    known = pc.fill_null(places, len(categories)).to_numpy().astype(np.float64)
    return np.where(pc.is_null(texts).to_numpy(), np.nan, known)


def fitted_columns(rows: pa.Table, names: Sequence[str], path: Path, standardise: bool) -> list[Column]:
    """How these columns of training rows become inputs.

    Numbers: the median for what is missing, with an indicator; where they are skewed the power transform of Yeo and
    Johnson; then mean 0 and standard deviation 1, or with `standardise` false their smallest value to their largest as
    0 to 1, and no transform. Texts and booleans: an input for each category that is common enough.
    """
    numeric = [name for name in names if is_number(rows.schema.field(name).type)]
    found = {}
    if numeric:
        values = np.stack([_numbers(rows, name, path) for name in numeric], axis=1)
        found = dict(zip(numeric, number_columns(numeric, values, standardise)))
    return [found.get(name) or category_column(name, texts_of(rows[name])) for name in names]


def number_columns(names: Sequence[str], values: np.ndarray, standardise: bool) -> list[Column]:
    """How columns of numbers, float64 (n, columns), NaN where one is missing, become inputs."""
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import MinMaxScaler, StandardScaler

    missing = np.isnan(values)
    filled = SimpleImputer(strategy="median").fit_transform(values)
    fills = np.nanmedian(values, axis=0)
    powers = _powers(filled) if standardise else [None] * len(names)
    straight = np.stack(
        [one if power is None else yeo_johnson(one, power) for one, power in zip(filled.T, powers)], axis=1
    )
    scaler = (StandardScaler() if standardise else MinMaxScaler()).fit(straight)
    offset = scaler.mean_ if standardise else scaler.data_min_
    scale = scaler.scale_ if standardise else np.where(scaler.data_range_ > 0, scaler.data_range_, 1.0)
    return [
        {
            "name": name,
            "kind": "number",
            "fill": float(fills[at]),
            "missing": bool(missing[:, at].any()),
            "power": powers[at],
            "offset": float(offset[at]),
            "scale": float(scale[at]),
        }
        for at, name in enumerate(names)
    ]


def _powers(values: np.ndarray) -> list[float | None]:
    """λ of each column that is skewed, if the transform takes at least half of that away."""
    from scipy.stats import skew
    from sklearn.preprocessing import PowerTransformer

    different = [len(np.unique(one)) for one in values.T]
    before = [float(skew(one)) if count >= LEAST_VALUES else 0.0 for one, count in zip(values.T, different)]
    skewed = [at for at, value in enumerate(before) if abs(value) > SKEWED]
    powers: list[float | None] = [None] * len(before)
    for at in skewed:
        power = float(PowerTransformer(standardize=False).fit(values[:, [at]]).lambdas_[0])
        after = yeo_johnson(values[:, at], power)
        if np.isfinite(after).all() and after.std() > 0 and 2 * abs(skew(after)) <= abs(before[at]):
            powers[at] = power
    return powers


def category_column(name: str, texts: Sequence[str | None]) -> Column:
    """How a column of texts becomes inputs."""
    from sklearn.preprocessing import OneHotEncoder

    known = np.array([text for text in texts if text is not None], dtype=object)[:, None]
    encoder = OneHotEncoder(
        handle_unknown="infrequent_if_exist",
        max_categories=MOST_CATEGORIES,
        min_frequency=LEAST_OF_CATEGORY if len(known) > LEAST_OF_CATEGORY * MOST_CATEGORIES else None,
    ).fit(known)
    rare = encoder.infrequent_categories_[0]
    rare = set() if rare is None else set(rare)
    categories = [str(text) for text in encoder.categories_[0] if text not in rare]
    has_missing = len(known) < len(texts)
    return {
        "name": name,
        "kind": "category",
        "categories": categories,
        "other": bool(rare),
        "missing": has_missing,
        "binary": len(categories) == 2 and not rare and not has_missing,
    }
