"""What a torch module computes of its inputs, followed through its own forward pass: sums of linear maps of groups.

The forward pass is run with an `Affine` in place of a tensor (the protocol of `__torch_function__`), which keeps, for
each group of units, the matrix from that group to itself. Linear layers, additions and products with constants change
the matrices, an activation closes a value into a group of its own, and anything else is refused by name. So hooks,
masks and parametrisations of layers take part as they always do, and Python that looks at shapes works.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any, NoReturn, Self

import numpy as np
import torch
from scipy import sparse
from typing_extensions import override

from structnet.errors import UserError

BATCH = 7919  # images in the followed pass: a number that no shape of features is likely to have
KNOWN = (
    "linear and Conv2d layers, relu, tanh, sigmoid, average pooling, flatten, additions, concatenations, batch norm "
    "and products with constants"
)


class WrongSize(UserError):
    """A layer gets so many features (`given`) and takes others (`taken`)."""

    def __init__(self, message: str, taken: int, given: int) -> None:
        super().__init__(message)
        self.taken, self.given = taken, given


@dataclass
class Reading:
    """A module on its way through.

    operations: what torch's functions, methods and operators make of values, by name. groups: what each hidden group
    is before its activation, in order. activation: of all hidden units, "" as long as there are none. ignored: layers
    that do nothing in evaluation, folded: batch norms that became a part of weights, as messages name them. inside:
    name and type of the modules whose forward pass is running, the outermost first.
    """

    dtype: torch.dtype
    device: torch.device
    operations: Mapping[str, Callable[..., Any]]
    groups: list[Value] = field(default_factory=list)
    activation: str = ""
    ignored: list[str] = field(default_factory=list)
    folded: list[str] = field(default_factory=list)
    inside: list[tuple[str, str]] = field(default_factory=list)

    @property
    def where(self) -> str:
        """The innermost module that is running, as a message names it."""
        if not self.inside:
            return "the module"
        name, kind = self.inside[-1]
        return f"{kind} '{name}'" if name else kind

    def refuse(self, reason: str) -> NoReturn:
        """Raises UserError about the innermost module."""
        raise UserError(f"{self.where} {reason}")

    def inputs(self, features: tuple[int, ...]) -> Affine:
        """What the module is given."""
        return Affine.inputs(self, features)

    def closed(self, value: Affine, activation: str) -> Affine:
        """The activations of a new group of units, one for each feature of the value before them."""
        self.begin_group(value, activation)
        units = prod(value.features)
        return Affine(
            self, value.features, {len(self.groups): sparse.eye_array(units).tocsr()}, np.zeros(units)
        )

    def begin_group(self, value: Value, activation: str) -> None:
        """A new group with this value before its activation, which has to be that of all groups."""
        if self.activation not in ("", activation):
            ends = " (if it only ends the network, leave it out: logits are needed)"
            self.refuse(
                f"is {activation}, but {self.activation} comes before it, and all hidden units of a network share "
                f"one activation: use {self.activation} everywhere{ends if activation == 'sigmoid' else ''}"
            )
        self.activation = activation
        self.groups.append(value.copied())


class Value(ABC):
    """A value of the pass, (BATCH, *features); torch's functions and methods take it as they take a tensor."""

    bias: np.ndarray
    __array_ufunc__ = None  # so that numbers of NumPy leave products to it
    requires_grad = False

    def __init__(self, reading: Reading, features: tuple[int, ...]) -> None:
        self.reading, self.features = reading, features

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return applied(getattr(function, "__name__", str(function)), args, kwargs or {})

    def __getattr__(self, name: str) -> Any:
        """The methods of a tensor, refused unless they are known; what no tensor has is no attribute."""
        if name.startswith("__") or not hasattr(torch.Tensor, name):
            raise AttributeError(name)
        if not callable(getattr(torch.Tensor, name)):
            self.reading.refuse(f"takes .{name} of a value, but only {KNOWN} can be taken over")
        return lambda *args, **kwargs: applied(name, (self, *args), kwargs)

    @property
    def shape(self) -> torch.Size:
        """As of a tensor."""
        return torch.Size((BATCH, *self.features))

    @property
    def ndim(self) -> int:
        """As of a tensor."""
        return 1 + len(self.features)

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.reading.dtype

    @property
    def device(self) -> torch.device:
        """Of the weights."""
        return self.reading.device

    def dim(self) -> int:
        """As of a tensor."""
        return self.ndim

    def size(self, dim: int | None = None) -> torch.Size | int:
        """As of a tensor."""
        return self.shape if dim is None else self.shape[dim]

    def new_zeros(self, *size: Any) -> torch.Tensor:
        """As of a tensor: a constant."""
        return torch.zeros(*size, dtype=self.dtype, device=self.device)

    def __len__(self) -> int:
        return BATCH

    def __bool__(self) -> bool:
        self.reading.refuse("decides by values what it computes, but has to compute the same of every input")

    @abstractmethod
    def copied(self) -> Self:
        """The same value, which changes in place do not reach."""

    @abstractmethod
    def becomes(self, other: Self) -> Self:
        """Itself, changed in place."""

    @abstractmethod
    def constant(self, value: Any) -> np.ndarray:
        """A number or a tensor as numbers that `scaled` and `shifted` take; refused if it has another shape."""

    @abstractmethod
    def scaled(self, factor: np.ndarray) -> Self:
        """Times constants."""

    @abstractmethod
    def shifted(self, added: np.ndarray) -> Self:
        """Plus constants."""

    @abstractmethod
    def plus(self, other: Self) -> Self:
        """The sum with a value of the same shape."""


class Affine(Value):
    """For each group a matrix, (features, columns) float64, and a bias, (features,).

    Group 0 is the input, and columns are its units; of feature maps structnet.network.from_module_maps says which.
    """

    def __init__(
        self, reading: Reading, features: tuple[int, ...], terms: Mapping[int, Any], bias: np.ndarray
    ) -> None:
        super().__init__(reading, features)
        self.terms, self.bias = dict(terms), bias

    @classmethod
    def inputs(cls, reading: Reading, features: tuple[int, ...]) -> Affine:
        """What a module is given: the units of group 0."""
        units = prod(features)
        return cls(reading, features, {0: sparse.eye_array(units).tocsr()}, np.zeros(units))

    @override
    def copied(self) -> Affine:
        return Affine(self.reading, self.features, self.terms, self.bias)

    @override
    def becomes(self, other: Affine) -> Affine:
        self.features, self.terms, self.bias = other.features, other.terms, other.bias
        return self

    def shaped(self, features: tuple[int, ...]) -> Affine:
        """The same numbers in another shape."""
        return Affine(self.reading, features, self.terms, self.bias)

    def through(self, weight: Any, bias: np.ndarray | float = 0.0) -> Affine:
        """A linear map of it, weight: (out, features), as a flat value."""
        terms = {group: weight @ matrix for group, matrix in self.terms.items()}
        return Affine(self.reading, (weight.shape[0],), terms, weight @ self.bias + bias)

    @override
    def scaled(self, factor: np.ndarray) -> Affine:
        """Each feature times a factor, (features,)."""
        return self.through(sparse.diags_array(factor).tocsr()).shaped(self.features)

    @override
    def shifted(self, added: np.ndarray) -> Affine:
        """Each feature plus a number, (features,)."""
        return Affine(self.reading, self.features, self.terms, self.bias + added)

    @override
    def plus(self, other: Affine) -> Affine:
        terms = dict(self.terms)
        for group, matrix in other.terms.items():
            terms[group] = terms[group] + matrix if group in terms else matrix
        return Affine(self.reading, self.features, terms, self.bias + other.bias)

    @override
    def constant(self, value: Any) -> np.ndarray:
        """One number for each feature, (features,)."""
        try:
            tensor = torch.as_tensor(value).detach().to("cpu", torch.float64)
            return torch.broadcast_to(tensor, (1, *self.features)).reshape(-1).numpy()
        except (RuntimeError, TypeError, ValueError) as error:
            shape = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
            raise WrongSize(
                f"{self.reading.where} joins a value of {self.features} features with a constant of {shape}, but "
                "one number for all or one for each feature can be taken over",
                prod(shape) if isinstance(shape, tuple) else 0,
                prod(self.features),
            ) from error


IN_PLACE = ("iadd", "isub", "imul", "itruediv")


def _operator(name: str) -> Callable[..., Any]:
    def method(*operands: Any) -> Any:
        return applied(name, operands, {})

    return method


for _name in (
    *("add", "radd", "iadd", "sub", "rsub", "isub", "mul", "rmul", "imul", "truediv", "rtruediv", "itruediv"),
    *("neg", "abs", "pow", "rpow", "mod", "floordiv", "matmul", "rmatmul", "getitem", "setitem"),
    *("lt", "le", "gt", "ge", "eq", "ne", "invert", "and", "or"),
):
    setattr(Value, f"__{_name}__", _operator(_name))


def applied(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What torch's function, method or operator of this name makes of its arguments; raises UserError if unknown."""
    reading = next(values_in((*args, *kwargs.values()))).reading
    named = {key: value for key, value in kwargs.items() if key not in ("input", "inplace")}
    args = (kwargs["input"], *args) if "input" in kwargs else args
    plain = name.strip("_")
    in_place = (name.endswith("_") and not name.startswith("__")) or kwargs.get("inplace", False)
    if plain in IN_PLACE:
        plain, in_place = plain[1:], True
    operation = reading.operations.get(plain)
    if operation is None:
        reading.refuse(f"computes {plain}, but only {KNOWN} can be taken over: build the network of these")
    try:
        bound = inspect.signature(operation).bind(*args, **named)
    except TypeError as error:
        reading.refuse(
            f"computes {plain} in a way that cannot be taken over ({error}): give it no such option"
        )
    found = operation(*bound.args, **bound.kwargs)
    if not in_place:
        return found
    if not isinstance(args[0], Value):
        reading.refuse(f"changes a constant in place by {plain}, but constants have to stay what they are")
    return args[0].becomes(found)


def values_in(given: Any) -> Iterator[Value]:
    """The values among arguments, also inside lists and tuples of them."""
    for each in given:
        if isinstance(each, Value):
            yield each
        elif isinstance(each, (list, tuple)):
            yield from values_in(each)
