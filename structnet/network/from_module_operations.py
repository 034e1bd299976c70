"""What torch's functions, methods and operators make of the values of a module that is followed.

A function here has the arguments of torch's, and the name under which torch knows it is its key in `OPERATIONS`.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, NoReturn

import numpy as np
import torch
from scipy import sparse

from structnet.network.from_module_values import BATCH, Affine, Value, WrongSize, values_in


def _linear(x: Any, weight: Any, bias: Any = None) -> Affine:
    reading = next(values_in((x, weight, bias))).reading
    if not isinstance(x, Value) or not _is_matrix(weight) or isinstance(bias, Value):
        reading.refuse("multiplies by what is no constant matrix, but weights must not depend on the input")
    flat = _checked_flat(x)
    _check_size(flat, weight.shape[1])
    return flat.through(sparse.csr_array(numbers_of(weight)), 0.0 if bias is None else numbers_of(bias))


def _matmul(x: Any, other: Any) -> Affine:
    return _linear(x, other.t() if _is_matrix(other) else other)


def _is_matrix(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.ndim == 2


def numbers_of(tensor: torch.Tensor) -> np.ndarray:
    """float64, on the CPU."""
    numbers: np.ndarray = tensor.detach().to("cpu", torch.float64).numpy()
    return numbers


def _checked_flat(x: Value) -> Affine:
    if not isinstance(x, Affine) or len(x.features) != 1:
        x.reading.refuse(
            f"takes inputs of shape {x.features}, but must take flat ones: put Flatten before it"
        )
    return x


def _check_size(x: Affine, taken: int) -> None:
    given = prod(x.features)
    if taken != given:
        raise WrongSize(
            f"{x.reading.where} takes {taken} features, but is given {given}: layers must fit each other",
            taken,
            given,
        )


def _add(x: Any, other: Any, alpha: float = 1) -> Value:
    if not isinstance(x, Value):
        return _add(_mul(other, alpha), x)
    if not isinstance(other, Value):
        return x.shifted(alpha * x.constant(other))
    if x.features != other.features:
        x.reading.refuse(
            f"adds values of {x.features} and {other.features} features, but they must be of one shape"
        )
    return x.plus(other if alpha == 1 else _mul(other, alpha))


def _sub(x: Any, other: Any, alpha: float = 1) -> Value:
    return _add(x, other, alpha=-alpha)


def _reversed_sub(x: Any, other: Any, alpha: float = 1) -> Value:
    return _sub(other, x, alpha)


def _mul(x: Any, other: Any) -> Value:
    value: Value
    value, factor = (x, other) if isinstance(x, Value) else (other, x)
    if isinstance(factor, Value):
        value.reading.refuse("multiplies two values, but only products with constants can be taken over")
    return value.scaled(value.constant(factor))


def _div(x: Any, other: Any) -> Value:
    if isinstance(other, Value):
        other.reading.refuse("divides by a value, but only quotients by constants can be taken over")
    value: Value = x
    return value.scaled(1 / value.constant(other))


def _reversed_div(x: Any, other: Any) -> Value:
    return _div(other, x)


def _neg(x: Value) -> Value:
    return _mul(x, -1)


def _flatten(x: Affine, start_dim: int = 0, end_dim: int = -1) -> Affine:
    first, last = start_dim % x.ndim, end_dim % x.ndim
    if first == 0:
        x.reading.refuse(
            "flattens the batch as well, but images must stay apart: flatten from dimension 1 on"
        )
    if first == last:
        return x
    sizes = x.features
    return x.shaped((*sizes[: first - 1], prod(sizes[first - 1 : last]), *sizes[last:]))


def _reshape(x: Affine, *shape: Any) -> Affine:
    sizes = tuple(shape[0]) if isinstance(shape[0], tuple) else shape
    known, given = [size for size in sizes if size != -1], BATCH * prod(x.features)
    full = tuple(given // prod(known) if size == -1 else size for size in sizes)
    if len(full) < 2 or prod(full) != given or full[0] != BATCH:
        taken = prod(size for size in sizes[1:] if size != -1)
        raise WrongSize(
            f"{x.reading.where} reshapes {x.features} features to {sizes}, but images must stay apart and whole",
            taken,
            prod(x.features),
        )
    return x if full[1:] == x.features else x.shaped(full[1:])


def _unflatten(x: Affine, dim: int, sizes: Any) -> Affine:
    at = dim % x.ndim - 1
    return _reshape(x, BATCH, *x.features[:at], *sizes, *x.features[at + 1 :])


def _getitem(x: Affine, index: Any) -> Affine:
    if len(x.features) != 1 or not isinstance(index, tuple) or len(index) != 2:
        x.reading.refuse(
            "looks at a part of its inputs other than some features of a flat value: x[:, first:last]"
        )
    images, chosen = index
    if not isinstance(chosen, slice) or images not in (slice(None), ...):
        x.reading.refuse(
            f"looks at [{images}, {chosen}], but only some features of all images can be: x[:, first:last]"
        )
    columns = np.arange(x.features[0])[chosen]
    places = (np.ones(len(columns)), (np.arange(len(columns)), columns))
    return x.through(sparse.csr_array(places, shape=(len(columns), x.features[0])))


def _cat(tensors: Any, dim: int = 0) -> Affine:
    first = next(values_in(tensors))
    if not all(isinstance(each, Affine) and len(each.features) == 1 for each in tensors) or dim not in (
        1,
        -1,
    ):
        first.reading.refuse("concatenates what are not flat values, or not their features")
    sizes = np.cumsum([0, *(len(each.bias) for each in tensors)])
    whole = Affine(first.reading, (int(sizes[-1]),), {}, np.zeros(sizes[-1]))
    for each, start in zip(tensors, sizes):
        rows = np.arange(start, start + len(each.bias))
        places = (np.ones(len(rows)), (rows, np.arange(len(rows))))
        whole = whole.plus(each.through(sparse.csr_array(places, shape=(sizes[-1], len(rows)))))
    return whole


def _dropout(x: Value, p: float = 0.5, training: bool = True) -> Value:
    if training and p:
        x.reading.refuse(
            "drops units in evaluation too, but has to compute the same every time: pass training"
        )
    x.reading.ignored.append(x.reading.where)
    return x


def _batch_norm(
    x: Affine,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Affine:
    if training or running_mean is None or running_var is None:
        x.reading.refuse("normalises by the batch in evaluation too: let it track running statistics")
    x = _checked_flat(x)
    _check_size(x, len(running_mean))
    scale = 1 / np.sqrt(numbers_of(running_var) + eps) * (1 if weight is None else numbers_of(weight))
    shift = -numbers_of(running_mean) * scale + (0 if bias is None else numbers_of(bias))
    x.reading.folded.append(x.reading.where)
    return x.scaled(scale).shifted(shift)


def _softmax(x: Affine, dim: Any = None, _stacklevel: int = 3, dtype: Any = None) -> NoReturn:
    x.reading.refuse("makes probabilities of logits, but logits are needed: give the network without it")


def _same(x: Value, *_: Any, **__: Any) -> Value:
    return x


def _clone(x: Value, *_: Any, **__: Any) -> Value:
    return x.copied()


def _activation(name: str) -> Callable[[Affine], Affine]:
    def activation(x: Affine) -> Affine:
        return x.reading.closed(x, name)

    return activation


OPERATIONS: dict[str, Callable[..., Any]] = {
    **{name: _activation(name) for name in ("relu", "tanh", "sigmoid")},
    "linear": _linear,
    **dict.fromkeys(("matmul", "mm"), _matmul),
    **dict.fromkeys(("add", "radd"), _add),
    **dict.fromkeys(("sub", "subtract"), _sub),
    "rsub": _reversed_sub,
    **dict.fromkeys(("mul", "rmul", "multiply"), _mul),
    **dict.fromkeys(("div", "divide", "truediv", "true_divide"), _div),
    "rtruediv": _reversed_div,
    **dict.fromkeys(("neg", "negative"), _neg),
    "flatten": _flatten,
    **dict.fromkeys(("reshape", "view"), _reshape),
    "unflatten": _unflatten,
    "getitem": _getitem,
    **dict.fromkeys(("cat", "concat", "concatenate"), _cat),
    **dict.fromkeys(("dropout", "dropout2d"), _dropout),
    "batch_norm": _batch_norm,
    **dict.fromkeys(("softmax", "log_softmax"), _softmax),
    **dict.fromkeys(("contiguous", "detach", "float", "double", "to"), _same),
    torch.clone.__name__: _clone,
}
