"""The C source of a network: one header that holds everything, and a program that tests it on some inputs."""

from __future__ import annotations

import json
from textwrap import wrap
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from structnet.export.c_inputs import POWERS, Codes, input_tables
from structnet.export.int8_network import CODES, FRACTION, LARGEST_SUM, LAST, PER_ONE, IntegerNetwork
from structnet.export.model import Model
from structnet.export.rows import FULL, Part, parts_of

TYPES = {name: f"{name}_t" for name in ("int8", "uint8", "int16", "uint16", "int32", "uint32")} | {
    "float32": "float"
}
WIDTH = 110
PAIRED_FROM = (
    8  # entries of a row: sums of float wait for each other, and the shorter way through the code is lost
)
SHOWN_CATEGORIES = 20  # of a column, in the comment


class TableBytes(NamedTuple):
    """Bytes of the tables of a header: of the network, of its preprocessing, of the names of its classes."""

    network: int
    preprocessing: int
    classes: int


def header(model: Model, integers: IntegerNetwork | None = None) -> str:
    """The text of the header, of float32 or of these integers."""
    shared = _preprocessing_tables(model, integers)
    counted = {name for name, table in shared.items() if _is_counted(name, table)}
    printed = {name: table for name, table in shared.items() if name not in counted}
    printed |= network_tables(model, integers)
    activation, topology = model.network.activation, model.network.topology
    has_hidden = topology.groups > 2
    return _rendered(
        "header.h",
        model,
        integers,
        notes=_notes(model),
        tables=[
            _class_names(model),
            *(_table(f"{model.name}_{name}", table) for name, table in printed.items()),
        ],
        counted={name.removeprefix("pre_") for name in counted},
        inputs_of=_inputs_of(shared),
        has_fill=model.preprocessing["kind"] == "table",
        makes_inputs=model.preprocessing["kind"] != "image" and bool(_used(model).any()),
        has_unused=not _used(model).all(),
        has_activation=has_hidden and (integers is not None or activation == "srelu"),
        uses_math=bool(_inputs_of(shared).get(POWERS))
        or (integers is None and has_hidden and activation in ("tanh", "sigmoid")),
        groups=_groups(model, integers),
        unread=_unread(model, integers),
        **_integer_context(integers),
    )


def program(model: Model, raw: np.ndarray, logits: np.ndarray, integers: IntegerNetwork | None = None) -> str:
    """A program that compares what the header makes of raw values, (n, numbers), with logits, (n, classes)."""
    raw_type = np.uint8 if model.preprocessing["kind"] == "image" and integers is not None else np.float32
    return _rendered(
        "test.c",
        model,
        integers,
        count=len(raw),
        tables=[
            _table("raw_values", raw.astype(raw_type).reshape(-1)),
            _table("expected", logits.astype(np.float32 if integers is None else np.int32).reshape(-1)),
        ],
    )


def library(model: Model, integers: IntegerNetwork | None = None) -> str:
    """A file that makes functions of the header visible from outside, for many raw values at once."""
    return _rendered("library.c", model, integers)


def network_tables(model: Model, integers: IntegerNetwork | None = None) -> dict[str, np.ndarray]:
    """The tables of the network by name, as they are in the header."""
    return _float_tables(model) if integers is None else integers.tables()


def table_bytes(model: Model, integers: IntegerNetwork | None = None) -> TableBytes:
    """Of the tables in the header."""
    shared = _preprocessing_tables(model, integers)
    names = [len(name.encode()) for name in model.class_names]
    return TableBytes(
        sum(table.nbytes for table in network_tables(model, integers).values()),
        sum(table.nbytes for name, table in shared.items() if not _is_counted(name, table)),
        len(names) * (max(names) + 1),
    )


def array_bytes(model: Model, integers: IntegerNetwork | None = None) -> int:
    """Bytes of the arrays that a call has on the stack: activations of hidden units, and inputs of a table."""
    topology = model.network.topology
    units = sum(topology.architecture[1:-1])
    if model.preprocessing["kind"] != "image" and _used(model).any():
        units += topology.architecture[0]
    return units if integers is not None else 4 * units


def multiply_adds(model: Model, integers: IntegerNetwork | None = None) -> int:
    """Of one call, those with the zeros that are stored included."""
    return sum(part.entries for parts in _parts(model, integers) for part in parts)


def _preprocessing_tables(model: Model, integers: IntegerNetwork | None) -> dict[str, np.ndarray]:
    """Those of its preprocessing; none of an image, whose scaling is in the values of the network."""
    if model.preprocessing["kind"] == "image":
        return {}
    inputs = model.network.architecture[0]
    codes = Codes.none(inputs)
    if integers is not None:
        codes = Codes(integers.scales[:inputs], integers.offsets[:inputs])
    return input_tables(model.preprocessing, _used(model), codes)


def _float_tables(model: Model) -> dict[str, np.ndarray]:
    topology = model.network.topology
    flat = model.network.values.detach().numpy().astype(np.float64)
    values, biases = topology.split(flat)
    if model.preprocessing["kind"] == "image":
        values, biases = _with_scaling(model, values, biases)
    shapes = topology.shapes(flat).reshape(-1, max(1, topology.shape_numbers)).copy()
    if topology.shape_numbers:
        shapes[:, 2] = shapes[:, 0] + np.abs(shapes[:, 2])
    found: dict[str, np.ndarray] = {}
    for group, parts in enumerate(parts_of(topology), start=1):
        behind = slice(*(topology.offsets[group : group + 2] - topology.architecture[0]))
        found[f"g{group}_biases"] = biases[behind].astype(np.float32)
        for part in parts:
            found |= part.tables(values.astype(np.float32))
        if topology.shape_numbers and group < topology.groups - 1:
            found[f"g{group}_shapes"] = shapes[behind].reshape(-1).astype(np.float32)
    return found


def _with_scaling(model: Model, values: np.ndarray, biases: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values and biases that take pixels as they are."""
    topology = model.network.topology
    inputs = topology.architecture[0]
    area = inputs // len(model.preprocessing["scale"])
    scale, offset = (np.repeat(model.preprocessing[name], area) for name in ("scale", "offset"))
    reads = topology.source < inputs
    source, values, biases = topology.source[reads], values.copy(), biases.copy()
    values[reads] /= scale[source]
    np.subtract.at(biases, topology.target[reads] - inputs, values[reads] * offset[source])
    return values, biases


def _parts(model: Model, integers: IntegerNetwork | None) -> list[list[Part]]:
    return parts_of(model.network.topology) if integers is None else integers.parts


def _groups(model: Model, integers: IntegerNetwork | None) -> list[dict[str, Any]]:
    """What the template needs to know of each group behind the input."""
    topology = model.network.topology
    tables = network_tables(model, integers)
    from_input = "raw" if model.preprocessing["kind"] == "image" else "inputs"
    unit = "float" if integers is None else "uint8_t"
    source_type = {"raw": raw_type(model, integers), "inputs": unit, "hidden": unit}
    found = []
    for number, parts in enumerate(_parts(model, integers), start=1):
        made = []
        for part in parts:
            source = from_input if part.from_input else "hidden"
            about = {"coding": part.coding, "first": part.first, "span": part.span, "source": source}
            about |= {"table": f"{model.name}_{part.prefix}", "source_type": source_type[source]}
            about["paired"] = integers is None and part.entries >= PAIRED_FROM * topology.architecture[number]
            about["type"] = TYPES[tables[f"{part.prefix}_weights"].dtype.name]
            if part.coding != FULL:
                about["count_type"], about["step_type"] = (
                    TYPES[part.counts.dtype.name],
                    TYPES[part.steps.dtype.name],
                )
            made.append(about)
        found.append(
            {
                "number": number,
                "units": topology.architecture[number],
                "first": int(topology.offsets[number]) - topology.architecture[0],
                "table": f"{model.name}_g{number}",
                "parts": made,
                "shift": 0 if integers is None else int(integers.input_shifts[number]),
                "is_output": number == topology.groups - 1,
                "activated": _activated(model, integers, number),
            }
        )
    return found


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


def _integer_context(integers: IntegerNetwork | None) -> dict[str, Any]:
    if integers is None:
        return {}
    hidden = len(integers.shifts)
    largest = integers.bounds[:hidden] * integers.multipliers[:hidden] + (np.int64(1) << integers.shifts)
    return {
        "wide": "int32_t" if largest.max(initial=0) <= LARGEST_SUM else "int64_t",
        "bits": integers.bends.bits if integers.bends else 0,
        "last_place": LAST * PER_ONE * FRACTION - 1,
        "fraction": FRACTION,
        "one": CODES - 1,
        "scale": _number(np.float32(integers.scale)),
    }


def _used(model: Model) -> np.ndarray:
    """(inputs,) which of them any connection reads."""
    topology = model.network.topology
    used = np.zeros(topology.architecture[0], dtype=bool)
    used[topology.source[topology.source < len(used)]] = True
    return used


def _unread(model: Model, integers: IntegerNetwork | None) -> list[str]:
    """Arrays that are there and that no loop reads."""
    parts = [part for group in _parts(model, integers) for part in group]
    names = []
    if not any(part.from_input for part in parts):
        names.append("raw")
    if model.network.topology.groups > 2 and all(part.from_input for part in parts):
        names.append("hidden")
    return names


def _is_counted(name: str, table: np.ndarray) -> bool:
    """Whether a table of positions is 0, 1, 2, …, which needs no table."""
    is_position = name.endswith(("_inputs", "_columns"))
    return is_position and bool(np.array_equal(table, np.arange(len(table))))


def _inputs_of(tables: dict[str, np.ndarray]) -> dict[str, int]:
    """Kind -> how many inputs of it are made."""
    ends = "_inputs"
    return {
        name.removeprefix("pre_").removesuffix(ends): len(table)
        for name, table in tables.items()
        if name.endswith(ends)
    }


def raw_type(model: Model, integers: IntegerNetwork | None = None) -> str:
    """The C type of a raw value."""
    return "uint8_t" if integers is not None and model.preprocessing["kind"] == "image" else "float"


def _notes(model: Model) -> list[str]:
    """What raw values are, line by line."""
    kind = model.preprocessing["kind"]
    if kind == "image":
        channels, height, width = model.raw_shape
        most = model.preprocessing["full_scale"]
        return [
            f"raw: pixels of 0 to {most:g}, row after row, of {channels} × {height} × {width} (channels × height × "
            "width)."
        ]
    lines = ["raw: a number for each column, NAN where it is missing; of texts the number of the text:"]
    for at, column in enumerate(model.preprocessing["columns"]):
        if kind == "columns":
            lines.append(f"{at:4} {_quoted(column)}")
        elif column["kind"] == "number":
            lines.append(f"{at:4} {_quoted(column['name'])}, a number")
        else:
            known = column["categories"]
            texts = ", ".join(f"{code} {_quoted(text)}" for code, text in enumerate(known[:SHOWN_CATEGORIES]))
            rest = ", …" if len(known) > SHOWN_CATEGORIES else ""
            lines.append(f"{at:4} {_quoted(column['name'])}: {texts}{rest}; {len(known)} any other text")
    return lines


def _quoted(text: str) -> str:
    """A text in a comment that it cannot end, in ASCII."""
    return json.dumps(str(text)).replace("*", "\\u002a").replace("?", "\\u003f")


def _class_names(model: Model) -> str:
    made = ["".join(_escaped(byte) for byte in name.encode()) for name in model.class_names]
    longest = max(len(name.encode()) for name in model.class_names) + 1
    texts = ",\n    ".join(f'"{text}"' for text in made)
    return f"static const char {model.name}_classes[{len(made)}][{longest}] = {{\n    {texts}\n}};\n"


def _escaped(byte: int) -> str:
    """A byte of a C string; question marks as well, of which two begin a trigraph."""
    character = chr(byte)
    return character if 32 <= byte < 127 and character not in '"\\?' else f"\\{byte:03o}"


def _table(name: str, table: np.ndarray) -> str:
    numbers = wrap(", ".join(_number(value) for value in table), WIDTH - 4)
    lines = "\n    ".join(numbers)
    return f"static const {TYPES[table.dtype.name]} {name}[{len(table)}] = {{\n    {lines}\n}};\n"


def _number(value: Any) -> str:
    """A constant that is read back as it is."""
    if not isinstance(value, np.floating):
        return str(int(value))
    text = f"{value:.9g}"
    return text + ("f" if "." in text or "e" in text else ".0f")


def _rendered(template: str, model: Model, integers: IntegerNetwork | None, **more: Any) -> str:
    environment = Environment(
        loader=PackageLoader("structnet.export"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    network = model.network
    number_type = "int8" if integers is not None else "float32"
    about = {
        "name": model.name,
        "upper": model.name.upper(),
        "title": f"{model.name}, a network of {network.describe()}, in {number_type}",
        "integers": integers is not None,
        "activation": network.activation,
        "is_image": model.preprocessing["kind"] == "image",
        "raw": raw_type(model, integers),
        "unit": "float" if integers is None else "uint8_t",
        "sum": "float" if integers is None else "int32_t",
        "one": 1,
        "raw_values": model.raw_values,
        "inputs": network.architecture[0],
        "classes": network.architecture[-1],
        "hidden": sum(network.architecture[1:-1]),
        "ram": array_bytes(model, integers),
    }
    return environment.get_template(template).render(about | more)
