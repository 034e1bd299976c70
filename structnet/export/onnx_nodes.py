"""The nodes and constants of an ONNX graph, as they come."""

from __future__ import annotations

from typing import Any

import numpy as np

from structnet.errors import UserError


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
