"""Sums over taps with what they add to held in registers, each tap a load and a multiply-add: what a processor can do.

The same holds backward, where what leaves a run gives it its error, and by the same loads the gradient of every tap.
Runs that read the same rows, as those of a link do of which every tap exists, go together: what is loaded for one is
used for all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import types

from structnet.compiled.functions import intrinsic
from structnet.compiled.vectors import INDEX, Writer, bytes_of_vector, data_of, kinds_of, pieces

LANES = 16  # numbers of a row of products: those of the widest vector
TOGETHER = 4  # runs, or places, that go together


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
        bias, is_added = arguments[9:]

        def begin(writer: Writer, seen: list[Any]) -> list[Any]:
            constant = writer.spread(bias)
            return [builder.select(is_added, value, constant) for value in seen]

        _write_sums(context, builder, signature, arguments, [ir.Constant(INDEX, 0)], begin)
        return context.get_dummy_value()

    return signature, build


@intrinsic
def add_taps_together(
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
    apart: Any,
) -> Any:
    """As `sum_taps` with `adds`, of TOGETHER runs that read the same rows, each loaded once for all of them.

    The next begins `apart` rows behind the one before, and its weights are behind those of it.
    """

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        step = builder.mul(arguments[9], arguments[8])
        starts = [builder.mul(ir.Constant(INDEX, number), step) for number in range(TOGETHER)]
        _write_sums(context, builder, signature, arguments, starts, lambda _, seen: seen)
        return context.get_dummy_value()

    return types.void(flat, weights, rows, *(types.intp,) * 7), build


def _write_sums(
    context: Any,
    builder: Any,
    signature: Any,
    arguments: Any,
    starts: list[Any],
    begin: Callable[[Writer, list[Any]], list[Any]],
) -> None:
    """Writes `sum_taps` for runs that begin at these numbers behind its `out`. begin: of what lies there."""
    numbers, weight, row = (
        data_of(context, builder, signature.args[place], arguments[place]) for place in range(3)
    )
    first, stop, target, length, shift, wide = arguments[3:9]
    taps = builder.sub(stop, first)
    behind = [builder.mul(ir.Constant(INDEX, number), taps) for number in range(len(starts))]

    def write(writer: Writer, index: Any, count: int) -> None:
        places = [builder.add(builder.add(target, start), index) for start in starts]
        held = [value for here in places for value in begin(writer, writer.load(numbers, here, count))]

        def tap(at: Any, sums: list[Any]) -> list[Any]:
            source = builder.mul(builder.add(builder.load(builder.gep(row, [at])), shift), wide)
            seen, found = writer.load(numbers, builder.add(source, index), count), []
            for number, offset in enumerate(behind):
                factor = writer.spread(builder.load(builder.gep(weight, [builder.add(at, offset)])))
                mine = sums[number * count : (number + 1) * count]
                found += [writer.add_product(value, factor, total) for value, total in zip(seen, mine)]
            return found

        sums = writer.loop(first, stop, held, tap)
        for number, here in enumerate(places):
            writer.store(sums[number * count : (number + 1) * count], numbers, here)

    pieces(builder, signature.args[0].dtype, length, write, len(starts))


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
            data_of(context, builder, signature.args[place], arguments[place]) for place in range(5)
        )
        begin, end, target, length, shift, wide = arguments[5:]
        apart = ir.Constant(INDEX, LANES)

        def write(writer: Writer, index: Any, count: int) -> None:
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

        pieces(builder, signature.args[1].dtype, length, write)
        return context.get_dummy_value()


@intrinsic
def multiply_taps_together(
    typing_context: Any,
    states: Any,
    errors: Any,
    rows: Any,
    products: Any,
    first: Any,
    stop: Any,
    out: Any,
    size: Any,
    ahead: Any,
    width: Any,
    apart: Any,
) -> Any:
    """As `multiply_taps`, of TOGETHER places that the same rows read, one `apart` rows behind the other.

    products: of all taps of the first place, then of the second, and so on.
    """
    return types.void(states, errors, rows, products, *(types.intp,) * 7), _write_products


def _write_products(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """Blocks of some places × some taps: what is loaded for one is used for all of the others."""
    state, error, row, product = (
        data_of(context, builder, signature.args[place], arguments[place]) for place in range(4)
    )
    first, stop, target, size, ahead, wide, apart = arguments[4:]
    scalar, vector = kinds_of(signature.args[0].dtype)
    outer, taps, step = Writer(builder, scalar), builder.sub(stop, first), builder.mul(apart, wide)
    vectors = builder.sub(size, builder.srem(size, outer.number(vector.count)))
    places = min(TOGETHER, bytes_of_vector() // 16)

    def write(kind: ir.Type, begin: Any, end: Any, mine: list[Any], seen: list[Any], into: list[Any]) -> None:
        writer = Writer(builder, kind)

        def run(index: Any, sums: list[Any]) -> list[Any]:
            left = [writer.load(state, builder.add(here, index), 1)[0] for here in mine]
            right = [writer.load(error, builder.add(here, index), 1)[0] for here in seen]
            pairs = [(value, other) for value in left for other in right]
            return [writer.add_product(*pair, total) for pair, total in zip(pairs, sums)]

        each = vector.count if kind is vector else 1
        held = [writer.load(product, here, 1)[0] for here in into]
        for here, total in zip(into, writer.loop(begin, end, held, run, each)):
            writer.store([total], product, here)

    def block(at: Any, begin: int, count: int) -> None:
        """The products of the places from `begin` on and so many taps from `at` on."""
        mine = [
            builder.add(target, builder.mul(outer.number(begin + place), step)) for place in range(places)
        ]
        seen = []
        for tap in range(count):
            source = builder.load(builder.gep(row, [builder.add(at, outer.number(tap))]))
            seen.append(builder.mul(builder.add(source, ahead), wide))
        offset = builder.sub(at, first)
        into = [
            builder.mul(
                builder.add(
                    builder.mul(outer.number(begin + place), taps), builder.add(offset, outer.number(tap))
                ),
                outer.number(LANES),
            )
            for place in range(places)
            for tap in range(count)
        ]
        write(vector, outer.number(0), vectors, mine, seen, into)
        with builder.if_then(builder.icmp_signed("<", vectors, size)):
            write(scalar, vectors, size, mine, seen, into)

    begin = first
    for count in (4, 1):
        rest = builder.srem(builder.sub(stop, begin), outer.number(count))
        end = builder.sub(stop, rest)

        def blocks(at: Any, _: list[Any], count: int = count) -> list[Any]:
            for place in range(0, TOGETHER, places):
                block(at, place, count)
            return []

        outer.loop(begin, end, [], blocks, count)
        begin = end
    return context.get_dummy_value()
