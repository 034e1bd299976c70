"""A network as one ONNX model with its preprocessing inside: standard operators only, any number of inputs at once.

ONNX has sparse tensors, but its own inference of shapes refuses them in a product, and runtimes make them dense. So a
weight of few connections is stored as their places and values, which the graph scatters into zeros: runtimes fold that
into one dense matrix when they load it. Places take the smallest type that holds them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from structnet.export.arrays import arrays_of, columns_of, raw_described, raw_type
from structnet.export.model import Model, Written
from structnet.export.onnx_inputs import add_inputs
from structnet.export.onnx_maps import add_maps
from structnet.export.onnx_nodes import Nodes, add_matrix, libraries
from structnet.network.topology import Topology

OPSET, IR_VERSION = 17, 8  # of 2022, so that no runtime is too old


def write(model: Model, folder: Path) -> Written:
    """Writes NAME.onnx. Raises UserError where the libraries for it are not installed."""
    onnx, runtime = libraries()
    file = folder / f"{model.name}.onnx"
    graph = graph_of(model)
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, file)
    session = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    kind = raw_type(model)

    def run(raw: np.ndarray) -> np.ndarray:
        found: np.ndarray = session.run(["logits"], {"raw": raw.astype(kind)})[0]
        return found

    lines = [
        f"Input {raw_described(model)}, {kind}.",
        f"Outputs logits (batch, {len(model.class_names)}) and prediction (batch), the number of the class.",
    ]
    return Written([file], lines, run=run)


def graph_of(model: Model) -> Any:
    """The model, `onnx.ModelProto`: `raw` to `logits` and `prediction`, names of classes and columns as properties."""
    onnx, _ = libraries()
    helper, types = onnx.helper, onnx.TensorProto
    nodes = Nodes()
    inputs = add_inputs(nodes, model.preprocessing)
    (add_maps if model.network.topology.architecture.has_maps else _add_network)(nodes, model, inputs)
    nodes.add("ArgMax", "logits", name="prediction", axis=1, keepdims=0)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(raw_type(model)))
    graph = helper.make_graph(
        nodes.nodes,
        model.name,
        [helper.make_tensor_value_info("raw", kind, ["batch", *model.raw_shape])],
        [
            helper.make_tensor_value_info("logits", types.FLOAT, ["batch", len(model.class_names)]),
            helper.make_tensor_value_info("prediction", types.INT64, ["batch"]),
        ],
        nodes.constants,
    )
    opsets = [helper.make_opsetid("", OPSET)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="structnet")
    about: dict[str, Any] = {"class_names": list(model.class_names)}
    if (columns := columns_of(model.preprocessing)) is not None:
        about["columns"] = columns
    helper.set_model_props(made, {key: json.dumps(value, ensure_ascii=False) for key, value in about.items()})
    return made


def _add_network(nodes: Nodes, model: Model, inputs: str) -> None:
    """What makes `logits` of inputs: for each link a product, which adds to that of the link before."""
    topology, arrays = model.network.topology, arrays_of(model.network)
    behind, known = topology.architecture[0], [inputs]
    for group in range(1, topology.groups):
        units = topology.units_of(group)
        own = slice(units.start - behind, units.stop - behind)
        is_last = group == topology.groups - 1
        state = nodes.constant(arrays["biases"][own], f"biases_{group}")
        sources = sorted(source for source, target in topology.links if target == group)
        names = [f"state_{group}_{source}" for source in sources[:-1]]
        names.append("logits" if is_last else f"state_{group}")
        if not sources:
            state = _add_repeated(nodes, state, topology.architecture[group], names[0])
        for source, name in zip(sources, names):
            pair = (source, group)
            weight = _add_weight(nodes, topology, pair, arrays["values"][topology.span_of(pair)])
            state = nodes.add("Gemm", known[source], weight, state, name=name)
        if not is_last:
            known.append(_add_activation(nodes, model.network.activation, state, arrays.get("shapes"), own))


def _add_weight(nodes: Nodes, topology: Topology, pair: tuple[int, int], values: np.ndarray) -> str:
    """The weight of a link, (units of its source, units of its target), in the form that takes fewer bytes."""
    n_in, n_out = topology.shape_of(pair)
    row, column = topology.positions(pair)
    cells = column.astype(np.int64) * n_out + row
    return add_matrix(nodes, cells, values, (n_in, n_out), f"weight_{pair[0]}_{pair[1]}")


def _add_repeated(nodes: Nodes, biases: str, units: int, name: str) -> str:
    """The biases of a group that nothing leads to, once for each input."""
    batch = nodes.add("Shape", "raw", start=0, end=1)
    return nodes.add("Expand", biases, nodes.add("Concat", batch, np.array([units]), axis=0), name=name)


def _add_activation(nodes: Nodes, activation: str, state: str, shapes: np.ndarray | None, own: slice) -> str:
    """The activation of a group; own: its units among all behind the input, whose shapes count."""
    if shapes is None:
        return nodes.add(activation.capitalize(), state)
    left, below, width, above = shapes[own].T  # SReLU (Jin et al. 2016)
    right = left + np.abs(width)
    low = nodes.add("Add", nodes.add("Mul", nodes.add("Sub", state, left), below), left)
    high = nodes.add("Add", nodes.add("Mul", nodes.add("Sub", state, right), above), right)
    low_or_state = nodes.add("Where", nodes.add("Less", state, left), low, state)
    return nodes.add("Where", nodes.add("GreaterOrEqual", state, right), high, low_or_state)
