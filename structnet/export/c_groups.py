"""What the templates of a C source need to know of each group of a network, and how its maps lie."""

from __future__ import annotations

from typing import Any

import numpy as np

from structnet.export.c_text import TYPES, number_text, raw_type
from structnet.export.int8_maps import IntegerMaps
from structnet.export.int8_network import CODES, IntegerNetwork
from structnet.export.map_layout import Layout
from structnet.export.model import Model
from structnet.export.rows import FULL, POSITIONS, TAPS, Part, parts_of

PAIRED_FROM = (
    8  # entries of a row: sums of float wait for each other, and the shorter way through the code is lost
)


def parts_in(model: Model, integers: IntegerNetwork | None) -> list[list[Part]]:
    """The rows of each group behind the input."""
    return parts_of(model.network.topology) if integers is None else integers.parts


def layout_of(model: Model, integers: IntegerNetwork | None) -> Layout | None:
    """How maps lie; None of a network without."""
    if not model.network.topology.architecture.has_maps:
        return None
    return integers.layout if isinstance(integers, IntegerMaps) else Layout(model.network.topology)


def groups_in(
    model: Model, integers: IntegerNetwork | None, tables: dict[str, np.ndarray]
) -> list[dict[str, Any]]:
    """Of each group behind the input that is computed; tables: of the network."""
    topology, layout = model.network.topology, layout_of(model, integers)
    found = []
    for number, parts in enumerate(parts_in(model, integers), start=1):
        if layout is not None and number in layout.sheets and not layout.is_read(number):
            continue
        made = [_part(model, integers, part, tables) for part in parts]
        group: dict[str, Any] = {
            "number": number,
            "units": topology.architecture[number],
            "first": int(topology.offsets[number]) - topology.architecture[0],
            "table": f"{model.name}_g{number}",
            "parts": made,
            "shift": 0 if integers is None else int(integers.input_shifts[number]),
            "is_output": number == topology.groups - 1,
            "activated": _activated(model, integers, number),
            "maps": None,
        }
        if layout is not None:
            for part, about in zip(parts, made):
                _place_part(layout, part, about)
            group["first"] = layout.first.get(number, 0)
            if number in layout.sheets:
                group["maps"] = _maps(model, integers, layout, number)
        found.append(group)
    return found


def input_maps(model: Model, integers: IntegerNetwork | None) -> dict[str, Any] | None:
    """How raw values become the maps of the input; None of a network without maps, and where nothing reads them."""
    layout = layout_of(model, integers)
    if layout is None or not layout.is_read(0):
        return None
    maps = _maps(model, integers, layout, 0)
    return maps | {"units": layout.shape[0], "value": _input_value(model, integers)}


def scaling_tables(model: Model, integers: IntegerNetwork | None) -> dict[str, np.ndarray]:
    """Of images with maps: what channels are multiplied by, and what is added, where channels differ in that."""
    factors, shifts = _scaling(model)
    if integers is not None or len(set(zip(factors.tolist(), shifts.tolist()))) == 1:
        return {}
    return {"pre_factors": factors, "pre_shifts": shifts}


def _scaling(model: Model) -> tuple[np.ndarray, np.ndarray]:
    offset, scale = (np.array(model.preprocessing[name]) for name in ("offset", "scale"))
    return (1 / scale).astype(np.float32), (-offset / scale).astype(np.float32)


def _input_value(model: Model, integers: IntegerNetwork | None) -> str:
    """The expression of an input by `at`, its number."""
    if model.preprocessing["kind"] != "image":
        return "inputs[at]"
    if isinstance(integers, IntegerMaps):
        last = (CODES - 1) >> integers.pixel_bits
        shifted = f"(uint8_t)(raw[at] << {integers.pixel_bits})"
        return "raw[at]" if not integers.pixel_bits else f"raw[at] > {last} ? {CODES - 1} : {shifted}"
    factors, shifts = _scaling(model)
    if scaling_tables(model, integers):
        channel = f"[at / {model.raw_shape[1] * model.raw_shape[2]}]"
        return f"raw[at] * {model.name}_pre_factors{channel} + {model.name}_pre_shifts{channel}"
    added = f" + {number_text(shifts[0])}" if shifts[0] else ""
    return f"raw[at] * {number_text(factors[0])}{added}"


def _part(
    model: Model, integers: IntegerNetwork | None, part: Part, tables: dict[str, np.ndarray]
) -> dict[str, Any]:
    from_input = "raw" if model.preprocessing["kind"] == "image" else "inputs"
    unit = "float" if integers is None else "uint8_t"
    source_type = {"raw": raw_type(model, integers), "inputs": unit, "hidden": unit}
    source, units = from_input if part.from_input else "hidden", model.network.architecture[part.group]
    about: dict[str, Any] = {
        "coding": part.coding,
        "first": part.first,
        "span": part.span,
        "source": source,
        "table": f"{model.name}_{part.prefix}",
        "source_type": source_type[source],
        "paired": integers is None and part.entries >= PAIRED_FROM * units,
        "type": TYPES[tables[f"{part.prefix}_weights"].dtype.name],
    }
    if part.coding != FULL:
        about["count_type"], about["step_type"] = (
            TYPES[part.counts.dtype.name],
            TYPES[part.steps.dtype.name],
        )
    return about


def _place_part(layout: Layout, part: Part, about: dict[str, Any]) -> None:
    """Adds where a part finds the maps that it reads."""
    if part.kind == POSITIONS:
        about |= {"source": "maps", "first": layout.starts[part.origin] + part.first}
    elif part.kind == TAPS:
        sheet, into = layout.sheets[part.origin], layout.sheets[part.group]
        (down, right), (top, left) = layout.shape.geometry((part.origin, part.group))
        about |= {
            "start": layout.starts[part.origin] + top * sheet.pitch + left,
            "sheet": sheet,
            "down": down * sheet.pitch,
            "right": right,
            "is_run": layout.shape.sides[part.origin] == layout.shape.sides[part.group],
            "into": into,
        }


def _maps(model: Model, integers: IntegerNetwork | None, layout: Layout, group: int) -> dict[str, Any]:
    """How the maps of a group are stored: in `maps`, if `is_kept`, and as `means`, if that is not None."""
    sheet = layout.sheets[group]
    about: dict[str, Any] = {
        "sheet": sheet,
        "window": layout.shape.window,
        "is_kept": group in layout.kept,
        "start": layout.starts.get(group, 0),
        "means": layout.first.get(group),
        "border": "0",
        "cleared": sheet.block,
        "share": number_text(np.float32(1 / (sheet.high * sheet.wide))),
        "mean": f"{model.name}_g{group}_mean",
    }
    if isinstance(integers, IntegerMaps):
        zeros = integers.zeros[layout.topology.units_of(group)]
        is_apart = group == 0 and layout.is_apart
        about["border"] = str(int(zeros[0]))
        if is_apart:
            about["border"] = f"{model.name}_g0_zeros[at / {sheet.size}]"
            about["cleared"] = len(zeros) * sheet.size
    return about


def _activated(model: Model, integers: IntegerNetwork | None, group: int) -> str:
    """The expression of an activation of `sum`."""
    name, activation = model.name, model.network.activation
    if integers is None:
        return {
            "relu": "sum > 0.0f ? sum : 0.0f",
            "tanh": "tanhf(sum)",
            "sigmoid": "1.0f / (1.0f + expf(-sum))",
            "srelu": f"{name}_srelu(sum, {name}_g{group}_shapes + 4 * row)",
        }[activation]
    numbers = ["multipliers", "shifts"]
    if activation == "srelu":
        numbers = ["left", "right", "below", "above", *numbers, "zeros"]
    given = ", ".join(f"{name}_g{group}_{number}[row]" for number in numbers)
    return f"{name}_{activation if activation in ('relu', 'srelu') else 'curve'}(sum, {given})"
