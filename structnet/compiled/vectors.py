"""Loops over runs of numbers as vector instructions that are written out, because a compiler does it less well.

Left alone it reads and writes a run once for every few taps. Here some vectors of a run stay in registers while all
taps pass by: structnet.compiled.tap_sums.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import types

INDEX = ir.IntType(64)
HELD = (8, 4, 2, 1)  # vectors of a run that stay in registers: as many as fit what is left of it


def bytes_of_vector() -> int:
    """Of a vector register of this machine."""
    return 64 if llvm.get_host_cpu_features().get("avx512f") else 32


def _lanes(element: Any) -> int:
    """Numbers in a vector register: of float32 or float64."""
    return bytes_of_vector() // (4 if element == types.float32 else 8)


def _held(together: int) -> tuple[int, ...]:
    """Vectors of each of so many runs: half of the registers, of which there are 32 wide ones or 16, hold sums."""
    fewer = (4, 1) if bytes_of_vector() == 64 else (2, 1)
    return HELD if together == 1 else fewer


class Writer:
    """Writes loops over one run. flat, seen: addresses of vectors of numbers; kind: what they are vectors of."""

    def __init__(self, builder: Any, kind: ir.Type) -> None:
        self.builder, self.kind = builder, kind

    def number(self, value: int) -> ir.Constant:
        """A constant place or count."""
        return ir.Constant(INDEX, value)

    def load(self, pointer: Any, at: Any, count: int) -> list[Any]:
        """So many vectors from the place `at` on."""
        return [
            self.builder.load(place, align=self._align(pointer)) for place in self._places(pointer, at, count)
        ]

    def store(self, values: list[Any], pointer: Any, at: Any) -> None:
        """Vectors to the place `at` and those behind it."""
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


def kinds_of(element: Any) -> tuple[ir.Type, ir.Type]:
    """A number, and a vector of numbers."""
    scalar = ir.FloatType() if element == types.float32 else ir.DoubleType()
    return scalar, ir.VectorType(scalar, _lanes(element))


def pieces(
    builder: Any, element: Any, size: Any, write: Callable[[Writer, Any, int], None], together: int = 1
) -> None:
    """Calls `write` for all numbers of a run: for many vectors at once, for fewer, and then number by number."""
    (scalar, vector), at = kinds_of(element), ir.Constant(INDEX, 0)
    parts = [(vector, held, held * vector.count) for held in _held(together)]
    for kind, count, each in (*parts, (scalar, 1, 1)):
        writer = Writer(builder, kind)
        left = builder.sub(size, at)
        stop = builder.add(at, builder.mul(builder.sdiv(left, writer.number(each)), writer.number(each)))

        def body(index: Any, _: list[Any], writer: Writer = writer, count: int = count) -> list[Any]:
            write(writer, index, count)
            return []

        writer.loop(at, stop, [], body, each)
        at = stop


def data_of(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    """The address of the first number of an array of this type."""
    return context.make_array(kind)(context, builder, value).data
