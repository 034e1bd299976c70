"""The C source of a network: one header that holds everything, and a program that tests it on some inputs."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from structnet.export.c_groups import groups_in, input_maps, layout_of, parts_in, scaling_tables
from structnet.export.c_inputs import POWERS, Codes, input_tables
from structnet.export.c_text import class_names, notes, number_text, raw_type, table_text
from structnet.export.int8_network import CODES, FRACTION, LAST, PER_ONE, IntegerNetwork
from structnet.export.model import Model
from structnet.export.rows import HIDDEN, parts_of


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
    activation, has_hidden = model.network.activation, model.network.topology.groups > 2
    layout = layout_of(model, integers)
    return _rendered(
        "header.h",
        model,
        integers,
        notes=notes(model),
        tables=[
            class_names(model),
            *(table_text(f"{model.name}_{name}", table) for name, table in printed.items()),
        ],
        counted={name.removeprefix("pre_") for name in counted},
        inputs_of=_inputs_of(shared),
        has_fill=model.preprocessing["kind"] == "table",
        makes_inputs=model.preprocessing["kind"] != "image" and bool(_used(model).any()),
        has_unused=not _used(model).all(),
        has_activation=has_hidden and (integers is not None or activation == "srelu"),
        layout=layout,
        has_means=layout is not None and bool(layout.means),
        input_maps=input_maps(model, integers),
        uses_math=bool(_inputs_of(shared).get(POWERS))
        or (integers is None and has_hidden and activation in ("tanh", "sigmoid")),
        groups=groups_in(model, integers, network_tables(model, integers)),
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
            table_text("raw_values", raw.astype(raw_type).reshape(-1)),
            table_text("expected", logits.astype(np.float32 if integers is None else np.int32).reshape(-1)),
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
    """Bytes of the arrays that a call has on the stack: activations of hidden units, and inputs of a table.

    With feature maps also their borders, and sums of the largest one.
    """
    layout = layout_of(model, integers)
    units = sum(model.network.architecture[1:-1]) if layout is None else layout.maps + layout.hidden
    if model.preprocessing["kind"] != "image" and _used(model).any():
        units += model.network.topology.architecture.inputs
    own = units if integers is not None else 4 * units
    return own if layout is None else own + 4 * layout.sums


def multiply_adds(model: Model, integers: IntegerNetwork | None = None) -> int:
    """Of one call, those with the zeros that are stored included; of maps at each position."""
    shape, layout = model.network.topology.architecture, layout_of(model, integers)
    unread = set() if layout is None else {group for group in layout.sheets if not layout.is_read(group)}
    parts = [part for group in parts_in(model, integers) for part in group if part.group not in unread]
    return sum(part.entries * shape.area(part.group) for part in parts)


def _preprocessing_tables(model: Model, integers: IntegerNetwork | None) -> dict[str, np.ndarray]:
    """Those of its preprocessing; none of an image, whose scaling is in the values of the network, but for maps."""
    shape = model.network.topology.architecture
    if model.preprocessing["kind"] == "image":
        return scaling_tables(model, integers) if shape.has_maps else {}
    codes = Codes.none(shape.inputs) if integers is None else integers.input_codes
    return input_tables(model.preprocessing, _used(model), codes)


def _float_tables(model: Model) -> dict[str, np.ndarray]:
    topology = model.network.topology
    flat = model.network.values.detach().numpy().astype(np.float64)
    values, biases = topology.split(flat)
    if model.preprocessing["kind"] == "image" and not topology.architecture.has_maps:
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


def _integer_context(integers: IntegerNetwork | None) -> dict[str, Any]:
    if integers is None:
        return {}
    return {
        "wide": "int32_t" if integers.fits_32_bits else "int64_t",
        "bits": integers.bends.bits if integers.bends else 0,
        "last_place": LAST * PER_ONE * FRACTION - 1,
        "fraction": FRACTION,
        "one": CODES - 1,
        "scale": number_text(np.float32(integers.scale)),
    }


def _used(model: Model) -> np.ndarray:
    """(inputs,) which of them any connection reads; of maps all."""
    topology = model.network.topology
    used = np.full(topology.architecture.inputs, topology.architecture.has_maps)
    if not topology.architecture.has_maps:
        used[topology.source[topology.source < len(used)]] = True
    return used


def _unread(model: Model, integers: IntegerNetwork | None) -> list[str]:
    """Arrays that are there and that no loop reads."""
    parts = [part for group in parts_in(model, integers) for part in group]
    layout = layout_of(model, integers)
    names = []
    if layout is not None:
        from_image = model.preprocessing["kind"] == "image"
        names += ["raw"] if from_image and input_maps(model, integers) is None else []
        names += ["hidden"] if layout.hidden and all(part.kind != HIDDEN for part in parts) else []
        return names
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


@cache
def _templates() -> Environment:
    """The templates, each compiled when it is asked for first."""
    return Environment(
        loader=PackageLoader("structnet.export"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _rendered(template: str, model: Model, integers: IntegerNetwork | None, **more: Any) -> str:
    network, layout = model.network, layout_of(model, integers)
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
        "inputs": network.topology.architecture.inputs,
        "classes": network.architecture[-1],
        "hidden": sum(network.architecture[1:-1]) if layout is None else layout.hidden,
        "ram": array_bytes(model, integers),
    }
    return _templates().get_template(template).render(about | more)
