"""A plain torch module as a StructNet of equal logits: what it computes is followed, not what it is made of.

A weight that is not zero becomes a connection, an activation a group of units; additions become links that skip groups,
of value 1 where nothing lies between. Linear layers without an activation between them, batch norm and constant factors
are multiplied into one. A layer that reads a sum of several groups has its weights once for each of them. A module that
computes with images is followed once more, with feature maps (structnet.network.from_module_maps).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from math import prod
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import is_lazy

from structnet.errors import UserError, one_line
from structnet.network.architecture import check_architecture
from structnet.network.from_module_map_network import map_network, without_maps
from structnet.network.from_module_map_operations import MAP_OPERATIONS, NEEDING_MAPS, NeedsMaps
from structnet.network.from_module_maps import MapReading
from structnet.network.from_module_values import KNOWN, Affine, Reading, Value, WrongSize
from structnet.network.network import StructNet
from structnet.network.topology import Topology
from structnet.seeds import torch_seed

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-11}  # of logits, times 1 + the largest of them
CHECKED = 64  # random inputs


class Difference(NamedTuple):
    """Of logits: the largest, and how large it may be."""

    largest: float
    allowed: float


class Taken(NamedTuple):
    """What a module became.

    network: of its number type and on its device. features: shape of one input. ignored: layers that do nothing in
    evaluation, folded: batch norms that are part of connections now, kept: those that feature maps are normalised by,
    each as a message names it.
    """

    network: StructNet
    features: tuple[int, ...]
    ignored: list[str]
    folded: list[str]
    kept: list[str]


def from_module(module: nn.Module, *, example_shape: Sequence[int] | None = None) -> StructNet:
    """The StructNet that computes what a module computes in evaluation, (batch, *example_shape) -> (batch, classes).

    The module is made of linear layers (pruned and parametrised ones as well), one activation of relu, tanh and
    sigmoid, flatten, additions, concatenations, batch norm, dropout and products with constants, and of Conv2d,
    average pooling and means over images; it may use a layer twice, and is left as it is. Where every Conv2d has a
    batch norm and a ReLU behind it, feature maps stay normalised; else batch norms become part of weights.
    example_shape: of one input, without the batch; by default flat, of the size that the first layer takes. Raises
    UserError, naming the layer, for anything else, for a shape that does not fit, and if the logits of random inputs
    differ.
    """
    return take_over(module, example_shape).network


def take_over(module: nn.Module, example_shape: Sequence[int] | None = None) -> Taken:
    """As `from_module`, with what there is to say about it."""
    dtype, device = _number_type(module)
    followed = partial(_read, module, dtype, device)
    if example_shape is not None:
        features = tuple(int(size) for size in example_shape)
        reading, logits = followed(features)
    else:
        features = (1,)
        try:
            reading, logits = followed(features)
        except WrongSize as wrong:
            if wrong.given != 1 or wrong.taken < 2:
                raise UserError(
                    f"{wrong}; inputs are taken to be flat, as their shape is not given (example_shape, or a dataset)"
                ) from wrong
            features = (wrong.taken,)
            reading, logits = followed(features)
    network = _network(reading, logits, prod(features))
    generator = torch.Generator().manual_seed(torch_seed(0, "from_module"))
    inputs = torch.randn(CHECKED, *features, generator=generator, dtype=dtype)
    largest_difference(module, network, inputs.to(device))
    kept = reading.kept if isinstance(reading, MapReading) else []
    about = (list(dict.fromkeys(each)) for each in (reading.ignored, reading.folded, kept))
    return Taken(network, features, *about)


def largest_difference(module: nn.Module, network: StructNet, inputs: torch.Tensor) -> Difference:
    """Between the logits of both for the same inputs, (n, *features).

    Raises UserError above 1e-5 · (1 + largest logit), in float64 1e-11 · (1 + largest logit).
    """
    with _evaluating(module), torch.no_grad():
        expected = module(inputs.clone())
        found = network(inputs)
    if expected.shape != found.shape:
        raise UserError(
            f"the module gives logits of shape {tuple(expected.shape)} for {len(inputs)} inputs, but must give "
            f"{tuple(found.shape)}: each input by itself"
        )
    difference = float((expected - found).abs().max())
    allowed = TOLERANCE[found.dtype] * (1 + float(expected.abs().max()))
    if not difference <= allowed:
        raise UserError(
            f"logits differ by up to {difference:.2g}, but at most {allowed:.2g} is allowed: the module is likely to "
            "depend on the batch or on chance, or to change a value in place that it looks at once more; mend that"
        )
    return Difference(difference, allowed)


def takes(module: nn.Module, features: tuple[int, ...]) -> bool:
    """Whether the module runs on inputs of this shape."""
    dtype, device = _number_type(module)
    try:
        with _evaluating(module), torch.no_grad():
            module(torch.zeros(1, *features, dtype=dtype, device=device))
    except Exception:  # what a module of the user's raises is its own affair
        return False
    return True


def _read(
    module: nn.Module, dtype: torch.dtype, device: torch.device, features: tuple[int, ...]
) -> tuple[Reading, Affine]:
    """The module, followed as it has to be, and its logits."""
    plain = Reading(dtype, device, NEEDING_MAPS)
    try:
        return plain, _followed(module, plain, features)
    except NeedsMaps as needs:
        channels, high, wide = features if len(features) == 3 else needs.features
    for keeps_norms in (True, False):
        reading = MapReading(
            dtype, device, MAP_OPERATIONS, units=[channels], sides=[(high, wide)], keeps_norms=keeps_norms
        )
        logits = _followed(module, reading, features)
        if not reading.statistics or reading.all_are_normalised:
            break
    return reading, logits


def _followed(module: nn.Module, reading: Reading, features: tuple[int, ...]) -> Affine:
    """The module's logits, of its forward pass with values in place of tensors."""
    with ExitStack() as stack:
        stack.enter_context(_evaluating(module))
        stack.enter_context(torch.no_grad())
        for name, part in module.named_modules():
            about = (name, type(part).__name__)
            stack.callback(part.register_forward_pre_hook(partial(_enters, reading, about)).remove)
            stack.callback(part.register_forward_hook(partial(_leaves, reading)).remove)
        try:
            logits = module(reading.inputs(features))
        except UserError:
            raise
        except Exception as error:  # what a module of the user's raises is its own affair
            raise UserError(
                f"{reading.where} cannot be followed ({one_line(error)}): it must take one tensor and be made of "
                f"{KNOWN}, and where it looks at the shape of its inputs, give that (example_shape, or a dataset)"
            ) from error
    _check_logits(reading, logits, type(module).__name__)
    found: Affine = logits
    return found


def _enters(reading: Reading, about: tuple[str, str], *_: Any) -> None:
    reading.inside.append(about)


def _leaves(reading: Reading, *_: Any) -> None:
    reading.inside.pop()


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """The module in evaluation, and afterwards each of its parts as it was."""
    before = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in before:
            part.training = training


def _number_type(module: nn.Module) -> tuple[torch.dtype, torch.device]:
    """Of all weights; raises UserError for none, several, or one that no StructNet has."""
    tensors = [*module.parameters(), *module.buffers()]
    if any(is_lazy(tensor) for tensor in tensors):
        raise UserError(
            f"{type(module).__name__} has layers without a size yet: run it on one input before it is taken over"
        )
    weights = [*module.parameters()] or tensors
    kinds = {(tensor.dtype, tensor.device) for tensor in weights if tensor.is_floating_point()}
    if len(kinds) != 1:
        raise UserError(
            f"{type(module).__name__} has weights of {len(kinds)} number types or devices, but must have one: "
            + ("convert them with .to()" if kinds else "give a network with linear layers")
        )
    ((dtype, device),) = kinds
    if dtype not in TOLERANCE:
        raise UserError(
            f"{type(module).__name__} has weights of {dtype}, but a network has float32 or float64: convert it with "
            ".float()"
        )
    return dtype, device


def _check_logits(reading: Reading, logits: Any, name: str) -> None:
    if not isinstance(logits, Affine) or len(logits.features) != 1:
        what = (
            f"(batch, {', '.join(map(str, logits.features))})"
            if isinstance(logits, Value)
            else type(logits).__name__
        )
        raise UserError(
            f"{name} gives {what}, but must give one tensor, (batch, classes), that its inputs decide"
        )
    last = len(reading.groups)
    if reading.activation == "sigmoid" and set(logits.terms) == {last} and _is_identity(logits):
        raise UserError(f"{name} ends with sigmoid, but logits are needed: give the network without it")


def _is_identity(value: Affine) -> bool:
    (matrix,) = value.terms.values()
    rows, columns = matrix.nonzero()
    return (
        not value.bias.any()
        and len(rows) == matrix.shape[1]
        and bool((matrix.data == 1).all() and (rows == columns).all())
    )


def _network(reading: Reading, logits: Affine, inputs: int) -> StructNet:
    """The groups and the logits as a network: entries that are not zero in its number type are its connections."""
    groups = [group for group in (*reading.groups, logits) if isinstance(group, Affine)]
    if isinstance(reading, MapReading):
        plain = without_maps(reading, [*reading.groups, logits])
        if plain is None:
            return map_network(reading, logits)
        groups = plain
    architecture = check_architecture([inputs, *(len(group.bias) for group in groups)])
    offsets = np.concatenate([[0], np.cumsum(architecture)])
    kind = np.float64 if reading.dtype == torch.float64 else np.float32
    parts = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, kind))]
    for target, group in enumerate(groups, start=1):
        for source, matrix in group.terms.items():
            cells = matrix.tocoo()
            values = cells.data.astype(kind)
            exists = values != 0
            column, row = offsets[source] + cells.col[exists], offsets[target] + cells.row[exists]
            parts.append((column, row, values[exists]))
    source_unit, target_unit, weights = (np.concatenate(part) for part in zip(*parts))
    topology, order = Topology.sorted(architecture, source_unit, target_unit)
    biases = np.concatenate([group.bias for group in groups]).astype(kind)
    values = np.concatenate([weights[order], biases])
    if not np.isfinite(values).all():
        raise UserError(
            "some weights are not finite, but a network computes with numbers: give other weights"
        )
    return StructNet.from_parts(
        topology, torch.from_numpy(values).to(reading.device), activation=reading.activation or "relu"
    )
