"""Sums over taps with what they add to held in registers, as vector instructions that are written out.

A compiler that is left alone reads and writes a run once for every few taps. Here some vectors of a run stay in
registers while all taps that end in it pass by, each a load and a multiply-add: what a processor can do at most. The
same holds backward, where what leaves a run gives it its error, and by the same loads the gradient of every tap.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import types

from structnet.compiled.functions import intrinsic

INDEX = ir.IntType(64)
HELD = (8, 4, 2, 1)  # vectors of a run that stay in registers: as many as fit what is left of it
LANES = 16  # numbers of a row of products: those of the widest vector


def _lanes(element: Any) -> int:
    """Numbers in a vector register of this machine: of float32 or float64."""
    widest = 64 if llvm.get_host_cpu_features().get("avx512f") else 32
    return widest // (4 if element == types.float32 else 8)


class _Writer:
    """Writes loops over one run. flat, seen: addresses of vectors of numbers; kind: what they are vectors of."""

    def __init__(self, builder: Any, kind: ir.Type) -> None:
        self.builder, self.kind = builder, kind

    def number(self, value: int) -> ir.Constant:
        return ir.Constant(INDEX, value)

    def load(self, pointer: Any, at: Any, count: int) -> list[Any]:
        """So many vectors from the place `at` on."""
        return [
            self.builder.load(place, align=self._align(pointer)) for place in self._places(pointer, at, count)
        ]

    def store(self, values: list[Any], pointer: Any, at: Any) -> None:
        for value, place in zip(values, self._places(pointer, at, len(values))):
            self.builder.store(value, place, align=self._align(pointer))

    def _align(self, pointer: Any) -> int:
        return 4 if isinstance(pointer.type.pointee, ir.FloatType) else 8

    def _places(self, pointer: Any, at: Any, count: int) -> list[Any]:
        builder, each = self.builder, self.kind.count if isinstance(self.kind, ir.VectorType) else 1
        starts = [builder.add(at, self.number(each * index)) for index in range(count)]
        places = [builder.gep(pointer, [start]) for start in starts]
        return [builder.bitcast(place, self.kind.as_pointer()) for place in places]

    def add_product(self, left: Any, right: Any, total: Any) -> Any:
        """total + left · right, rounded once where the machine can."""
        fused = ("contract",)
        return self.builder.fadd(total, self.builder.fmul(left, right, flags=fused), flags=fused)

    def spread(self, value: Any) -> Any:
        """A number in all places of a vector."""
        if not isinstance(self.kind, ir.VectorType):
            return value
        builder, undefined = self.builder, ir.Constant(self.kind, ir.Undefined)
        first = builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), self.kind.count), None)
        return builder.shuffle_vector(first, undefined, zeros)

    def multiply(self, left: list[Any], right: list[Any], products: Any, at: Any) -> None:
        """Adds the products of vectors to one that lies at a place, by two sums that do not wait for each other."""
        zero = ir.Constant(self.kind, None if isinstance(self.kind, ir.VectorType) else 0.0)
        sums = [self.load(products, at, 1)[0], zero]
        for number, (value, other) in enumerate(zip(left, right)):
            sums[number % 2] = self.add_product(value, other, sums[number % 2])
        self.store([self.builder.fadd(*sums)], products, at)

    def loop(
        self,
        first: Any,
        stop: Any,
        carried: list[Any],
        body: Callable[[Any, list[Any]], list[Any]],
        step: int = 1,
    ) -> list[Any]:
        """Carries values through `body` for every index from first to stop, and returns what they are then."""
        builder = self.builder
        before = builder.block
        head, inside, after = (builder.append_basic_block() for _ in range(3))
        builder.branch(head)
        builder.position_at_end(head)
        index = builder.phi(INDEX)
        index.add_incoming(first, before)
        values = [builder.phi(value.type) for value in carried]
        for value, start in zip(values, carried):
            value.add_incoming(start, before)
        builder.cbranch(builder.icmp_signed("<", index, stop), inside, after)
        builder.position_at_end(inside)
        results = body(index, values)
        following = builder.add(index, self.number(step))
        index.add_incoming(following, builder.block)
        for value, result in zip(values, results):
            value.add_incoming(result, builder.block)
        builder.branch(head)
        builder.position_at_end(after)
        return values


def _pieces(builder: Any, element: Any, size: Any, write: Callable[[_Writer, Any, int], None]) -> None:
    """Calls `write` for all numbers of a run: for many vectors at once, for fewer, and then number by number."""
    scalar = ir.FloatType() if element == types.float32 else ir.DoubleType()
    lanes, at = _lanes(element), ir.Constant(INDEX, 0)
    vector = ir.VectorType(scalar, lanes)
    for kind, count, each in (*((vector, held, held * lanes) for held in HELD), (scalar, 1, 1)):
        writer = _Writer(builder, kind)
        left = builder.sub(size, at)
        stop = builder.add(at, builder.mul(builder.sdiv(left, writer.number(each)), writer.number(each)))

        def body(index: Any, _: list[Any], writer: _Writer = writer, count: int = count) -> list[Any]:
            write(writer, index, count)
            return []

        writer.loop(at, stop, [], body, each)
        at = stop


def _data(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    return context.make_array(kind)(context, builder, value).data


@intrinsic
def sum_taps(
    typing_context: Any,
    flat: Any,
    weights: Any,
    rows: Any,
    first: Any,
    stop: Any,
    out: Any,
    size: Any,
    ahead: Any,
    width: Any,
    start: Any,
    adds: Any,
) -> Any:
    """flat[out : out + size] = start + Σ weights[at] · flat[(rows[at] + ahead) · width :], at from first to stop.

    With `adds`, what is there takes the place of `start`. flat, weights: 1-d arrays of one type, rows: int64.
    """
    element = flat.dtype
    signature = types.void(flat, weights, rows, *(types.intp,) * 6, element, types.boolean)

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        numbers, weight, row = (
            _data(context, builder, signature.args[place], arguments[place]) for place in range(3)
        )
        begin, end, target, length, shift, wide, bias, is_added = arguments[3:]

        def write(writer: _Writer, index: Any, count: int) -> None:
            here = builder.add(target, index)
            constant = writer.spread(bias)
            held = [builder.select(is_added, seen, constant) for seen in writer.load(numbers, here, count)]

            def tap(at: Any, sums: list[Any]) -> list[Any]:
                source = builder.mul(builder.add(builder.load(builder.gep(row, [at])), shift), wide)
                factor = writer.spread(builder.load(builder.gep(weight, [at])))
                seen = writer.load(numbers, builder.add(source, index), count)
                return [writer.add_product(value, factor, total) for value, total in zip(seen, sums)]

            writer.store(writer.loop(begin, end, held, tap), numbers, here)

        _pieces(builder, element, length, write)
        return context.get_dummy_value()

    return signature, build


@intrinsic
def leave_taps(
    typing_context: Any,
    states: Any,
    errors: Any,
    weights: Any,
    rows: Any,
    products: Any,
    first: Any,
    stop: Any,
    out: Any,
    size: Any,
    ahead: Any,
    width: Any,
) -> Any:
    """errors[out : out + size] += Σ weights[at] · errors[(rows[at] + ahead) · width :], and their products.

    products: (taps, LANES) from `first` on; the sum of a row of it grows by that of the products of the errors that the
    tap reads and states[out : out + size].
    """
    return types.void(states, errors, weights, rows, products, *(types.intp,) * 6), _Leaving(adds_errors=True)


@intrinsic
def multiply_taps(
    typing_context: Any,
    states: Any,
    errors: Any,
    weights: Any,
    rows: Any,
    products: Any,
    first: Any,
    stop: Any,
    out: Any,
    size: Any,
    ahead: Any,
    width: Any,
) -> Any:
    """As `leave_taps`, the products alone."""
    return types.void(states, errors, weights, rows, products, *(types.intp,) * 6), _Leaving(
        adds_errors=False
    )


class _Leaving:
    """Writes `leave_taps`, or the half of it that multiplies."""

    def __init__(self, *, adds_errors: bool) -> None:
        self.adds_errors = adds_errors

    def __call__(self, context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        state, error, weight, row, product = (
            _data(context, builder, signature.args[place], arguments[place]) for place in range(5)
        )
        begin, end, target, length, shift, wide = arguments[5:]
        apart = ir.Constant(INDEX, LANES)

        def write(writer: _Writer, index: Any, count: int) -> None:
            here = builder.add(target, index)
            mine = writer.load(state, here, count)
            held = writer.load(error, here, count) if self.adds_errors else []

            def tap(at: Any, sums: list[Any]) -> list[Any]:
                source = builder.mul(builder.add(builder.load(builder.gep(row, [at])), shift), wide)
                seen = writer.load(error, builder.add(source, index), count)
                writer.multiply(seen, mine, product, builder.mul(builder.sub(at, begin), apart))
                if not self.adds_errors:
                    return []
                factor = writer.spread(builder.load(builder.gep(weight, [at])))
                return [writer.add_product(value, factor, total) for value, total in zip(seen, sums)]

            sums = writer.loop(begin, end, held, tap)
            if self.adds_errors:
                writer.store(sums, error, here)

        _pieces(builder, signature.args[1].dtype, length, write)
        return context.get_dummy_value()
