"""How far convolutions of feature maps reach beyond their sources, for those who compute them with others' layers."""

from __future__ import annotations

from typing import NamedTuple

from structnet.network.architecture import Architecture, Side

Margins = tuple[tuple[int, int], tuple[int, int]]


class Padding(NamedTuple):
    """Of a link between maps.

    margins: above and below, left and right; negative where its windows end within the source. own: the padding, down
    and right, with which a convolution of others computes the same; None where sources have to be padded before.
    """

    margins: Margins
    own: Side | None


def padding_of(shape: Architecture, pair: tuple[int, int]) -> Padding:
    """Of the link from the first to the second group."""
    stride, start = shape.geometry(pair)
    reach, sides = shape.window // 2, [shape.sides[group] for group in pair]
    margins, own = [], []
    for step, first, size_in, size_out in zip(stride, start, *sides):
        before = reach - first
        margins.append((before, first + (size_out - 1) * step + reach - (size_in - 1)))
        # Others pad both ends alike, and leave out what does not make a whole step.
        steps = (size_in + 2 * before - shape.window) // step + 1
        own.append(before if before >= 0 and steps == size_out else None)
    down, right = own
    fits = None if down is None or right is None else (down, right)
    return Padding((margins[0], margins[1]), fits)
