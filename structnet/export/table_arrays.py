"""The columns of a table as arrays, for forms that compute all of them at once.

Inputs are made in three parts - numbers, texts that are a category, cells that are missing - and then put in order.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class TableArrays(NamedTuple):
    """What makes inputs of raw values, (n, columns) float64.

    number: the columns of numbers, (numbers,); fill, power, offset, scale: of each of these, where power 1 changes
    nothing. text, category: column and place in its categories of each input of texts. unknown: the column of each
    input that says that nothing is there. order: of all inputs, where each lies in the three parts behind one another.
    """

    number: np.ndarray
    fill: np.ndarray
    power: np.ndarray
    offset: np.ndarray
    scale: np.ndarray
    text: np.ndarray
    category: np.ndarray
    unknown: np.ndarray
    order: np.ndarray

    @property
    def is_straightened(self) -> bool:
        """Whether any column goes through a power transform."""
        return bool((self.power != 1).any())


def table_arrays(columns: list[dict[str, Any]]) -> TableArrays:
    """The columns of a preprocessing of the kind table, as `structnet.data.tables` says them."""
    parts: list[list[tuple[int, int]]] = [[], [], []]  # (column, code), of numbers, texts and what is missing
    places: list[tuple[int, int]] = []  # of each input: its part, and where it lies there
    for at, column in enumerate(columns):
        if column["kind"] == "number":
            made = [(0, 0)]
        elif column["binary"]:
            made = [(1, 1)]
        else:
            made = [(1, code) for code in range(len(column["categories"]) + column["other"])]
        for part, code in made + [(2, 0)] * column["missing"]:
            places.append((part, len(parts[part])))
            parts[part].append((at, code))
    starts = np.cumsum([0, len(parts[0]), len(parts[1])])
    numbers = [columns[at] for at, _ in parts[0]]

    def each(name: str) -> np.ndarray:
        return np.array([1.0 if one[name] is None else one[name] for one in numbers], np.float64)

    def columns_in(part: int) -> np.ndarray:
        return np.array([at for at, _ in parts[part]], np.int64)

    return TableArrays(
        number=columns_in(0),
        fill=each("fill"),
        power=each("power"),
        offset=each("offset"),
        scale=each("scale"),
        text=columns_in(1),
        category=np.array([code for _, code in parts[1]], np.float64),
        unknown=columns_in(2),
        order=np.array([starts[part] + place for part, place in places], np.int64),
    )
