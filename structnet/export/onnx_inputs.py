"""The part of an ONNX graph that makes inputs of raw values: in float32 of pixels, in float64 of columns."""

from __future__ import annotations

from typing import Any

import numpy as np

from structnet.export.onnx_nodes import Nodes
from structnet.export.table_arrays import TableArrays, table_arrays

# exp of less than that is 0, whose logarithm is not to be had; exp - 1 is -1 there already.
_LEAST_EXPONENT = -700.0


def add_inputs(nodes: Nodes, preprocessing: dict[str, Any]) -> str:
    """Adds what makes inputs, float32 (batch, units), of `raw`; their name."""
    if preprocessing["kind"] == "table":
        return _of_table(nodes, table_arrays(preprocessing["columns"]))
    offset, scale = (np.array(preprocessing[name]) for name in ("offset", "scale"))
    if preprocessing["kind"] == "columns":
        return nodes.cast(_scaled(nodes, "raw", offset, scale), "FLOAT", "inputs")
    offset, scale = (one.astype(np.float32).reshape(-1, 1, 1) for one in (offset, scale))
    return nodes.add("Flatten", _scaled(nodes, "raw", offset, scale), name="inputs", axis=1)


def _scaled(nodes: Nodes, given: str, offset: np.ndarray, scale: np.ndarray) -> str:
    return nodes.add("Div", nodes.add("Sub", given, offset), scale)


def _of_table(nodes: Nodes, table: TableArrays) -> str:
    parts = []
    if len(table.number):
        numbers = nodes.add("Gather", "raw", table.number, axis=1)
        numbers = nodes.add("Where", nodes.add("IsNaN", numbers), table.fill, numbers)
        if table.is_straightened:
            numbers = _straightened(nodes, numbers, table.power)
        parts.append(_scaled(nodes, numbers, table.offset, table.scale))
    if len(table.text):
        texts = nodes.add("Gather", "raw", table.text, axis=1)
        parts.append(nodes.add("Equal", texts, table.category))
    if len(table.unknown):
        parts.append(nodes.add("IsNaN", nodes.add("Gather", "raw", table.unknown, axis=1)))
    joined = nodes.add("Concat", *(nodes.cast(part, "FLOAT") for part in parts), axis=1)
    return nodes.add("Gather", joined, table.order, name="inputs", axis=1)


def _straightened(nodes: Nodes, numbers: str, power: np.ndarray) -> str:
    """The transform of Yeo and Johnson (2000): that of a number below 0 is that of -x with 2 - λ, negative."""
    zero = np.array(0.0)
    upper = nodes.add("Max", numbers, zero)
    lower = nodes.add("Max", nodes.add("Neg", numbers), zero)
    up, down = _powered(nodes, upper, power), _powered(nodes, lower, 2 - power)
    is_upper = nodes.add("GreaterOrEqual", numbers, zero)
    return nodes.add("Where", is_upper, up, nodes.add("Neg", down))


def _powered(nodes: Nodes, given: str, power: np.ndarray) -> str:
    """(exp(power · log(1 + x)) - 1) / power of x ≥ 0, and log(1 + x) where power is 0."""
    logarithm = _log1p(nodes, given)
    divisor = np.where(power == 0, 1.0, power)
    exponent = nodes.add("Max", nodes.add("Mul", logarithm, divisor), np.array(_LEAST_EXPONENT))
    divided = nodes.add("Div", _expm1(nodes, exponent), divisor)
    return nodes.add("Where", power == 0, logarithm, divided)


def _log1p(nodes: Nodes, given: str) -> str:
    """log(1 + x), which ONNX does not have: x · log(u) / (u - 1) with u = 1 + x as it was rounded (W. Kahan)."""
    one = np.array(1.0)
    above = nodes.add("Add", given, one)
    ratio = nodes.add("Div", nodes.add("Log", above), nodes.add("Sub", above, one))
    return nodes.add("Where", nodes.add("Equal", above, one), given, nodes.add("Mul", given, ratio))


def _expm1(nodes: Nodes, given: str) -> str:
    """exp(x) - 1, in the same way: (u - 1) · x / log(u) with u = exp(x) as it was rounded."""
    one = np.array(1.0)
    raised = nodes.add("Exp", given)
    ratio = nodes.add("Div", given, nodes.add("Log", raised))
    less = nodes.add("Mul", nodes.add("Sub", raised, one), ratio)
    return nodes.add("Where", nodes.add("Equal", raised, one), given, less)
