"""Pictures, in files or in rows of a table, as one array of pixels. Nothing is scaled here.

Every problem of a picture is a UserError that names it.
"""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from structnet.data.decoding import decode_picture, picture_suffixes
from structnet.errors import UserError

IMAGE_COLUMNS = ("image", "img")

_MOST_BYTES = 2**27  # of a file
_IN_A_JOB = 16
_KINDS = {stat.S_IFDIR: "folder", stat.S_IFIFO: "named pipe", stat.S_IFSOCK: "socket"}


def image_column(rows: pa.Table) -> str | None:
    """The column in the Hugging Face image layout (a struct with `bytes`), or None."""
    for name in IMAGE_COLUMNS:
        if name in rows.column_names and pa.types.is_struct(rows.schema.field(name).type):
            kind = rows.schema.field(name).type
            at = kind.get_field_index("bytes")
            if at >= 0 and (pa.types.is_binary(kind[at].type) or pa.types.is_large_binary(kind[at].type)):
                return name
    return None


def is_picture(file: Path) -> bool:
    """Whether a file has the name of a picture that can be read."""
    return file.suffix.lower() in picture_suffixes()


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
    return ImageSource(len(files), lambda i: _bytes_of(files[i]), lambda i: shown_path(files[i]))


def shown_path(path: Path) -> str:
    """A path on one line, also where its name has control characters or bytes that are no text."""
    text = str(path)
    return text if text.isprintable() else repr(text)[1:-1]


def _bytes_of(file: Path) -> bytes:
    """Raises UserError for what is no regular file, is too large, or cannot be read."""
    try:
        kind = stat.S_IFMT(file.stat().st_mode)
        if kind != stat.S_IFREG:
            raise UserError(
                f"{shown_path(file)} is no image but a {_KINDS.get(kind, 'device')}: remove it, or name another file"
            )
        # Not to wait for a writer where the file has become a pipe meanwhile.
        with os.fdopen(os.open(file, os.O_RDONLY | os.O_NONBLOCK), "rb") as opened:
            data = opened.read(_MOST_BYTES + 1)
    except OSError as error:
        raise UserError(
            f"{shown_path(file)} cannot be read ({error.strerror}): make it readable, or remove it"
        ) from error
    if len(data) > _MOST_BYTES:
        raise UserError(
            f"{shown_path(file)} has more than {_MOST_BYTES:,} bytes, but may have no more: shrink or remove it"
        )
    return data


def decode_images(
    source: ImageSource, channels: int | None = None, size: tuple[int, int] | None = None
) -> np.ndarray:
    """All images as uint8 (n, channels, height, width), as an image viewer shows them (structnet.data.decoding).

    channels: 1 is greyscale, 3 is RGB, and every image is converted to that; None takes 1 if all images are grey,
    and 3 otherwise. size: (height, width) that every image is resampled to, stretched where its aspect differs; None
    takes images of one size only.
    Raises UserError when an image is missing, damaged, or has another size than the first.
    """
    if size is not None and min(size) < 1:
        raise UserError(
            f"size is {size[0]}×{size[1]}, but must be at least 1×1: it is the height and width of images"
        )
    from PIL import Image

    with warnings.catch_warnings():  # Pillow remarks on files that it reads all the same
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        first = _decode_one(source, 0, channels, size)
        if channels is None and first.ndim == 2:
            pixels = _decode(source, None, size, first.shape)
            if pixels is not None:
                return pixels
        pixels = _decode(source, channels or 3, size, first.shape)
    assert pixels is not None
    return pixels


def _decode(
    source: ImageSource, channels: int | None, size: tuple[int, int] | None, shape: tuple[int, ...]
) -> np.ndarray | None:
    """With channels None all images in grey, or None if one has colours. shape: of the first image."""
    height, width = shape[:2]
    try:
        pixels = np.empty((source.size, channels or 1, height, width), np.uint8)
    except MemoryError as error:
        raise UserError(
            f"{source.size:,} images of {height}×{width} pixels do not fit into the memory: "
            "give --size to make them smaller"
        ) from error

    def decode_range(start: int, stop: int) -> bool:
        for i in range(start, stop):
            image = _decode_one(source, i, channels, size)
            if channels is None and image.ndim == 3:
                return False
            if image.shape[:2] != (height, width):
                raise UserError(
                    f"{source.name(i)} is an image of {image.shape[0]}×{image.shape[1]} pixels, but the first is "
                    f"{height}×{width} ({source.name(0)}): give --size to bring all images to one size"
                )
            pixels[i] = image if image.ndim == 2 else image.transpose(2, 0, 1)
        return True

    starts = range(0, source.size, _IN_A_JOB)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        jobs = [pool.submit(decode_range, at, min(at + _IN_A_JOB, source.size)) for at in starts]
        try:
            return pixels if all(job.result() for job in jobs) else None
        finally:
            for job in jobs:
                job.cancel()


def _decode_one(
    source: ImageSource, i: int, channels: int | None, size: tuple[int, int] | None
) -> np.ndarray:
    data = source.read(i)
    if data is None:
        raise UserError(f"{source.name(i)} has no image bytes: store the image itself, not only its path")
    return decode_picture(data, source.name(i), channels, size)
