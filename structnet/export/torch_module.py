"""A network as plain PyTorch: a state dict, a short module that loads it, and the same through `torch.export`.

The parameters of the module are the connections that exist, of which it makes a matrix for the moment of a product: it
can be trained on, and no other connection comes.
"""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import nn

from structnet.export.arrays import (
    arrays_of,
    columns_of,
    described,
    groups_of,
    raw_described,
    raw_type,
    shown,
)
from structnet.export.model import Model, Written
from structnet.export.table_arrays import table_arrays
from structnet.export.torch_maps import MapModule

_ACTIVATED = {
    "relu": ["state = state.relu()"],
    "tanh": ["state = state.tanh()"],
    "sigmoid": ["state = state.sigmoid()"],
    "srelu": [
        "left, below, width, above = self.shapes[first - {inputs} : last - {inputs}].t()",
        "right = left + width.abs()",
        "low_part, high_part = left + below * (state - left), right + above * (state - right)",
        "state = torch.where(state >= right, high_part, torch.where(state < left, low_part, state))",
    ],
}
_STRAIGHTENED = [
    "up, down = numbers.clamp(min=0).log1p(), (-numbers).clamp(min=0).log1p()",
    "up = torch.where(self.power == 0, up, (self.power * up).expm1() / self.power)",
    "down = torch.where(self.power == 2, down, ((2 - self.power) * down).expm1() / (2 - self.power))",
    "numbers = torch.where(numbers >= 0, up, -down)",
]
_SOURCE = '''\
"""{about}

    from safetensors.torch import load_file

    network = Network()
    network.load_state_dict(load_file("{state_file}"))
    network(raw)  # logits (batch, {classes})

Takes {raw}.
Its parameters are the connections that exist: it can be trained on, and no other connection comes.
"""

import torch
from torch import nn
from torch.nn.functional import linear

CLASS_NAMES = {names}
{columns}# Of each group behind the input: the first unit that it looks at, its units from and to, its connections.
GROUPS = {groups}


class Network(nn.Module):
    def __init__(self):
        super().__init__()
{state}

    def forward(self, raw):
{inputs}
        for low, first, last, start, stop in GROUPS:
            weight = units.new_zeros(last - first, first - low)
            where = self.target[start:stop] - first, self.source[start:stop] - low
            weight = weight.index_put(where, self.values[start:stop])
            state = linear(units[:, low:first], weight, self.biases[first - {behind} : last - {behind}])
            if last < {units}:
{activated}
            units = torch.cat([units, state], 1)
        return units[:, {hidden}:]
'''

_MAP_SOURCE = '''\
"""{about}

    from safetensors.torch import load_file

    network = Network()
    network.load_state_dict(load_file("{state_file}"))
    network(raw)  # logits (batch, {classes})

Takes {raw}.
Its layers are dense, with weights of 0 where nothing is connected.
"""

import torch
from torch import nn
{imports}
CLASS_NAMES = {names}
{columns}

class Network(nn.Module):
    def __init__(self):
        super().__init__()
{state}

    def forward(self, raw):
{inputs}
{lines}
        return group_{last}
'''


def write(model: Model, folder: Path) -> Written:
    """Writes NAME_torch.py, NAME_torch.safetensors (its state dict) and NAME_torch.pt2 (`torch.export`).

    What is checked is the exported program, which is made of the two other files.
    """
    module_file, state_file, program_file = (
        folder / f"{model.name}_torch.{ending}" for ending in ("py", "safetensors", "pt2")
    )
    module_file.write_text(source_of(model), encoding="utf-8")
    state_file.write_bytes(save(state_of(model)))
    network = runpy.run_path(str(module_file))["Network"]()
    network.load_state_dict(load_file(state_file))
    _export(network, model, program_file)
    lines = [
        f"`Network` in {module_file.name} loads {state_file.name}, and takes {raw_described(model)}.",
        f"`torch.export.load('{program_file.name}').module()` is the same, without its Python.",
    ]
    return Written([module_file, state_file, program_file], lines, run=_run(program_file, model))


def state_of(model: Model) -> dict[str, torch.Tensor]:
    """The state dict: the arrays of the network, and those of its preprocessing as buffers."""
    if model.network.topology.architecture.has_maps:
        return MapModule(model).state | _buffers(model)
    arrays = {name: torch.from_numpy(array.copy()) for name, array in arrays_of(model.network).items()}
    return arrays | _buffers(model)


def _buffers(model: Model) -> dict[str, torch.Tensor]:
    """Arrays of the preprocessing."""
    preprocessing = model.preprocessing
    if preprocessing["kind"] == "table":
        table = table_arrays(preprocessing["columns"])
        arrays = table._asdict()
        if not table.is_straightened:
            del arrays["power"]
    else:
        kind, shape = (np.float32, (-1, 1, 1)) if preprocessing["kind"] == "image" else (np.float64, (-1,))
        arrays = {name: np.array(preprocessing[name], kind).reshape(shape) for name in ("offset", "scale")}
    return {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}


def source_of(model: Model) -> str:
    """The text of the module."""
    if model.network.topology.architecture.has_maps:
        return _source_of_maps(model)
    sizes = model.network.architecture
    units, behind = sum(sizes), sizes[0]
    columns = columns_of(model.preprocessing)
    activated = [line.format(inputs=behind) for line in _ACTIVATED[model.network.activation]]
    return _SOURCE.format(
        about=described(model),
        raw=raw_described(model),
        state_file=f"{model.name}_torch.safetensors",
        classes=len(model.class_names),
        names=shown(list(model.class_names)),
        columns="" if columns is None else f"COLUMNS = {shown(columns)}\n",
        groups=shown([tuple(group) for group in groups_of(model.network.topology)]),
        state=_indented([_registered(name, tensor) for name, tensor in state_of(model).items()], 2),
        inputs=_indented(_inputs(model), 2),
        behind=behind,
        units=units,
        activated=_indented(activated, 4),
        hidden=units - sizes[-1],
    )


def _source_of_maps(model: Model) -> str:
    made, columns = MapModule(model), columns_of(model.preprocessing)
    units, side = made.shape[0], made.shape.sides[0]
    inputs = _inputs(model)
    if model.raw_shape == (units, *side):
        inputs = ["group_0 = (raw.float() - self.offset) / self.scale"]
    else:
        inputs.append(f"group_0 = units.reshape(-1, {units}, {side[0]}, {side[1]})")
    buffers = [_registered(name, tensor) for name, tensor in _buffers(model).items()]
    imports = "from torch.nn.functional import pad\n" if any("pad(" in line for line in made.lines) else ""
    return _MAP_SOURCE.format(
        about=described(model),
        raw=raw_described(model),
        state_file=f"{model.name}_torch.safetensors",
        classes=len(model.class_names),
        imports=imports,
        names=shown(list(model.class_names)),
        columns="" if columns is None else f"COLUMNS = {shown(columns)}\n",
        state=_indented([*buffers, *made.parts], 2),
        inputs=_indented(inputs, 2),
        lines=_indented(made.lines, 2),
        last=made.topology.groups - 1,
    )


def _registered(name: str, tensor: torch.Tensor) -> str:
    shape = ", ".join(map(str, tensor.shape))
    if name in ("values", "biases", "shapes"):
        return f"self.{name} = nn.Parameter(torch.zeros({shape}))"
    return f'self.register_buffer("{name}", torch.zeros({shape}, dtype={tensor.dtype}))'


def _inputs(model: Model) -> list[str]:
    """The lines that make inputs of raw values."""
    kind = model.preprocessing["kind"]
    if kind == "image":
        return ["units = ((raw.float() - self.offset) / self.scale).flatten(1)"]
    if kind == "columns":
        return ["units = ((raw.double() - self.offset) / self.scale).float()"]
    return [
        "values = raw.double()",
        "numbers = values[:, self.number]",
        "numbers = torch.where(numbers.isnan(), self.fill, numbers)",
        *(_STRAIGHTENED if table_arrays(model.preprocessing["columns"]).is_straightened else []),
        "numbers = (numbers - self.offset) / self.scale",
        "known, unknown = values[:, self.text] == self.category, values[:, self.unknown].isnan()",
        "units = torch.cat([numbers, known, unknown], 1)[:, self.order].float()",
    ]


def _indented(lines: list[str], times: int) -> str:
    return "\n".join("    " * times + line for line in lines)


def _export(network: nn.Module, model: Model, file: Path) -> None:
    example = torch.zeros(2, *model.raw_shape, dtype=getattr(torch, raw_type(model)))
    batch = torch.export.Dim("batch")
    program = torch.export.export(network.eval(), (example,), dynamic_shapes=({0: batch},))
    torch.export.save(program, file)


def _run(file: Path, model: Model) -> Callable[[np.ndarray], np.ndarray]:
    network, kind = torch.export.load(file).module(), raw_type(model)

    def run(raw: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            found: np.ndarray = network(torch.from_numpy(raw.astype(kind))).numpy()
        return found

    return run
