"""One encoded picture as pixels, as an image viewer shows it.

Turned as its EXIF data say, on white where it is transparent, in the colours of its palette, and scaled to 8 bits: 16
bits by their full scale, 32 bits by theirs, real numbers from 0 (black) to 1 (white). Of an animation the first frame
counts. Colour profiles are not applied.

What a file says of itself is believed within limits only, so that none takes a gigabyte of memory.
"""

from __future__ import annotations

import io
import logging
import threading
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from structnet.data.rows import first_line
from structnet.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

MOST_PIXELS = 25_000_000  # JPEG 2000 takes 25 bytes for each
MOST_ON_A_SIDE = 30_000

# EPS calls Ghostscript, WMF draws with the system, IPTC opens whatever it holds, an EPS too; the next four only tell
# their type. FITS makes a Python number of every byte. Nothing that is left calls a program or reads over the net.
_LEFT_OUT = frozenset({"EPS", "WMF", "IPTC", "MPEG", "BUFR", "GRIB", "HDF5", "FITS"})
# Tried first: some of the others take nearly anything for theirs.
_COMMON = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF")
# Shrinking begins with means of blocks of pixels, or inside JPEG, which then decodes no more than that, down to this
# many times the size that is asked for: much faster, and close to one step.
_GAP = 3
# Larger pictures are decoded one at a time: a thread needs little memory otherwise, and one may need much.
_ONE_AT_A_TIME = 4_000_000
_one_large = threading.Lock()

_ORIENTATION = 0x0112
_TURNS = {  # EXIF orientation -> the transposition that undoes it
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
_BITS, _PHOTOMETRIC, _NUMBERS = 258, 262, 339  # tags of TIFF
_WHITE_IS_ZERO, _SIGNED = 0, 2


@cache
def picture_formats() -> tuple[str, ...]:
    """The formats that are read, in Pillow's names: all that it knows but the unsafe ones."""
    from PIL import Image

    Image.init()
    # Pillow complains to the terminal of some files, beside the error that names them.
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    known = [name for name in dict.fromkeys((*_COMMON, *Image.ID)) if name in Image.OPEN]
    return tuple(name for name in known if name not in _LEFT_OUT)


@cache
def picture_suffixes() -> frozenset[str]:
    """The endings of their files, in small letters, with the dot."""
    from PIL import Image

    known = {*picture_formats(), "MPO"}  # several JPEG in one file, read as the first of them
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in known)


def decode_picture(
    data: bytes, name: str, channels: int | None = None, size: tuple[int, int] | None = None
) -> np.ndarray:
    """A picture as uint8 (height, width) if it is grey, or (height, width, 3).

    channels: with 1 it is made grey by its luminance (ITU-R BT.601); with None it is grey where red, green and blue
    are alike in every pixel, however it is stored. size: (height, width) that it is resampled to, stretched where the
    aspect differs, by the filter of Lanczos with three lobes (Duchon 1979), which covers all pixels when it shrinks.
    name: where the picture is, for messages.
    Raises UserError for what is no picture, is damaged or too large, or has numbers that no viewer could show.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data), formats=picture_formats()) as image:
            if max(image.size) > MOST_ON_A_SIDE:
                raise _too_large(name, f"{image.height:,}×{image.width:,}")
            if size is not None:
                image.draft(None, (_GAP * max(size), _GAP * max(size)))
            pixels = image.height * image.width
            if pixels > MOST_PIXELS:
                raise _too_large(name, f"{image.height:,}×{image.width:,}")
            if pixels <= _ONE_AT_A_TIME:
                return _decoded(image, name, channels, size)
            with _one_large:
                return _decoded(image, name, channels, size)
    except UserError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(name, f"far more than {MOST_PIXELS:,}") from error
    except Exception as error:  # damaged data makes decoders raise nearly anything
        reason = _not_read(data) if isinstance(error, UnidentifiedImageError) else first_line(error)
        raise UserError(f"{name} is not a readable image ({reason}): replace or remove it") from error


def _too_large(name: str, pixels: str) -> UserError:
    return UserError(
        f"{name} is an image of {pixels} pixels, but may have at most {MOST_PIXELS:,}, and {MOST_ON_A_SIDE:,} on a "
        "side: shrink it, or remove it if it is damaged"
    )


def _not_read(data: bytes) -> str:
    if not data:
        return "it is empty"
    if data.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS, and the file itself was not fetched"
    return f"it is none of {', '.join(_COMMON)} or another format, in a form that Pillow reads"


def _decoded(image: Image.Image, name: str, channels: int | None, size: tuple[int, int] | None) -> np.ndarray:
    from PIL import Image

    shown = _turned(image, _shown(image, name))
    if channels == 1 and shown.mode != "L":
        shown = shown.convert("L")
    if size is not None and shown.size != size[::-1]:
        shown = shown.resize(size[::-1], Image.Resampling.LANCZOS, reducing_gap=_GAP)
    pixels = np.asarray(shown)
    if channels is None and pixels.ndim == 3 and (pixels == pixels[:, :, :1]).all():
        return pixels[:, :, 0]
    return pixels


def _shown(image: Image.Image, name: str) -> Image.Image:
    """Of mode L or RGB, not turned yet."""
    from PIL import Image

    image.load()
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(_in_8_bits(image, name))
    if not image.has_transparency_data:
        mode = "L" if image.mode in ("1", "L") else "RGB"
        return image if image.mode == mode else image.convert(mode)
    clear = image.info.get("transparency")
    if isinstance(clear, tuple) and max(clear) > 255:  # Pillow halves the bits of the pixels, but not of this
        image.info["transparency"] = tuple(value >> 8 for value in clear)
    pixels = image if image.mode == "RGBA" else image.convert("RGBA")
    shown = Image.new("RGB", image.size, "white")
    shown.paste(pixels, mask=pixels)
    return shown


def _in_8_bits(image: Image.Image, name: str) -> np.ndarray:
    """Grey of more than 8 bits as uint8 (height, width)."""
    tags: Any = getattr(image, "tag_v2", {})
    white, slack, values = 65_535.0, 0.0, np.asarray(image)
    if image.mode == "F":
        white, slack = 1.0, 0.001
    elif _BITS in tags:
        is_signed = _first(tags.get(_NUMBERS, 1)) == _SIGNED
        white = 2.0 ** (_first(tags[_BITS]) - is_signed) - 1
        if values.dtype == np.int32 and not is_signed:
            values = values.view(np.uint32)
    low, high = float(values.min()), float(values.max())
    if not -slack <= low <= high <= white + slack:  # NaN is not either
        raise UserError(
            f"{name} is an image of numbers from {low:g} to {high:g}, but they must be from 0 (black) to {white:g} "
            "(white): scale them, or save it with 8 or 16 bits"
        )
    if white > 65_535 and 0 < high < white / 510:
        raise UserError(
            f"{name} is an image of numbers up to {high:g}, all black where {white:g} is white: save it with 16 bits"
        )
    scaled = values.astype(np.float32)
    scaled *= np.float32(255 / white)
    pixels = np.clip(np.rint(scaled, out=scaled), 0, 255, out=scaled).astype(np.uint8)
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        pixels = 255 - pixels
    if isinstance(clear := image.info.get("transparency"), int):
        pixels[values == clear] = 255
    return pixels


def _first(tag: Any) -> int:
    return int(tag[0] if isinstance(tag, tuple) else tag)


def _turned(image: Image.Image, shown: Image.Image) -> Image.Image:
    """What is shown of an image, turned as the image says."""
    from PIL import Image

    try:
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # notes of a camera that are damaged do not spoil its picture
        return shown
    return shown.transpose(Image.Transpose[turn]) if turn else shown
