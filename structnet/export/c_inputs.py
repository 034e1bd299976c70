"""What makes inputs of raw values in C: the preprocessing of a table, of the inputs that some connection uses.

Single precision is enough because nothing large is taken from something large. A number becomes (value - centre) ·
factor + shift, where the centre is the offset in single precision, and shift is what that leaves. Where it goes through
the transform of Yeo and Johnson, and the mean is that of a value c, it becomes expm1(λ · (log1p(value) - log1p(c))) ·
factor + shift; and log1p(value) - log1p(c) is log1p((value - c) ÷ (1 + c)) where the two are close.
"""

from __future__ import annotations

from math import expm1, inf, log, log1p
from typing import Any, NamedTuple

import numpy as np

from structnet.export.rows import smallest

NUMBERS, POWERS, CATEGORIES, MISSING = "number", "power", "category", "missing"
NO_POWER = 1e-20  # below it the transform is the logarithm
LARGEST_CENTRE = 1e30
FLAG = 255  # the code of an input that is 1
SIDE = 6  # numbers of the transform for values of one sign


class Source(NamedTuple):
    """What makes an input: a column, how it is looked at, and of a category its number."""

    kind: str
    column: int
    code: int = 0


class Codes(NamedTuple):
    """Inputs are written as (input - offset) ÷ scale, (inputs,) each."""

    scales: np.ndarray
    offsets: np.ndarray

    @classmethod
    def none(cls, inputs: int) -> Codes:
        """Inputs are written as they are."""
        return cls(np.ones(inputs), np.zeros(inputs))


def sources_of(preprocessing: dict[str, Any]) -> list[Source]:
    """What makes each input, in their order; of a table or columns."""
    if preprocessing["kind"] == "columns":
        return [Source(NUMBERS, at) for at in range(len(preprocessing["columns"]))]
    found = []
    for at, column in enumerate(preprocessing["columns"]):
        if column["kind"] == "number":
            found.append(Source(NUMBERS if column["power"] is None else POWERS, at))
        elif column["binary"]:
            found.append(Source(CATEGORIES, at, 1))
        else:
            codes = range(len(column["categories"]) + column["other"])
            found += [Source(CATEGORIES, at, code) for code in codes]
        if column["missing"]:
            found.append(Source(MISSING, at))
    return found


def input_tables(preprocessing: dict[str, Any], used: np.ndarray, codes: Codes) -> dict[str, np.ndarray]:
    """The tables of a preprocessing by name; used: (inputs,) which inputs any connection reads."""
    sources = sources_of(preprocessing)
    found: dict[str, np.ndarray] = {}
    for kind in (NUMBERS, POWERS, CATEGORIES, MISSING):
        inputs = np.array(
            [at for at, made in enumerate(sources) if made.kind == kind and used[at]], dtype=np.int64
        )
        if not len(inputs):
            continue
        columns = [sources[at].column for at in inputs]
        found[f"pre_{kind}_inputs"] = smallest(inputs)
        found[f"pre_{kind}_columns"] = smallest(np.array(columns))
        if kind == CATEGORIES:
            found[f"pre_{kind}_codes"] = smallest(np.array([sources[at].code for at in inputs]))
        elif kind in (NUMBERS, POWERS):
            found |= _number_tables(kind, preprocessing, columns, codes.scales[inputs], codes.offsets[inputs])
    return found


def coded(preprocessing: dict[str, Any], codes: Codes, raw: np.ndarray) -> np.ndarray:
    """Raw values, (n, columns), to codes of inputs before they are rounded, float64 (n, inputs), as C computes them."""
    inputs = len(sources_of(preprocessing))
    tables = input_tables(preprocessing, np.ones(inputs, dtype=bool), codes)
    values = raw.astype(np.float32).astype(np.float64)
    found = np.empty((len(raw), inputs))
    for kind in (NUMBERS, POWERS, CATEGORIES, MISSING):
        if f"pre_{kind}_inputs" not in tables:
            continue
        value = values[:, tables[f"pre_{kind}_columns"]]
        if kind == MISSING:
            made = FLAG * np.isnan(value)
        elif kind == CATEGORIES:
            made = FLAG * (value == tables[f"pre_{kind}_codes"])
        else:
            if f"pre_{kind}_fill" in tables:
                value = np.where(np.isnan(value), tables[f"pre_{kind}_fill"], value)
            numbers = tables[f"pre_{kind}_numbers"].astype(np.float64).reshape(value.shape[1], -1)
            made = _transformed(value, numbers) if kind == POWERS else _scaled(value, *numbers.T)
        found[:, tables[f"pre_{kind}_inputs"]] = made
    return found


def _scaled(value: np.ndarray, centre: np.ndarray, factor: np.ndarray, shift: np.ndarray) -> np.ndarray:
    found: np.ndarray = (value - centre) * factor + shift
    return found


def _transformed(value: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """The transform of Yeo and Johnson; sides: (inputs, 12), as `_side` makes them."""
    below, size = value < 0, np.abs(value)
    power, centre, reach, level, factor, shift = np.where(
        below[:, :, None], sides[:, SIDE:], sides[:, :SIDE]
    ).transpose(2, 0, 1)
    with np.errstate(all="ignore"):
        step = (size - centre) * reach
        step = np.where(np.abs(step) < 0.5, np.log1p(step), np.log1p(size) - level)
        found: np.ndarray = np.where(power == 0, step, np.expm1(power * step)) * factor + shift
    return found


def _number_tables(
    kind: str, preprocessing: dict[str, Any], columns: list[int], scales: np.ndarray, offsets: np.ndarray
) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    if preprocessing["kind"] == "columns":
        described = [
            {"offset": preprocessing["offset"][at], "scale": preprocessing["scale"][at]} for at in columns
        ]
    else:
        described = [preprocessing["columns"][at] for at in columns]
        fill = [column["fill"] for column in described]
        found[f"pre_{kind}_fill"] = np.array(fill, dtype=np.float32)
    made = []
    for column, scale, offset in zip(described, scales, offsets):
        # As codes: divided by their scale as well, from what their offset is as an input.
        divisor, middle = column["scale"] * scale, column["offset"] + column["scale"] * offset
        if kind == NUMBERS:
            centre = float(np.float32(middle))
            made.append([centre, 1 / divisor, (centre - middle) / divisor])
        else:
            made.append(
                _side(1, column["power"], middle, divisor) + _side(-1, 2 - column["power"], middle, divisor)
            )
    found[f"pre_{kind}_numbers"] = np.array(made, dtype=np.float32).reshape(-1)
    return found


def _side(sign: int, power: float, offset: float, divisor: float) -> list[float]:
    """Power, c, 1 ÷ (1 + c), log1p(c), factor and shift of values of one sign, for (y - offset) ÷ divisor."""
    for centre in (_centre(power, sign * offset), 0.0):
        level = log1p(centre)
        if abs(power) < NO_POWER:
            power, factor, middle = 0.0, sign / divisor, sign * level
        elif power * level < log(LARGEST_CENTRE):
            factor = sign * (expm1(power * level) + 1) / (power * divisor)
            middle = sign * expm1(power * level) / power
        else:
            continue
        if np.finfo(np.float32).tiny < abs(factor) < np.finfo(np.float32).max:
            break
    return [power, centre, 1 / (1 + centre), level, factor, (middle - offset) / divisor]


def _centre(power: float, mean: float) -> float:
    """The value, not negative and in single precision, whose transform has this mean; 0 where there is none."""
    if mean <= 0:
        return 0.0
    level = inf
    if abs(power) < NO_POWER:
        level = mean
    elif power * mean > -1:
        level = log1p(power * mean) / power
    return float(np.float32(expm1(level))) if level < log(LARGEST_CENTRE) else 0.0
