"""The nodes and constants of an ONNX graph, as they come."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from structnet.errors import UserError
from structnet.export.rows import smallest

_NODES_BYTES = 350  # of what scatters a weight, beside its places and values


def libraries() -> tuple[Any, Any]:
    """The modules onnx and onnxruntime; raises UserError where they are not installed."""
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise UserError(
            f"onnx needs {error.name}, which is not installed: run pip install 'structnet[onnx]'"
        ) from error
    return onnx, onnxruntime


class Nodes:
    """nodes, constants: of the graph so far, as ONNX has them. A node is named by what it gives."""

    def __init__(self) -> None:
        self._onnx, _ = libraries()
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, operator: str, *given: str | np.ndarray, name: str = "", **attributes: Any) -> str:
        """A node; the name of what it gives. given: names of what others give, or arrays."""
        output = name or f"{operator.lower()}_{len(self.nodes)}"
        inputs = [one if isinstance(one, str) else self.constant(one) for one in given]
        self.nodes.append(self._onnx.helper.make_node(operator, inputs, [output], output, **attributes))
        return output

    def constant(self, array: np.ndarray, name: str = "") -> str:
        """An array of the graph; its name."""
        output = name or f"constant_{len(self.constants)}"
        self.constants.append(self._onnx.numpy_helper.from_array(np.ascontiguousarray(array), output))
        return output

    def cast(self, given: str | np.ndarray, kind: str, name: str = "") -> str:
        """The same in another type: FLOAT, DOUBLE or INT64."""
        return self.add("Cast", given, name=name, to=getattr(self._onnx.TensorProto, kind))


def add_matrix(nodes: Nodes, cells: np.ndarray, values: np.ndarray, shape: tuple[int, ...], name: str) -> str:
    """Values in the cells of an array of zeros of this shape, in the form that takes fewer bytes; its name."""
    places, size = smallest(cells), prod(shape)
    if places.nbytes + values.nbytes + _NODES_BYTES >= size * values.itemsize:
        dense = np.zeros(size, np.float32)
        dense[cells] = values
        return nodes.constant(dense.reshape(shape), name)
    zeros = nodes.add("ConstantOfShape", np.array([size]))
    flat = nodes.add("ScatterElements", zeros, nodes.cast(places, "INT64"), values)
    return nodes.add("Reshape", flat, np.array(shape), name=name)
