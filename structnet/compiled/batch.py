"""Batches for compiled steps: images of a dataset, shifted, scaled, turned to features × batch, and with noise.

Images stay as they are stored, eight bits a pixel where they are pictures.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types

from structnet.compiled.arrays import Images, Noise
from structnet.compiled.compiler import compiled, part
from structnet.compiled.functions import intrinsic
from structnet.compiled.noise import Dropped, drop, key_of_step, mixed


@part
def fill_block(
    images: Images, noise: Noise, order: np.ndarray, begin: int, count: int, step: int, inputs: np.ndarray
) -> np.ndarray:
    """Fills (features, width) with images begin … begin + count of a batch; returns their labels.

    order: (batch,) positions in the dataset.
    """
    key = key_of_step(noise, step)
    labels = np.empty(count, dtype=np.int64)
    for image in range(count):
        labels[image] = images.labels[order[begin + image]]
    if images.pixels.size:
        _fill_from_pixels(images, noise, key, order, begin, count, inputs)
    else:
        _fill_from_numbers(images, noise, key, order, begin, count, inputs)
    if noise.input_dropout > 0:
        drop(inputs, images.used, Dropped(noise.input_dropout, key, begin), count)
    return labels


@part
def _fill_from_pixels(
    images: Images,
    noise: Noise,
    key: np.uint64,
    order: np.ndarray,
    begin: int,
    count: int,
    inputs: np.ndarray,
) -> None:
    wide, high = (images.pixels.shape[1] + 15) // 16 * 16, (count + 15) // 16 * 16
    rows, turned = np.empty((high, wide), dtype=np.uint8), np.empty((wide, high), dtype=np.uint8)
    for image in range(count):
        _copy_image(images.pixels[order[begin + image]], rows[image], images.shape, noise, key, begin + image)
    last = -1
    for feature in images.used:
        if feature // 16 != last:
            last = feature // 16
            for first in range(0, high, 16):
                source = rows.ctypes.data + first * wide + last * 16
                _turn_sixteen(source, wide, turned.ctypes.data + last * 16 * high + first, high)
    for feature in images.used:
        factor, start, row, out = (
            images.factor[feature],
            images.start[feature],
            turned[feature],
            inputs[feature],
        )
        for image in range(count):
            out[image] = row[image] * factor + start


@part
def _fill_from_numbers(
    images: Images,
    noise: Noise,
    key: np.uint64,
    order: np.ndarray,
    begin: int,
    count: int,
    inputs: np.ndarray,
) -> None:
    moved = np.empty(images.numbers.shape[1], dtype=images.numbers.dtype)
    for image in range(count):
        row = images.numbers[order[begin + image]]
        if noise.shift or noise.flip:
            _copy_image(row, moved, images.shape, noise, key, begin + image)
            row = moved
        for feature in images.used:
            inputs[feature, image] = row[feature]


@part
def _copy_image(
    image: np.ndarray, out: np.ndarray, shape: np.ndarray, noise: Noise, key: np.uint64, position: int
) -> None:
    """An image, moved and turned left to right as the key and its position in the batch say; 0 moves in."""
    reach = noise.shift
    if reach == 0 and not noise.flip:
        for feature in range(len(image)):
            out[feature] = image[feature]
        return
    bits = mixed(key + np.uint64(2**63) + np.uint64(position))
    places = np.uint64(2 * reach + 1)
    down = np.int64((bits >> np.uint64(33)) % places) - reach
    right = np.int64(((bits >> np.uint64(2)) & np.uint64(0x7FFFFFFF)) % places) - reach
    channels, height, width = shape[0], shape[1], shape[2]
    area, ahead = height * width, down * width + right
    for channel in range(0, channels * area, area):
        # One copy that is right but for what runs over the left or right edge, and then these columns.
        first = min(area, max(0, -ahead))
        last = max(first, min(area, area - ahead))
        for place in range(channel, channel + area):
            out[place] = image.dtype.type(0)
        here, there = (
            out[channel + first : channel + last],
            image[channel + first + ahead : channel + last + ahead],
        )
        for place in range(len(here)):
            here[place] = there[place]
        for x in range(max(0, width - right) if right > 0 else 0, width if right > 0 else min(width, -right)):
            for place in range(channel + x, channel + area, width):
                out[place] = image.dtype.type(0)
    if noise.flip and bits & np.uint64(1):
        _flip(out[: channels * area].reshape((channels * height, width)))


@part
def _flip(rows: np.ndarray) -> None:
    """Turns every row, (rows, width), round."""
    width = rows.shape[1]
    for row in rows:
        for x in range(width // 2):
            row[x], row[width - 1 - x] = row[width - 1 - x], row[x]


@intrinsic
def _turn_sixteen(typing_context: Any, source: Any, apart: Any, target: Any, target_apart: Any) -> Any:
    """Turns 16 × 16 bytes: rows at the address `source`, so many bytes apart, become columns at `target`.

    Four rounds of interleaving each row of the upper half with one of the lower.
    """

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place, step, out, out_step = arguments
        pointer = ir.VectorType(ir.IntType(8), 16).as_pointer()
        rows = []
        for _ in range(16):
            rows.append(builder.load(builder.inttoptr(place, pointer), align=1))
            place = builder.add(place, step)
        halves = [
            ir.Constant(
                ir.VectorType(ir.IntType(32), 16), [first + lane // 2 + 16 * (lane % 2) for lane in range(16)]
            )
            for first in (0, 8)
        ]
        for _ in range(4):
            rows = [
                builder.shuffle_vector(rows[row], rows[row + 8], half) for row in range(8) for half in halves
            ]
        for row in rows:
            builder.store(row, builder.inttoptr(out, pointer), align=1)
            out = builder.add(out, out_step)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp, types.intp), build


@compiled
def make_batch(images: Images, noise: Noise, order: np.ndarray, step: int, inputs: np.ndarray) -> np.ndarray:
    """One whole batch, as `fill_block` makes its blocks: fills (features, batch) and returns the labels."""
    return fill_block(images, noise, order, 0, len(order), step, inputs)
