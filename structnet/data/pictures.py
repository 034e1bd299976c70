"""Pictures, encoded one by one, as arrays of pixels.

Nothing is scaled here. Every problem of a picture is a UserError that names it.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from structnet.data.rows import first_line
from structnet.errors import UserError

IMAGE_COLUMNS = ("image", "img")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")

# Formats that are decoded inside the process; others may call a program (EPS) or hold many images (TIFF).
_IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
_PIXELS_WORTH_THREADS = 128 * 128
_GREY_MODES = {"1", "L", "LA", "La"}
_COLOUR_MODES = {"P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"}


def image_column(rows: pa.Table) -> str | None:
    """The column in the Hugging Face image layout (a struct with `bytes`), or None."""
    for name in IMAGE_COLUMNS:
        if name in rows.column_names and pa.types.is_struct(rows.schema.field(name).type):
            kind = rows.schema.field(name).type
            at = kind.get_field_index("bytes")
            if at >= 0 and (pa.types.is_binary(kind[at].type) or pa.types.is_large_binary(kind[at].type)):
                return name
    return None


class ImageSource(NamedTuple):
    """`size` encoded images: `read(i)` gives one's bytes (None when missing), `name(i)` says where it is."""

    size: int
    read: Callable[[int], bytes | None]
    name: Callable[[int], str]


def images_of_rows(rows: pa.Table, column: str, path: Path) -> ImageSource:
    """The images in a column of structs of bytes and path; path: of the table, for messages."""
    data = pc.struct_field(rows[column], "bytes")
    return ImageSource(rows.num_rows, lambda i: data[i].as_py(), lambda i: f"row {i} of {path}")


def images_of_files(files: Sequence[Path]) -> ImageSource:
    """The images in these files, in their order."""
    return ImageSource(len(files), lambda i: files[i].read_bytes(), lambda i: str(files[i]))


def decode_images(source: ImageSource, channels: int | None = None) -> np.ndarray:
    """Decodes all images to uint8 (n, channels, height, width).

    `channels` 1 is greyscale, 3 is RGB, and every image is converted to that; None takes 1 if all images are
    grey and 3 otherwise. Raises UserError when an image is missing, damaged, has more than 8 bits, or has
    another size than the first.
    """
    first = _decode_one(source, 0, 3, None)
    assert first is not None
    size = first.shape[:2]
    if channels is None:
        pixels = _decode(source, 1, size, grey_only=True)
        if pixels is not None:
            return pixels
    pixels = _decode(source, channels or 3, size, grey_only=False)
    assert pixels is not None
    return pixels


def _decode(source: ImageSource, channels: int, size: tuple[int, ...], grey_only: bool) -> np.ndarray | None:
    """None when an image is in colour and `grey_only`."""
    pixels = np.empty((source.size, channels, *size), np.uint8)

    def decode_range(start: int, stop: int) -> bool:
        for i in range(start, stop):
            image = _decode_one(source, i, channels, size, grey_only)
            if image is None:
                return False
            pixels[i] = image if channels == 1 else image.transpose(2, 0, 1)
        return True

    # Only the decoding of large images is worth threads: on small ones they wait for each other's Python.
    if size[0] * size[1] < _PIXELS_WORTH_THREADS:
        return pixels if decode_range(0, source.size) else None
    starts = range(0, source.size, 64)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        jobs = [pool.submit(decode_range, at, min(at + 64, source.size)) for at in starts]
        try:
            return pixels if all(job.result() for job in jobs) else None
        finally:
            for job in jobs:
                job.cancel()


def _decode_one(
    source: ImageSource, i: int, channels: int, size: tuple[int, ...] | None, grey_only: bool = False
) -> np.ndarray | None:
    """One image as uint8 (height, width) or (height, width, 3); None when it is in colour and `grey_only`."""
    from PIL import Image

    data = source.read(i)
    if data is None:
        raise UserError(f"{source.name(i)} has no image bytes: store the image itself, not only its path")
    try:
        with Image.open(io.BytesIO(data), formats=_IMAGE_FORMATS) as image:
            if grey_only and image.mode not in _GREY_MODES:
                return None
            _check_image(image.mode, (image.height, image.width), size, source.name(i))
            return np.asarray(image.convert("L" if channels == 1 else "RGB"))
    except UserError:
        raise
    except Exception as error:  # damaged data makes decoders raise nearly anything
        unknown = type(error).__name__ == "UnidentifiedImageError"
        reason = f"it is none of {', '.join(_IMAGE_FORMATS)}" if unknown else first_line(error)
        raise UserError(
            f"{source.name(i)} is not a readable image ({reason}): replace or remove it"
        ) from error


def _check_image(mode: str, size: tuple[int, int], expected: tuple[int, ...] | None, name: str) -> None:
    if mode not in _GREY_MODES | _COLOUR_MODES:
        raise UserError(f"{name} is an image of mode {mode}, but must have 8 bits per channel: convert it")
    if expected is not None and size != expected:
        raise UserError(
            f"{name} is an image of {size[0]}×{size[1]} pixels, but the first is "
            f"{expected[0]}×{expected[1]}: bring all images to one size"
        )
