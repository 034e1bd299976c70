"""Pictures are read as an image viewer shows them, whatever form they are stored in."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from structnet.data.decoding import decode_picture, picture_formats, picture_suffixes
from structnet.data.pictures import decode_images, images_of_files, images_of_rows, is_picture
from structnet.errors import UserError

COLOURS = np.random.default_rng(0).integers(0, 256, (6, 4, 3), dtype=np.uint8)
GREYS = np.array([[0, 90, 255], [17, 128, 200]], np.uint8)
RED, WHITE = [255, 0, 0], [255, 255, 255]


def encoded(pixels: np.ndarray | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_of(width: int, depth: int, kind: int, row: bytes, **chunks: bytes) -> bytes:
    """A PNG of one row, with what Pillow does not write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, 1, depth, kind, 0, 0, 0))
    more = b"".join(chunk(name.encode(), data) for name, data in chunks.items())
    return (
        b"\x89PNG\r\n\x1a\n"
        + header
        + more
        + chunk(b"IDAT", zlib.compress(b"\0" + row))
        + chunk(b"IEND", b"")
    )


def tiff_of(numbers: np.ndarray, photometric: int = 1, kind: int = 1, bits: int | None = None) -> bytes:
    """An uncompressed grey TIFF; photometric 0: zero is white. kind: 1 unsigned, 2 signed, 3 real numbers."""
    data, (height, width) = numbers.tobytes(), numbers.shape
    tags = {
        256: width,
        257: height,
        258: bits or 8 * numbers.itemsize,
        259: 1,
        262: photometric,
        273: 8,
        277: 1,
    }
    tags |= {278: height, 279: len(data), 339: kind}
    entries = b"".join(struct.pack("<HHII", tag, 3, 1, value) for tag, value in tags.items())
    return (
        b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + bytes(4)
    )


def one(data: bytes, **options: Any) -> list[Any]:
    pixels: list[Any] = decode_picture(data, "x.png", **options).tolist()
    return pixels


# Formats

EXACT = {
    **{
        kind: {}
        for kind in ["PNG", "GIF", "BMP", "DIB", "ICO", "PPM", "TGA", "PCX", "QOI", "SGI", "DDS", "TIFF"]
    },
    "WEBP": {"lossless": True},
    "JPEG2000": {"irreversible": False},
}
CLOSE = {"JPEG": {"quality": 100, "subsampling": 0}, "AVIF": {"quality": 100, "subsampling": "4:4:4"}}


@pytest.mark.parametrize("kind", [*EXACT, *CLOSE])
@pytest.mark.parametrize("grey", [False, True], ids=["colour", "grey"])
def test_every_format_is_read(kind: str, grey: bool) -> None:
    if kind not in picture_formats() or kind not in Image.SAVE:
        pytest.skip(f"this Pillow has no {kind}")
    pixels = np.repeat(COLOURS[:, :, :1], 3, axis=2) if grey else COLOURS
    found = decode_picture(encoded(pixels, kind, **(EXACT | CLOSE)[kind]), "x", channels=3)
    found = np.stack([found] * 3, axis=2) if found.ndim == 2 else found
    assert found.shape == pixels.shape
    assert abs(found.astype(int) - pixels).max() <= (0 if kind in EXACT else 4)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_compressed_tiff_is_read(compression: str) -> None:
    assert one(encoded(COLOURS, "TIFF", compression=compression)) == COLOURS.tolist()


def test_what_pillow_reads_is_read_but_nothing_that_runs_a_program() -> None:
    left_out = {"EPS", "WMF", "IPTC", "MPEG", "BUFR", "GRIB", "HDF5", "FITS"}
    assert set(picture_formats()) == set(Image.OPEN) - left_out
    suffixes = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".tif", ".tiff", ".bmp", ".jp2", ".mpo", ".ppm"}
    assert suffixes <= picture_suffixes()
    assert not {".eps", ".ps", ".wmf", ".emf", ".mpg", ".h5", ".pdf", ".svg", ".txt", ""} & picture_suffixes()
    assert is_picture(Path("A.PNG")) and not is_picture(Path("png"))
    with pytest.raises(UserError, match=r"x\.png is not a readable image"):
        one(encoded(Image.fromarray(COLOURS), "EPS"))


def test_the_content_counts_and_not_the_name(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(COLOURS, "BMP"))
    assert (
        decode_images(images_of_files([tmp_path / "a.png"]))[0].tolist()
        == COLOURS.transpose(2, 0, 1).tolist()
    )


# Orientation


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """As a camera stores a picture with this tag (EXIF 2.3): where the first row and column of the file belong."""
    flips: dict[int, Callable[[np.ndarray], np.ndarray]] = {
        1: lambda p: p,
        2: lambda p: p[:, ::-1],
        3: lambda p: p[::-1, ::-1],
        4: lambda p: p[::-1],
        5: lambda p: p.swapaxes(0, 1),
        6: lambda p: np.rot90(p),
        7: lambda p: p[::-1, ::-1].swapaxes(0, 1),
        8: lambda p: np.rot90(p, -1),
    }
    return np.ascontiguousarray(flips[orientation](pixels))


def tag(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data: bytes = exif.tobytes()
    return data


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})])
def test_a_picture_is_turned_as_it_says(orientation: int, kind: str, options: dict[str, Any]) -> None:
    stored = encoded(turned(COLOURS, orientation), kind, exif=tag(orientation), **options)
    assert one(stored) == COLOURS.tolist()
    assert one(stored, size=(6, 4)) == COLOURS.tolist()


def test_turned_photographs_are_those_that_were_held_upright() -> None:
    rng = np.random.default_rng(1)
    upright = [
        np.kron(rng.integers(0, 256, (2, 2), dtype=np.uint8), np.ones((8, 8), np.uint8)) for _ in range(20)
    ]
    photographs = [
        encoded(turned(pixels, orientation), "JPEG", quality=95, exif=tag(orientation))
        for pixels, orientation in zip(upright, [1, 6] * 10)
    ]
    column = pa.array([{"bytes": data, "path": None} for data in photographs])
    found = decode_images(images_of_rows(pa.table({"image": column}), "image", Path("x")))
    assert abs(found[:, 0].astype(int) - np.stack(upright)).max() <= 2


def test_damaged_notes_of_a_camera_do_not_spoil_the_picture() -> None:
    data = encoded(COLOURS, "PNG", exif=b"Exif\0\0" + b"MM\0*\xff\xff\xff\xff\xff")
    assert one(data) == COLOURS.tolist()


# Transparency, palettes, colours


def test_what_is_transparent_is_white() -> None:
    clear, half = [10, 20, 30, 0], [0, 100, 255, 128]
    assert one(encoded(np.array([[clear, half, [1, 2, 3, 255]]], np.uint8))) == [
        [WHITE, [127, 177, 255], [1, 2, 3]]
    ]
    grey = Image.fromarray(np.array([[[9, 0], [100, 128], [9, 255]]], np.uint8))
    assert grey.mode == "LA"
    assert one(encoded(grey)) == [[255, 177, 9]]
    keyed = {"tRNS": struct.pack(">HHH", 255, 0, 0)}
    assert one(png_of(2, 8, 2, bytes([*RED, 0, 255, 0]), **keyed)) == [[WHITE, [0, 255, 0]]]
    assert one(png_of(3, 8, 0, bytes([0, 64, 9]), tRNS=b"\0\0")) == [[255, 64, 9]]
    assert one(png_of(3, 1, 0, b"\x60", tRNS=b"\0\0")) == [[255, 255, 255]]
    assert one(png_of(2, 16, 0, struct.pack(">2H", 7, 257), tRNS=struct.pack(">H", 7))) == [[255, 1]]
    deep = struct.pack(">6H", 0x6400, 0, 0, 0, 65535, 0)
    assert one(png_of(2, 16, 2, deep, tRNS=struct.pack(">HHH", 0x6400, 0, 0))) == [[WHITE, [0, 255, 0]]]
    assert one(png_of(2, 16, 4, struct.pack(">4H", 0, 65535, 0, 0))) == [[0, 255]]
    for kind in ("GIF", "WEBP", "ICO", "TIFF"):
        assert one(encoded(Image.new("RGBA", (16, 16), (255, 0, 0, 0)), kind))[3][3] == 255


def test_a_palette_gives_its_colours_and_their_transparency() -> None:
    palette = {"PLTE": bytes([255, 0, 0, 0, 255, 0, 0, 0, 255])}
    assert one(png_of(3, 8, 3, bytes([2, 0, 1]), **palette)) == [[[0, 0, 255], RED, [0, 255, 0]]]
    assert one(png_of(3, 8, 3, bytes([2, 0, 1]), **palette, tRNS=bytes([0, 128]))) == [
        [[0, 0, 255], WHITE, [127, 255, 127]]
    ]
    greys = {"PLTE": bytes([7, 7, 7, 200, 200, 200])}
    assert one(png_of(2, 8, 3, bytes([1, 0]), **greys)) == [[200, 7]]


def test_other_colours_become_red_green_and_blue() -> None:
    assert one(encoded(Image.new("CMYK", (1, 1), (0, 255, 255, 0)), "TIFF")) == [[RED]]
    assert one(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=100))[0][0] == RED
    assert one(encoded(Image.new("YCbCr", (1, 1), (90, 128, 128)), "TIFF")) == [[90]]


def test_grey_is_what_has_no_colour_however_it_is_stored() -> None:
    triple = np.stack([GREYS] * 3, axis=2)
    for image in (GREYS, triple, Image.fromarray(triple).quantize(256)):
        assert one(encoded(image)) == GREYS.tolist()
    assert one(encoded(GREYS > 100)) == (255 * (GREYS > 100)).tolist()
    triple[0, 0, 0] ^= 1
    assert one(encoded(triple)) == triple.tolist()
    assert one(encoded(np.array([[RED, WHITE]], np.uint8)), channels=1) == [[76, 255]]


# Depth


def test_more_than_8_bits_are_scaled_by_their_full_range() -> None:
    sixteen = np.array([[0, 128, 129, 257 * 90, 65535]], np.uint16)
    shown = [[0, 0, 1, 90, 255]]
    for data in (encoded(sixteen), encoded(sixteen, "TIFF"), tiff_of(65535 - sixteen, photometric=0)):
        assert one(data) == shown
    assert one(encoded(np.tile(sixteen, (8, 4)), "JPEG2000", irreversible=False))[0][:5] == shown[0]
    assert one(b"P5 3 1 4095\n" + struct.pack(">3H", 0, 1000, 4095)) == [[0, 62, 255]]
    assert one(tiff_of(np.array([[0, 2**31, 2**32 - 1]], np.uint32))) == [[0, 128, 255]]
    assert one(tiff_of(np.array([[0, 2**30, 2**31 - 1]], np.int32), kind=2)) == [[0, 128, 255]]
    assert one(tiff_of(np.array([[0, 257, 32767]], np.int16), kind=2)) == [[0, 2, 255]]
    assert one(tiff_of(np.array([[0, 0.5, 1.0005]], np.float32), kind=3)) == [[0, 128, 255]]
    assert one(png_of(2, 16, 2, struct.pack(">6H", 65535, 0, 0, 257, 257, 257))) == [[RED, [1, 1, 1]]]


@pytest.mark.parametrize(
    ("numbers", "kind", "message"),
    [
        (
            np.array([[0, 255]], np.float32),
            3,
            r"numbers from 0 to 255, but they must be from 0 \(black\) to 1 ",
        ),
        (np.array([[-0.5, 1]], np.float32), 3, "numbers from -0.5 to 1, but"),
        (np.array([[0, np.nan]], np.float32), 3, "numbers from nan to nan, but"),
        (np.array([[-5, 9]], np.int16), 2, "numbers from -5 to 9, but they must be from 0 .* to 32767"),
        (
            np.array([[0, 4095]], np.uint32),
            1,
            "numbers up to 4095, all black where .* is white: save it with 16",
        ),
    ],
)
def test_numbers_that_no_viewer_shows_are_refused(numbers: np.ndarray, kind: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        one(tiff_of(numbers, kind=kind))
    assert one(tiff_of(0 * np.nan_to_num(numbers), kind=kind)) == [[0, 0]]


# Animations


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF", "AVIF", "MPO"])
def test_the_first_frame_of_an_animation_is_read(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    if kind not in Image.SAVE_ALL:
        pytest.skip(f"this Pillow has no {kind}")
    found = one(encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options))
    assert abs(np.array(found) - RED).max() <= 2


# Many pictures


def files_of(folder: Path, pictures: list[np.ndarray]) -> list[Path]:
    files = [folder / f"{at:03}.png" for at in range(len(pictures))]
    for file, pixels in zip(files, pictures):
        file.write_bytes(encoded(pixels))
    return files


def test_all_grey_pictures_have_one_channel_and_one_in_colour_gives_three(tmp_path: Path) -> None:
    grey = [np.full((2, 3), level, np.uint8) for level in range(40)]
    files = files_of(tmp_path, grey)
    found = decode_images(images_of_files(files))
    assert (found.dtype, found.shape) == (np.uint8, (40, 1, 2, 3))
    assert found[:, 0, 1, 2].tolist() == list(range(40))
    colour = np.full((2, 3, 3), [1, 2, 3], np.uint8)
    files[35].write_bytes(encoded(colour))
    mixed = decode_images(images_of_files(files))
    assert mixed.shape == (40, 3, 2, 3)
    assert mixed[35, :, 0, 0].tolist() == [1, 2, 3] and mixed[34, :, 0, 0].tolist() == [34, 34, 34]
    assert decode_images(images_of_files(files), channels=1).shape == (40, 1, 2, 3)
    assert decode_images(images_of_files(files[:3]), channels=3).shape == (3, 3, 2, 3)


def test_pictures_of_two_sizes_are_named_with_the_way_out(tmp_path: Path) -> None:
    files = files_of(tmp_path, [np.zeros((4, 4), np.uint8)] * 30 + [np.zeros((4, 5), np.uint8)] * 30)
    with pytest.raises(
        UserError, match=r"030\.png is an image of 4×5 pixels, .* 4×4 \(.*000\.png\): give --size"
    ):
        decode_images(images_of_files(files))
    assert decode_images(images_of_files(files), size=(4, 4)).shape == (60, 1, 4, 4)


def test_the_first_bad_picture_is_the_one_that_is_named(tmp_path: Path) -> None:
    files = files_of(tmp_path, [np.zeros((4, 4), np.uint8)] * 100)
    for at in (90, 40, 70):
        files[at].write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"040\.png is not a readable image"):
        decode_images(images_of_files(files))


def test_more_pictures_than_memory_are_refused() -> None:
    source = images_of_files([Path("x")])._replace(size=10**14, read=lambda _: encoded(GREYS))
    with pytest.raises(UserError, match=r"100,000,000,000,000 images of 2×3 pixels do not fit .*--size"):
        decode_images(source)


def test_names_that_are_no_text_stay_on_one_line(tmp_path: Path) -> None:
    for name, said in ((b"a\nb.png", r"a\\nb\.png"), (b"\xff.png", r"\\udcff\.png")):
        file = tmp_path / name.decode(errors="surrogateescape")
        file.write_bytes(b"")
        with pytest.raises(UserError, match=f"{said} is not a readable image .it is empty.*replace") as error:
            decode_images(images_of_files([file]))
        assert str(error.value).isprintable() and str(error.value).encode()


# Sizes


def test_resampling_stretches_and_keeps_what_is_flat() -> None:
    picture = np.zeros((40, 80, 3), np.uint8)
    picture[:20], picture[20:] = [200, 100, 50], [10, 20, 30]
    small = decode_picture(encoded(picture), "x", size=(8, 4))
    assert small.shape == (8, 4, 3)
    assert abs(small[:2].astype(int) - [200, 100, 50]).max() <= 2
    assert abs(small[-2:].astype(int) - [10, 20, 30]).max() <= 2
    assert one(encoded(np.full((3, 2), 77, np.uint8)), size=(9, 7)) == [[77] * 7] * 9
    assert one(encoded(np.full((3, 2), 77, np.uint8)), size=(2, 3)) == [[77] * 3] * 2
    with pytest.raises(UserError, match="size is 0×4, but must be at least 1×1"):
        decode_images(images_of_files([Path("x")]), size=(0, 4))


@given(st.integers(4, 40), st.integers(1, 6), st.booleans())
def test_shrinking_looks_at_every_pixel(factor: int, side: int, upright: bool) -> None:
    stripes = np.tile(np.arange(factor * side) % 2 * np.uint8(255), (factor * side, 1)).astype(np.uint8)
    small = decode_picture(encoded(stripes if upright else stripes.T), "x", size=(side, side))
    assert small.shape == (side, side)
    assert abs(small.astype(int) - 128).max() <= 40


def test_a_photograph_is_shrunk_alike_whether_jpeg_helps_or_not() -> None:
    rng = np.random.default_rng(2)
    scene = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((640, 480))
    photograph = encoded(scene, "JPEG", quality=95)
    plain = encoded(Image.open(io.BytesIO(photograph)), "PNG")
    small, exact = (decode_picture(data, "x", size=(24, 32)).astype(int) for data in (photograph, plain))
    assert abs(small - exact).mean() < 2
    with pytest.raises(UserError, match="is an image of 6,000×5,000 pixels, but may have at most 25,000,000"):
        one(encoded(Image.new("L", (5000, 6000)), "JPEG"))
    assert one(encoded(Image.new("L", (5000, 6000), 9), "JPEG"), size=(2, 1)) == [[9], [9]]
