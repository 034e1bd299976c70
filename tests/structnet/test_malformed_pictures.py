"""Two hundred files that are no pictures, or dangerous ones: one line each, soon, and in less than a gigabyte."""

from __future__ import annotations

import io
import json
import os
import re
import stat
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from structnet.data.decoding import picture_formats, picture_suffixes

ROOT = Path(__file__).parents[2]
GIBIBYTE = 2**30
READ = "read"  # what is expected of a file that a viewer shows

NO_IMAGE = "is not a readable image"
TOO_LARGE = (
    r"is an image of (far more than )?[\d,×]+ pixels, but may have at most 25,000,000, and 30,000 on a side"
)

READ_EACH = """
import json, sys, time
from pathlib import Path
from structnet.data.pictures import decode_images, images_of_files
from structnet.errors import UserError

for line in sys.stdin:
    start = time.perf_counter()
    try:
        files = list(map(Path, json.loads(line)))
        size = (8, 8) if len(files) > 1 else None
        said = f"read {decode_images(images_of_files(files), size=size).shape}"
    except UserError as error:
        said = str(error)
    print(json.dumps([said, time.perf_counter() - start]), flush=True)
status = Path("/proc/self/status").read_text()
print(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
"""


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, *chunks: bytes, data: bytes | None = None, colour: int = 0) -> bytes:
    """data: the compressed pixels, by default those of one grey row."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0))
    pixels = zlib.compress(bytes(width + 1)) if data is None else data
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def tiff(side: int, samples: int) -> bytes:
    """What an uncompressed grey TIFF says of itself, without pixels."""
    tags = {256: side, 257: side, 258: 8, 259: 1, 262: 1, 273: 8, 277: samples, 278: side, 279: 100}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)


def icon(side: int, picture: bytes) -> bytes:
    """side: what the file says of its picture."""
    return b"\0\0\1\0\1\0" + struct.pack("<BBBBHHII", side, side, 0, 0, 1, 32, len(picture), 22) + picture


def patched(data: bytes, at: int, form: str, *numbers: int) -> bytes:
    new = struct.pack(form, *numbers)
    return data[:at] + new + data[at + len(new) :]


def noise(side: int = 40) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8))


def truncated() -> Iterator[tuple[str, bytes]]:
    for kind in (
        "PNG",
        "JPEG",
        "GIF",
        "WEBP",
        "BMP",
        "TIFF",
        "PPM",
        "TGA",
        "SGI",
        "QOI",
        "ICO",
        "AVIF",
        "DDS",
        "JPEG2000",
    ):
        if kind not in picture_formats() or kind not in Image.SAVE:
            continue
        data = encoded(noise(), kind)
        for share in (0, 4, 20, 50, 80):
            yield f"{kind} cut to {share}%", data[: len(data) * share // 100]
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "jpeg"):
        data = encoded(noise(), "TIFF", compression=compression)
        yield f"TIFF by {compression} without its end", data[: len(data) // 2]
        yield f"TIFF by {compression} with zeros inside", data[:300] + bytes(len(data) - 400) + data[-100:]
    yield "JPEG of its first marks", encoded(noise(), "JPEG")[:200]
    yield "progressive JPEG without its end", encoded(noise(), "JPEG", progressive=True)[:900]
    yield "interlaced PNG without pixels", png(5, 5, data=b"")
    yield "PNG with a wrong checksum", patched(png(5, 1), 33 + 4 + 4 + 3, "B", 7)
    yield "PNG with a wrong stream", png(5, 5, data=b"\x78\x9c nothing")
    yield "PNG of a colour that is none", png(5, 1, colour=5)
    yield "PNG of a palette without one", png(0, 1, colour=3)
    yield "PNG that begins twice", encoded(noise(), "PNG")[:16] + encoded(noise(), "PNG")


def named_as_pictures() -> Iterator[tuple[str, bytes]]:
    text = "What looks like a picture, but is a text about one.\n" * 20
    for suffix in sorted(picture_suffixes()):
        yield f"text{suffix}", text.encode()
    yield "page.jpg", b"<!DOCTYPE html><html><body>404 Not Found</body></html>"
    yield (
        "drawing.png",
        b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
    )
    yield "archive.png", b"PK\x03\x04" + bytes(100)
    yield "gzip.png", b"\x1f\x8b\x08" + bytes(100)
    yield "program.png", b"\x7fELF" + bytes(100)
    yield "paper.png", b"%PDF-1.7\n" + bytes(100)
    yield (
        "drawn by a program.png",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n",
    )
    yield "metafile.png", b"\xd7\xcd\xc6\x9a\0\0" + bytes(100)
    yield "video.png", b"\0\0\1\xb3" + bytes(100)
    yield "stars.png", b"SIMPLE  =                    T".ljust(80) + b"END".ljust(80) + bytes(100)
    yield "zeros.png", bytes(1000)
    yield "random.png", np.random.default_rng(0).bytes(1000)
    yield "many samples.png", tiff(3, 300)
    for magic in (
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff\xe0",
        b"GIF89a",
        b"BM",
        b"II*\0",
        b"RIFF\x20\0\0\0WEBP",
        b"8BPS",
    ):
        yield f"{magic!r}.png".replace("/", ""), magic + np.random.default_rng(1).bytes(500)


def of_large_sides() -> Iterator[tuple[str, bytes]]:
    for width, height in (
        (100_000, 100_000),
        (100_000, 1),
        (1, 100_000),
        (2**31 - 1, 2**31 - 1),
        (12_000, 12_000),
        (5001, 5000),
    ):
        yield f"PNG of {width} by {height}", png(width, height, data=zlib.compress(bytes(100)))
    gif = encoded(Image.new("L", (4, 4)), "GIF")
    yield "GIF", patched(gif, 6, "<HH", 65_535, 65_535)
    yield "BMP", patched(encoded(noise(), "BMP"), 18, "<ii", 100_000, 100_000)
    yield "BMP upside down", patched(encoded(noise(), "BMP"), 18, "<ii", 100_000, -100_000)
    jpeg = encoded(noise(), "JPEG")
    yield "JPEG", patched(jpeg, jpeg.index(b"\xff\xc0") + 5, ">HH", 65_500, 65_500)
    yield "TGA", patched(encoded(noise(), "TGA", compression="tga_rle"), 12, "<HH", 65_535, 65_535)
    yield "SGI", patched(encoded(noise(), "SGI"), 6, ">HH", 65_535, 65_535)
    yield "QOI", b"qoif" + struct.pack(">IIBB", 100_000, 100_000, 4, 0) + b"\xfd" * 100 + bytes(7) + b"\1"
    yield "PSD", b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 100_000, 100_000, 8, 3) + bytes(14)
    yield "PPM", b"P6 100000 100000 255\n" + bytes(100)
    yield "PBM", b"P1 100000 100000\n1 0 1 0"
    yield "XPM", b'/* XPM */\nstatic char * x[] = {\n"100000 100000 1 1",\n"a c #ffffff",\n"a"\n};'
    yield "XBM", b"#define x_width 100000\n#define x_height 100000\nstatic char x_bits[] = {\n0x00 };"
    yield "DDS", patched(encoded(noise(), "DDS"), 12, "<II", 100_000, 100_000)
    yield "TIFF", tiff(100_000, 1)
    if "WEBP" in picture_formats():
        lossless = encoded(Image.new("RGB", (4, 4)), "WEBP", lossless=True)
        sides = int.from_bytes(lossless[21:25], "little") & ~0xFFFFFFF | 16_382 | 16_382 << 14
        yield "WEBP", patched(lossless, 21, "<I", sides)
    if "JPEG2000" in picture_formats():
        stream = encoded(noise(), "JPEG2000", no_jp2=True)
        yield "JPEG 2000", patched(stream, 8, ">IIIIII", 100_000, 100_000, 0, 0, 100_000, 100_000)


def with_hidden_weight() -> Iterator[tuple[str, bytes]]:
    """Little in the file, and more than belongs there when it is unpacked."""
    texts = chunk(b"zTXt", b"key\0\0" + zlib.compress(bytes(2**24)))
    yield "text of 16 MiB", png(2, 1, texts)
    yield (
        "international text of 16 MiB",
        png(2, 1, chunk(b"iTXt", b"key\0\1\0\0\0" + zlib.compress(bytes(2**24)))),
    )
    yield "profile of 16 MiB", png(2, 1, chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(2**24))))
    yield "texts of 80 MiB", png(2, 1, *[chunk(b"zTXt", b"key\0\0" + zlib.compress(bytes(2**20 - 1)))] * 80)


def shown_all_the_same() -> Iterator[tuple[str, bytes]]:
    """What a viewer shows."""
    yield "renamed JPEG.png", encoded(noise(), "JPEG")
    yield "renamed PNG.jpg", encoded(noise(), "PNG")
    yield "icon of another size.png", icon(16, encoded(noise(8), "PNG"))
    yield "trailing rest.png", png(2, 1) + bytes(5000)


def large_together(folder: Path) -> list[Path]:
    """Pictures in two jobs of the pool, at whose border lie two that are as large as allowed."""
    small, large = folder / "small.png", folder / "large.png"
    small.write_bytes(encoded(noise(), "PNG"))
    image = Image.new("RGBA", (5000, 5000))
    if "WEBP" in picture_formats():  # takes four times the memory of its pixels
        large.write_bytes(encoded(image, "WEBP", lossless=True, quality=0, method=0))
    else:
        large.write_bytes(encoded(image, "PNG"))
    return [*[small] * 15, large, large, *[small] * 15]


def special_files(folder: Path) -> dict[Path, str]:
    """File -> what is said of it."""
    good = encoded(noise(), "PNG")
    names = ("pipe", "socket", "folder", "loop", "nowhere", "device", "failing", "huge")
    made = {name: folder / f"{name}.png" for name in names}
    os.mkfifo(made["pipe"])
    os.mknod(made["socket"], stat.S_IFSOCK | 0o600)
    made["folder"].mkdir()
    made["loop"].symlink_to(made["loop"])
    made["nowhere"].symlink_to(folder / "nothing")
    made["device"].symlink_to("/dev/zero")
    made["failing"].symlink_to("/proc/self/mem")
    with made["huge"].open("wb") as file:
        file.truncate(2**28)
    said = {
        made["pipe"]: "is no image but a named pipe: remove it",
        made["socket"]: "is no image but a socket: remove it",
        made["folder"]: "is no image but a folder: remove it",
        made["loop"]: "cannot be read .Too many levels of symbolic links.",
        made["nowhere"]: "cannot be read .No such file or directory.",
        made["device"]: "is no image but a device: remove it",
        made["failing"]: "cannot be read .Input/output error.",
        made["huge"]: "has more than 134,217,728 bytes, but may have no more",
    }
    if os.geteuid() != 0:  # nothing is closed to root
        closed = folder / "closed.png"
        closed.write_bytes(good)
        closed.chmod(0)
        said[closed] = "cannot be read .Permission denied.: make it readable"
    for at, suffix in enumerate((".png", ".jpg", ".gif", ".tif", ".bmp", ".webp")):
        (folder / f"empty {at}{suffix}").write_bytes(b"")
        said[folder / f"empty {at}{suffix}"] = NO_IMAGE + " .it is empty."
    pointer, large = folder / "not fetched.png", folder / "icon.ico"
    pointer.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    large.write_bytes(icon(16, png(10_000, 10_000)))  # without its pixels
    said |= {
        pointer: NO_IMAGE + " .it is a pointer of Git LFS",
        large: "is an image of far more than 25,000,000",
    }
    return said


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, str]:
    folder = tmp_path_factory.mktemp("malformed")
    said = special_files(folder)
    kinds = (
        (truncated, NO_IMAGE),
        (named_as_pictures, f"{NO_IMAGE}|{TOO_LARGE}"),
        (of_large_sides, TOO_LARGE),
    )
    for made, expected in (*kinds, (with_hidden_weight, NO_IMAGE), (shown_all_the_same, READ)):
        for name, data in made():
            file = folder / (name if "." in name else f"{name}.png")
            assert file not in said
            file.write_bytes(data)
            said[file] = expected
    return said


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is measured as Linux says it")
def test_malformed_files_are_one_line_each_soon_and_without_much_memory(files: dict[Path, str]) -> None:
    together = large_together(next(iter(files)).parent)
    asked = [*([file] for file in files), together]
    done = subprocess.run(
        [sys.executable, "-c", READ_EACH],
        input="\n".join(json.dumps(list(map(str, each))) for each in asked),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    *lines, peak = done.stdout.splitlines()
    assert len(files) >= 200 and len(lines) == len(asked)
    wrong = []
    for (file, expected), (said, seconds) in zip(files.items(), map(json.loads, lines)):
        begins = "read" if expected == READ else str(file)
        is_right = (
            said.startswith(begins) and re.search(expected, said) and said.isprintable() and seconds < 20
        )
        if not is_right:
            wrong.append(f"{file.name} {said} {seconds:.1f} s")
    assert wrong == []
    assert json.loads(lines[-1])[0] == "read (32, 3, 8, 8)"
    assert done.stderr == ""
    assert (
        int(peak) * 1024 < 0.75 * GIBIBYTE
    )  # on more CPUs as well: large pictures are decoded one at a time
