"""Columns of a table as inputs of a network.

A column is described by a dictionary of plain values, which goes through JSON unchanged. Each makes its inputs, and
they follow each other in the order of the columns:

    {"name", "kind": "number", "fill", "missing", "power", "offset", "scale"}
        NaN is replaced by `fill`; unless `power` is None the value goes through the transform of Yeo and Johnson (2000)
        with this λ; then (value - offset) / scale. Where `missing`, a second input is 1 for NaN and 0 otherwise.
    {"name", "kind": "category", "categories", "other", "missing", "binary"}
        raw values are positions in `categories`, its length for any other text, and NaN where there is none. One input
        for each category, then one for any other text if `other`, one for NaN if `missing`: 1 where it is that, else 0.
        Where `binary`, which has two categories and neither of these, a single input is 1 for the second one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Column = dict[str, Any]


def table_inputs(values: np.ndarray, columns: list[Column]) -> np.ndarray:
    """Raw values, float64 (n, columns), as inputs of a network, float32 (n, inputs)."""
    made = [column_inputs(values[:, at], column) for at, column in enumerate(columns)]
    return np.concatenate(made, axis=1).astype(np.float32)


def column_inputs(values: np.ndarray, column: Column) -> np.ndarray:
    """The inputs of one column, float64 (n, inputs of the column)."""
    missing = np.isnan(values)
    if column["kind"] == "number":
        filled = np.where(missing, column["fill"], values)
        if column["power"] is not None:
            filled = yeo_johnson(filled, column["power"])
        found = [(filled - column["offset"]) / column["scale"]]
    elif column["binary"]:
        found = [values == 1]
    else:
        found = [values == code for code in range(len(column["categories"]) + column["other"])]
    if column["missing"]:
        found.append(missing)
    return np.stack(found, axis=1).astype(np.float64)


def input_count(columns: list[Column]) -> int:
    """Inputs that these columns make."""
    return sum(
        1 + column["missing"]
        if column["kind"] == "number"
        else 1
        if column["binary"]
        else len(column["categories"]) + column["other"] + column["missing"]
        for column in columns
    )


def input_names(preprocessing: dict[str, Any]) -> list[str] | None:
    """What each input of a table is, such as `age`, `colour = red` or `age missing`; None of pictures."""
    if preprocessing["kind"] not in ("columns", "table"):
        return None
    if preprocessing["kind"] == "columns":
        return [str(name) for name in preprocessing["columns"]]
    return [name for column in preprocessing["columns"] for name in _names_of(column)]


def _names_of(column: Column) -> list[str]:
    name = column["name"]
    if column["kind"] == "number":
        found = [name]
    elif column["binary"]:
        return [f"{name} = {column['categories'][1]}"]
    else:
        found = [f"{name} = {text}" for text in column["categories"]]
        found += [f"{name} = another"] * column["other"]
    return [*found, *[f"{name} missing"] * column["missing"]]


def yeo_johnson(values: np.ndarray, power: float) -> np.ndarray:
    """The transform of Yeo and Johnson (2000) with λ = power, in a form that is exact near λ = 0 and λ = 2 as well."""
    upper, lower = np.log1p(np.maximum(values, 0.0)), np.log1p(np.maximum(-values, 0.0))
    return np.where(values >= 0, _powered(upper, power), -_powered(lower, 2.0 - power))


def _powered(logarithm: np.ndarray, power: float) -> np.ndarray:
    """(exp(power · logarithm) - 1) / power."""
    return logarithm if power == 0 else np.expm1(power * logarithm) / power
