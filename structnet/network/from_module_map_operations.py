"""What torch's functions make of feature maps of a module that is followed: convolutions, pooling, batch norm, means.

Functions have the arguments of torch's. `NEEDING_MAPS` says of a module that is followed without maps that it has some;
`MAP_OPERATIONS` are those of one that is followed with them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np
import torch
from scipy import sparse

from structnet.errors import UserError
from structnet.network.architecture import POINT, Side
from structnet.network.from_module_maps import MapReading, Maps, Norm, maps_of
from structnet.network.from_module_operations import OPERATIONS, numbers_of
from structnet.network.from_module_values import KNOWN, Affine, Value, WrongSize, values_in

Margins = tuple[tuple[int, int], tuple[int, int]]


class NeedsMaps(UserError):
    """A module computes with images, of these (channels, height, width)."""

    def __init__(self, message: str, features: tuple[int, ...]) -> None:
        super().__init__(message)
        self.features = features


def _needing_maps(name: str) -> Callable[..., NoReturn]:
    def operation(x: Any, *_: Any, **__: Any) -> NoReturn:
        value = next(values_in((x,)))
        where, features = value.reading.where, value.features
        if len(features) != 3:
            if name not in ("conv2d", "avg_pool2d", "adaptive_avg_pool2d"):
                value.reading.refuse(f"computes {name}, but only {KNOWN} can be taken over")
            raise UserError(
                f"{where} takes images, but is given {features} features: give the shape of an image (example_shape, "
                "or a dataset)"
            )
        raise NeedsMaps(f"{where} computes {name} of images", features)

    return operation


def _batch_norm_without_maps(x: Value, *arguments: Any, **options: Any) -> Value:
    if len(x.features) == 3:
        raise NeedsMaps(f"{x.reading.where} normalises images", x.features)
    found: Value = OPERATIONS["batch_norm"](x, *arguments, **options)
    return found


def _max_pool2d(x: Value, *_: Any, **__: Any) -> NoReturn:
    x.reading.refuse(
        "takes the largest of several positions, which no weighted sum is: replace it by a Conv2d of stride 2 or by "
        "AvgPool2d, and train that"
    )


def _conv2d(
    x: Any,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Value:
    reading = next(values_in((x, weight, bias))).reading
    if not isinstance(x, Value) or not isinstance(weight, torch.Tensor) or isinstance(bias, Value):
        reading.refuse("convolves with what is no constant, but weights must not depend on the input")
    dense = _dense(numbers_of(weight), groups, _pair(dilation))
    added = np.zeros(len(dense)) if bias is None else numbers_of(bias)
    return _convolved(x, dense, added, _pair(stride), _margins(padding, dense.shape[2:]))


def _dense(weight: np.ndarray, groups: int, dilation: Side) -> np.ndarray:
    """(channels out, channels in, height, width), with 0 for what groups do not join and dilation leaves out."""
    outputs, inputs, high, wide = weight.shape
    size = dilation[0] * (high - 1) + 1, dilation[1] * (wide - 1) + 1
    dense = np.zeros((outputs, inputs * groups, *size))
    for group in range(groups):
        rows = slice(group * outputs // groups, (group + 1) * outputs // groups)
        columns = slice(group * inputs, (group + 1) * inputs)
        dense[rows, columns, :: dilation[0], :: dilation[1]] = weight[rows]
    return dense


def _margins(padding: Any, kernel: Sequence[int]) -> Margins:
    """Zeros above and below, left and right."""
    if padding == "same":
        (top, left), (high, wide) = ((size - 1) // 2 for size in kernel), kernel
        return (top, high - 1 - top), (left, wide - 1 - left)
    down, right = _pair(0 if padding == "valid" else padding)
    return (down, down), (right, right)


def _pair(value: Any) -> Side:
    first, *rest = value if isinstance(value, (list, tuple)) else (value, value)
    return int(first), int(rest[0] if rest else first)


def _convolved(x: Value, weight: np.ndarray, bias: np.ndarray, stride: Side, margins: Margins) -> Value:
    """weight: (channels out, channels in, height, width)."""
    if len(x.features) != 3 or x.features[0] != weight.shape[1]:
        raise WrongSize(
            f"{x.reading.where} takes images of {weight.shape[1]} channels, but is given {x.features}: layers must fit "
            "each other",
            weight.shape[1],
            x.features[0],
        )
    sizes = [
        (size + before + after - window) // step + 1
        for size, (before, after), window, step in zip(x.features[1:], margins, weight.shape[2:], stride)
    ]
    side = sizes[0], sizes[1]
    if min(side) < 1:
        x.reading.refuse(
            f"has a window of {weight.shape[2:]}, but its images are {x.features[1:]}: give larger ones"
        )
    if isinstance(x, Affine) and x.features[1:] == POINT:
        return _at_a_point(x, weight, bias, side, margins)
    # Rows and columns that no window reaches are not read, however far it is padded.
    read = [
        (before, max(0, (size_out - 1) * step + window - size_in - before))
        for (before, _), size_in, size_out, window, step in zip(
            margins, x.features[1:], side, weight.shape[2:], stride
        )
    ]
    maps = _readable(x, (read[0], read[1]))
    start = -margins[0][0], -margins[1][0]
    found = maps.convolved(weight, bias, stride, start, side)
    return found.flattened() if side == POINT else found


def _at_a_point(x: Affine, weight: np.ndarray, bias: np.ndarray, side: Side, margins: Margins) -> Affine:
    """Of images of one pixel, which one tap of each kernel falls on."""
    if side != POINT:
        x.reading.refuse(f"makes images of {side} of one pixel, but sides may not grow: use no padding")
    row, column = margins[0][0], margins[1][0]
    made = x.shaped(x.features[:1]).through(sparse.csr_array(weight[:, :, row, column]), bias)
    return made.shaped((len(weight), 1, 1))


def _readable(x: Value, beyond: Margins) -> Maps:
    """Maps that may be read so far beyond their sides: closed by a ReLU that changes nothing, where that is needed."""
    maps = _maps(x)
    is_exact = maps.is_zero_beyond(beyond)
    if is_exact and maps.is_pointwise:
        return maps
    if maps.is_never_negative:
        return maps.reading.closed_maps(maps, "relu")
    if not is_exact:
        maps.reading.refuse(
            "pads images that are not 0 beyond their sides (of a convolution, or with a constant added), but what lies "
            "beyond a map is 0: put a ReLU before it, use no padding, or scale inputs before the network"
        )
    return maps


def _maps(x: Value) -> Maps:
    if isinstance(x, Maps):
        return x
    found = maps_of(x) if isinstance(x, Affine) and len(x.features) == 3 else None
    if found is None:
        x.reading.refuse(
            f"takes images, but is given {x.features} that are none: only inputs and what convolutions make of them are"
        )
    return found


def _avg_pool2d(
    x: Value,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Value:
    window, margins = _pair(kernel_size), _margins(padding, POINT)
    steps = _pair(stride or kernel_size)
    is_padded = margins != ((0, 0), (0, 0))
    left = [(size - part) % step for size, part, step in zip(x.features[1:], window, steps)]
    if (ceil_mode and (is_padded or any(left))) or (is_padded and not count_include_pad):
        x.reading.refuse(
            "averages fewer positions at the edges than elsewhere, but taps have one weight everywhere"
        )
    if window == x.features[1:] and not is_padded and divisor_override is None:
        return _mean(x, (2, 3), keepdim=True)
    channels = x.features[0]
    share = np.full(window, 1 / (divisor_override or window[0] * window[1]))
    return _convolved(x, np.multiply.outer(np.eye(channels), share), np.zeros(channels), steps, margins)


def _adaptive_avg_pool2d(x: Value, output_size: Any) -> Value:
    sizes = output_size if isinstance(output_size, (list, tuple)) else (output_size, output_size)
    wanted = [given if size is None else size for size, given in zip(sizes, x.features[1:])]
    if any(given % size for given, size in zip(x.features[1:], wanted)):
        x.reading.refuse(
            f"averages images of {x.features[1:]} to {tuple(wanted)}, which does not divide them: use 1 or a divisor"
        )
    return _avg_pool2d(x, [given // size for given, size in zip(x.features[1:], wanted)])


def _mean(x: Value, dim: Any = None, keepdim: bool = False) -> Value:
    dims = dim if isinstance(dim, (list, tuple)) else (dim,)
    if len(x.features) != 3 or None in dims or sorted(each % x.ndim for each in dims) != [2, 3]:
        x.reading.refuse("averages over what are not the height and the width of images: x.mean((2, 3))")
    channels = x.features[0]
    if isinstance(x, Affine) and x.features[1:] == POINT:
        found = x.shaped((channels,))
    else:
        maps = _maps(x)
        whole = (
            maps.reading.closed_maps(maps, "relu") if maps.is_never_negative and not maps.is_whole else maps
        )
        found = whole.averaged()
    return found.shaped((channels, 1, 1)) if keepdim else found


def _batch_norm(
    x: Value,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Value:
    plain = OPERATIONS["batch_norm"]
    if len(x.features) != 3:
        found: Value = plain(x, running_mean, running_var, weight, bias, training, momentum, eps)
        return found
    if isinstance(x, Affine) and x.features[1:] == POINT:
        flat: Affine = plain(
            x.shaped(x.features[:1]), running_mean, running_var, weight, bias, training, momentum, eps
        )
        return flat.shaped(x.features)
    maps = _maps(x)
    if training or running_mean is None or running_var is None:
        x.reading.refuse("normalises by the batch in evaluation too: let it track running statistics")
    if len(running_mean) != maps.channels:
        raise WrongSize(
            f"{x.reading.where} takes {len(running_mean)} channels, but is given {maps.channels}: layers must fit each "
            "other",
            len(running_mean),
            maps.channels,
        )
    mean, variance = numbers_of(running_mean), numbers_of(running_var) + eps
    gain = np.ones(maps.channels) if weight is None else numbers_of(weight)
    added = np.zeros(maps.channels) if bias is None else numbers_of(bias)
    scale = gain / np.sqrt(variance)
    made = maps.scaled(scale).shifted(added - mean * scale)
    made.norm = Norm(maps, mean, variance, gain, added, x.reading.where)
    x.reading.folded.append(x.reading.where)
    return made


def _pad(x: Value, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Value:
    if mode != "constant" or value or len(pad) != 4 or len(x.features) != 3:
        x.reading.refuse(
            "pads with what is not 0, or what are no images: use zeros, left, right, above and below"
        )
    left, right, top, bottom = pad
    beyond = tuple((max(0, before), max(0, after)) for before, after in ((top, bottom), (left, right)))
    maps = _readable(x, (beyond[0], beyond[1]))
    side = maps.side[0] + top + bottom, maps.side[1] + left + right
    one = np.eye(maps.channels)[:, :, None, None]
    return maps.convolved(one, np.zeros(maps.channels), (1, 1), (-top, -left), side)


def _activation(name: str) -> Callable[[Value], Value]:
    def activation(x: Value) -> Value:
        reading = x.reading
        assert isinstance(reading, MapReading)
        if isinstance(x, Affine) and (len(x.features) != 3 or x.features[1:] == POINT):
            return reading.closed(x, name)
        return reading.closed_maps(_maps(x), name)

    return activation


def _flat(x: Any) -> Any:
    """Images as a flat value in their shape."""
    if not isinstance(x, Maps):
        return x
    is_larger = x.is_never_negative and not x.is_pointwise
    return (x.reading.closed_maps(x, "relu") if is_larger else x).flattened()


def _of_flat(name: str) -> Callable[..., Value]:
    def operation(x: Any, *arguments: Any, **options: Any) -> Value:
        found: Value = OPERATIONS[name](_flat(x), *arguments, **options)
        return found

    return operation


def _of_either(name: str) -> Callable[..., Value]:
    """Of two values: where one of them is maps, of both as maps."""

    def operation(x: Any, other: Any, **options: Any) -> Value:
        if any(isinstance(each, Maps) for each in (x, other)):
            x, other = (_maps(each) if isinstance(each, Affine) else each for each in (x, other))
        found: Value = OPERATIONS[name](x, other, **options)
        return found

    return operation


def _cat(tensors: Any, dim: int = 0) -> Value:
    if not all(isinstance(each, Value) and len(each.features) == 3 for each in tensors):
        found: Value = OPERATIONS["cat"](tensors, dim)
        return found
    parts = [_maps(each) for each in tensors]
    first = parts[0]
    if dim not in (1, -3) or any(part.side != first.side for part in parts):
        first.reading.refuse(
            "concatenates images of different sides, or not their channels: torch.cat([a, b], 1)"
        )
    channels = [part.channels for part in parts]
    features, start = (sum(channels), *first.side), 0
    whole = Maps(first.reading, features, {}, np.zeros(features[0]))
    for part in parts:
        place = np.eye(features[0])[:, start : start + part.channels, None, None]
        none = np.zeros(features[0])
        whole = whole.plus(part.convolved(place, none, (1, 1), (0, 0), part.side))
        start += part.channels
    return whole


def _squeeze(x: Value, dim: Any = None) -> Value:
    dims = (
        range(1, x.ndim)
        if dim is None
        else [one % x.ndim for one in (dim if isinstance(dim, tuple) else (dim,))]
    )
    kept = tuple(size for at, size in enumerate(x.features, start=1) if size != 1 or at not in dims)
    found: Value = x if kept == x.features else _flat(x).shaped(kept)
    return found


_POOLS = {
    "max_pool2d": _max_pool2d,
    "max_pool2d_with_indices": _max_pool2d,
    "adaptive_max_pool2d": _max_pool2d,
}
NEEDING_MAPS: dict[str, Callable[..., Any]] = {
    **OPERATIONS,
    **{name: _needing_maps(name) for name in ("conv2d", "avg_pool2d", "adaptive_avg_pool2d", "mean", "pad")},
    **_POOLS,
    "batch_norm": _batch_norm_without_maps,
}
MAP_OPERATIONS: dict[str, Callable[..., Any]] = {
    **OPERATIONS,
    **_POOLS,
    **{name: _activation(name) for name in ("relu", "tanh", "sigmoid")},
    **{name: _of_flat(name) for name in ("flatten", "reshape", "view", "unflatten")},
    **{name: _of_either(name) for name in ("add", "radd", "sub", "subtract")},
    **dict.fromkeys(("cat", "concat", "concatenate"), _cat),
    "conv2d": _conv2d,
    "avg_pool2d": _avg_pool2d,
    "adaptive_avg_pool2d": _adaptive_avg_pool2d,
    "mean": _mean,
    "pad": _pad,
    "batch_norm": _batch_norm,
    "squeeze": _squeeze,
}
