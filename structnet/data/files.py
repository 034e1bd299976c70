"""Images, numbers and labels out of Parquet, CSV and image files, as arrays in the units of the file.

Nothing is scaled here: `structnet.data.datasets` does that. Every problem of a file is a UserError that names the file
and, where there is one, the row.
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

from structnet.errors import UserError

LABEL = "label"
IMAGE_COLUMNS = ("image", "img")
TABLE_SUFFIXES = (".parquet", ".csv")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")

# Formats that are decoded inside the process; others may call a program (EPS) or hold many images (TIFF).
_IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
_PIXELS_WORTH_THREADS = 128 * 128
_GREY_MODES = {"1", "L", "LA", "La"}
_COLOUR_MODES = {"P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"}


class FileData(NamedTuple):
    """What the files of a dataset hold.

    splits: name -> values and class numbers int64 (n,). The values are uint8 (n, channels, height, width)
    when `columns` is None, else float64 (n, columns).
    """

    splits: dict[str, tuple[np.ndarray, np.ndarray]]
    columns: list[str] | None
    class_names: tuple[str, ...]


def read_dataset(path: Path) -> FileData:
    """Reads a Parquet or CSV file (as "train"), or a folder with one for train and perhaps for others.

    The training file says which classes and columns there are, and whether images are grey or in colour.
    Raises UserError when a file is missing or damaged, or does not fit the training file.
    """
    splits: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    columns: list[str] | None = None
    names: tuple[str, ...] = ()
    for split, file in _split_files(path).items():
        rows = read_rows(file)
        labels = read_labels(rows, file)
        image = image_column(rows)
        if split == "train":
            names = class_names(labels, file)
        if image is None and (split == "train" or columns is not None):
            columns, values = number_columns(rows, file, columns)
        elif image is not None and columns is None:
            like = splits["train"][0].shape[1:] if splits else None
            values = decode_images(images_of_rows(rows, image, file), like[0] if like else None)
            _check_size(values.shape[1:], like or values.shape[1:], file)
        else:
            raise UserError(
                f"{file} does not hold images or columns as the training file does: use one form for both"
            )
        splits[split] = (values, class_numbers(labels, names, file))
    return FileData(splits, columns, names)


def _check_size(shape: tuple[int, ...], expected: tuple[int, ...], file: Path) -> None:
    if shape != expected:
        raise UserError(
            f"{file} has images of {shape[1]}×{shape[2]} pixels, but the training file has "
            f"{expected[1]}×{expected[2]}: bring all images to one size"
        )


def _split_files(path: Path) -> dict[str, Path]:
    """Split name ("train" first) -> file."""
    if not path.is_dir():
        return {"train": path}
    files: dict[str, Path] = {}
    for split in ("train", "validation", "test"):
        found = [path / f"{split}{suffix}" for suffix in TABLE_SUFFIXES]
        found = [file for file in found if file.is_file()]
        if len(found) > 1:
            raise UserError(f"{path} holds both {found[0].name} and {found[1].name}: keep one of them")
        if found:
            files[split] = found[0]
    if "train" not in files:
        raise UserError(f"{path} holds neither train.parquet nor train.csv: put one of them there")
    return files


def read_rows(path: Path) -> pa.Table:
    """All rows of a Parquet or CSV file."""
    import pyarrow.csv
    import pyarrow.parquet

    suffix = path.suffix.lower()
    if suffix not in TABLE_SUFFIXES:
        raise UserError(
            f"{path} ends in {suffix!r}, but must end in .parquet or .csv: convert the file to one of them"
        )
    if not path.is_file():
        raise UserError(f"{path} is not a file: name a Parquet or CSV file")
    try:
        if suffix == ".csv":
            rows = pyarrow.csv.read_csv(path)
        else:
            with pyarrow.parquet.ParquetFile(path) as file:
                rows = file.read()
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{path} cannot be read ({first_line(error)}): write it again as {suffix[1:]}"
        ) from error
    if rows.num_rows == 0:
        raise UserError(f"{path} has no rows, but needs at least one: is it the right file?")
    repeated = sorted({name for name in rows.column_names if rows.column_names.count(name) > 1})
    if repeated:
        raise UserError(
            f"{path} has more than one column {repeated[0]!r}: give every column a name of its own"
        )
    return rows


def first_line(error: Exception) -> str:
    """Of an error's message, or its type if it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


# Images


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


# Numbers


def number_columns(
    rows: pa.Table, path: Path, columns: Sequence[str] | None = None
) -> tuple[list[str], np.ndarray]:
    """The names and the values (n, columns) float64 of `columns`, or of every column but the label.

    Raises UserError when a column is missing, is not numeric, or holds an empty, NaN or infinite value.
    """
    names = list(columns) if columns is not None else [name for name in rows.column_names if name != LABEL]
    missing = [name for name in names if name not in rows.column_names]
    if missing:
        raise UserError(f"{path} has no column {missing[0]!r}: it must have {_listed(names)}")
    if not names:
        raise UserError(f"{path} has no column beside {LABEL!r}: add an image column or numeric columns")
    values = np.empty((rows.num_rows, len(names)), np.float64)
    for at, name in enumerate(names):
        kind = rows.schema.field(name).type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
            raise UserError(
                f"column {name!r} of {path} is of type {kind}, but must be numeric (or "
                "image or img as a struct of bytes and path): remove it or code it as numbers"
            )
        numbers = pc.cast(rows[name], pa.float64(), safe=False)
        values[:, at] = pc.fill_null(numbers, float("nan")).to_numpy()
        bad = np.flatnonzero(~np.isfinite(values[:, at]))
        if len(bad):
            raise UserError(
                f"column {name!r} of {path} is {values[bad[0], at]} in row {bad[0]} (empty counts as nan), "
                f"but must be finite: fill or remove the {len(bad)} such rows"
            )
    return names, values


# Labels


def read_labels(rows: pa.Table, path: Path) -> pa.ChunkedArray:
    """The label column: int64, or text (booleans become the text true and false)."""
    if LABEL not in rows.column_names:
        raise UserError(
            f"{path} has no column {LABEL!r}, it has {_listed(rows.column_names)}: add it or rename one"
        )
    labels = rows[LABEL]
    if pa.types.is_dictionary(labels.type):
        labels = labels.cast(labels.type.value_type)
    if labels.null_count:
        row = pc.index(pc.is_null(labels), True).as_py()
        raise UserError(
            f"row {row} of {path} has an empty {LABEL!r}: fill or remove the {labels.null_count} such rows"
        )
    if pa.types.is_integer(labels.type):
        return labels.cast(pa.int64())
    if _is_text(labels.type) or pa.types.is_boolean(labels.type):
        return labels.cast(pa.string())
    raise UserError(
        f"column {LABEL!r} of {path} is of type {labels.type}, but must be integers or strings: convert it"
    )


def class_names(labels: pa.ChunkedArray, path: Path) -> tuple[str, ...]:
    """The different labels as text, integers in numerical and text in alphabetical order."""
    names = tuple(str(name) for name in sorted(pc.unique(labels).to_pylist()))
    if len(names) < 2:
        raise UserError(
            f"{path} has only the class {names[0]!r}, but needs at least two: there is nothing to tell apart"
        )
    return names


def class_numbers(labels: pa.ChunkedArray, names: Sequence[str], path: Path) -> np.ndarray:
    """Each label's position in `names`, int64 (n,).

    Integer labels of a dataset whose classes all have names in words are class numbers already.
    """
    if pa.types.is_integer(labels.type) and not any(_is_integer(name) for name in names):
        names = [str(number) for number in range(len(names))]
    text = labels.cast(pa.string())
    numbers = pc.index_in(text, value_set=pa.array(names, pa.string()))
    if numbers.null_count:
        row = pc.index(pc.is_null(numbers), True).as_py()
        raise UserError(
            f"row {row} of {path} has the label {text[row].as_py()!r}, but the classes of the training data "
            f"are {_listed(names)}: correct or remove it"
        )
    classes: np.ndarray = numbers.to_numpy().astype(np.int64)
    return classes


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_integer(text: str) -> bool:
    return text.removeprefix("-").isdecimal()


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:10])
    return shown if len(names) <= 10 else f"{shown} and {len(names) - 10} more"
