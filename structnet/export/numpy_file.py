"""A network as one Python file that needs numpy only: its arrays as text, and the functions that compute it.

The functions are those of `structnet.export.numpy_network` and, for a table, of `structnet.data.tables`.
"""

from __future__ import annotations

import base64
import inspect
import runpy
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from structnet.data import tables
from structnet.export import numpy_maps, numpy_network
from structnet.export.arrays import (
    arrays_of,
    described,
    groups_of,
    links_of,
    maps_of,
    raw_described,
    raw_type,
    shown,
)
from structnet.export.model import Model, Written
from structnet.export.rows import smallest
from structnet.network.topology import Topology

_INPUTS: dict[str, list[Callable[..., Any]]] = {
    "image": [numpy_network.image_inputs],
    "columns": [numpy_network.number_inputs],
    "table": [tables.yeo_johnson, tables._powered, tables.column_inputs, tables.table_inputs],
}
_OF_UNITS: list[Callable[..., Any]] = [numpy_network.matrices, numpy_network.propagate]
_OF_MAPS: list[Callable[..., Any]] = [
    numpy_maps.kernels,
    numpy_maps.convolved,
    numpy_maps.gathered,
    numpy_maps.propagate_maps,
]
_HEAD = '''\
"""{about}

Needs numpy only. Takes {raw}.

    from {module} import logits, predict
    logits(raw)     # (batch, {classes})
    predict(raw)    # names of classes{rows}
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import numpy as np

CLASS_NAMES = {names}
PREPROCESSING: dict[str, Any] = {preprocessing}
SHAPE = {shape}
{groups}


def array(kind: str, text: str) -> np.ndarray:
    """Numbers of this type from base64."""
    return np.frombuffer(base64.b64decode(text), kind)


'''
_GROUPS = """\
# Of each group behind the input: the first unit that it looks at, its units from and to, its connections from and to.
GROUPS: list[tuple[int, ...]] = {groups}"""
_MAP_GROUPS = """\
# Of each group: its first unit, how many, height and width of their maps.
GROUPS: list[tuple[int, ...]] = {groups}
# Of each link: source and target group, connections from and to, the first port of a unit that it can start at and how
# many, steps down and right from a position of the target to the next one on the source, and where the first lies.
LINKS: list[tuple[int, ...]] = {links}"""
_MAP_ARRAYS = """\
BIASES = array({biases})
WEIGHTS = kernels(
    GROUPS,
    LINKS,
    array({values}),  # of the connections
    array({source}),  # the units that they come from
    array({offset}),  # how these are seen: offset in the window, mean, or position
    array({target}),  # the units that they lead to
)
"""
_ARRAYS = """\
BIASES = array({biases})
SHAPES = array({shapes}).reshape({hidden})
WEIGHTS = matrices(
    GROUPS,
    array({values}),  # of the connections
    array({source}),  # the units that they come from
    array({target}),  # and lead to
)
"""
_TAIL = '''\
def logits(raw: Any) -> np.ndarray:
    """float32 (batch, classes) of raw values, of one input or of a batch."""
    values = np.asarray(raw, np.{kind}).reshape(-1, *SHAPE)
    return {propagated}


def predict(raw: Any) -> list[str]:
    """The name of the class of each input."""
    return [CLASS_NAMES[number] for number in logits(raw).argmax(axis=1)]
'''
_ROWS = '''\
Column = dict[str, Any]
COLUMNS: list[Column] = PREPROCESSING["columns"]


def raw_of(rows: list[dict[str, Any]]) -> np.ndarray:
    """Raw values of rows with a number, a text or None for the name of each column."""

    def value(cell: Any, column: Column) -> float:
        if cell is None or cell == "":
            return float("nan")
        if column["kind"] == "number":
            return float(cell)
        known = column["categories"]
        text = str(cell).lower() if isinstance(cell, bool) else str(cell)
        return float(known.index(text) if text in known else len(known))

    return np.array([[value(row.get(column["name"]), column) for column in COLUMNS] for row in rows])
'''


def write(model: Model, folder: Path) -> Written:
    """Writes NAME_numpy.py."""
    file = folder / f"{model.name}_numpy.py"
    file.write_text(source_of(model), encoding="utf-8")
    call = f"from {file.stem} import logits, predict"
    return Written(
        [file], [f"`{call}`, with {raw_described(model)}."], run=runpy.run_path(str(file))["logits"]
    )


def source_of(model: Model) -> str:
    """The text of the file."""
    network, kind = model.network, model.preprocessing["kind"]
    is_table, has_maps = kind == "table", network.topology.architecture.has_maps
    preprocessing = {key: value for key, value in model.preprocessing.items() if key != "class_names"}
    hidden = network.topology.hidden
    arrays = {"shapes": np.empty((hidden.stop - hidden.start, 0), np.float32)} | arrays_of(network)
    head = _HEAD.format(
        about=described(model),
        raw=raw_described(model),
        module=f"{model.name}_numpy",
        classes=len(model.class_names),
        rows="; raw = raw_of(rows) of rows with texts" if is_table else "",
        names=shown(list(model.class_names)),
        preprocessing=shown(preprocessing),
        shape=model.raw_shape,
        groups=_groups(network.topology),
    )
    activation = getattr(numpy_network, network.activation)
    parts = [*_INPUTS[kind], *(_OF_MAPS if has_maps else _OF_UNITS), activation]
    inputs = "table_inputs(values, COLUMNS)" if is_table else f"{parts[0].__name__}(values, PREPROCESSING)"
    propagated = f"propagate({inputs}, GROUPS, WEIGHTS, BIASES, SHAPES, {activation.__name__})"
    if has_maps:
        propagated = f"propagate_maps({inputs}, GROUPS, LINKS, WEIGHTS, BIASES, {activation.__name__})"
    tail = _TAIL.format(propagated=propagated, kind=raw_type(model))
    return head + "\n\n".join(
        [
            *(inspect.getsource(part) for part in parts),
            (_MAP_ARRAYS if has_maps else _ARRAYS).format(
                hidden=arrays["shapes"].shape, **{name: _text(array) for name, array in arrays.items()}
            ),
            *([_ROWS] if is_table else []),
            tail,
        ]
    )


def _groups(topology: Topology) -> str:
    if topology.architecture.has_maps:
        groups, links = maps_of(topology), links_of(topology)
        return _MAP_GROUPS.format(
            groups=shown(list(map(tuple, groups))), links=shown(list(map(tuple, links)))
        )
    return _GROUPS.format(groups=shown([tuple(group) for group in groups_of(topology)]))


def _text(array: np.ndarray) -> str:
    """The two arguments that give this array, flattened."""
    small = array if array.dtype.kind == "f" else smallest(array)
    little = np.ascontiguousarray(small).astype(small.dtype.newbyteorder("<"))
    lines = textwrap.wrap(base64.b64encode(little.tobytes()).decode(), 100)
    return f'"{little.dtype.str}", """' + "\n".join(lines) + '"""'
