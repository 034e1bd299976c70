"""Parts of a C source as text: tables, constants, names of classes, and what raw values are."""

from __future__ import annotations

import json
from textwrap import wrap
from typing import Any

import numpy as np

from structnet.export.int8_network import IntegerNetwork
from structnet.export.model import Model

TYPES = {name: f"{name}_t" for name in ("int8", "uint8", "int16", "uint16", "int32", "uint32")} | {
    "float32": "float"
}
WIDTH = 110
SHOWN_CATEGORIES = 20  # of a column, in the comment


def notes(model: Model) -> list[str]:
    """What raw values are, line by line."""
    kind = model.preprocessing["kind"]
    if kind == "image":
        channels, height, width = model.raw_shape
        most = model.preprocessing["full_scale"]
        return [
            f"raw: pixels of 0 to {most:g}, row after row, of {channels} × {height} × {width} (channels × height × "
            "width)."
        ]
    lines = ["raw: a number for each column, NAN where it is missing; of texts the number of the text:"]
    for at, column in enumerate(model.preprocessing["columns"]):
        if kind == "columns":
            lines.append(f"{at:4} {_quoted(column)}")
        elif column["kind"] == "number":
            lines.append(f"{at:4} {_quoted(column['name'])}, a number")
        else:
            known = column["categories"]
            texts = ", ".join(f"{code} {_quoted(text)}" for code, text in enumerate(known[:SHOWN_CATEGORIES]))
            rest = ", …" if len(known) > SHOWN_CATEGORIES else ""
            lines.append(f"{at:4} {_quoted(column['name'])}: {texts}{rest}; {len(known)} any other text")
    return lines


def _quoted(text: str) -> str:
    """A text in a comment that it cannot end, in ASCII."""
    return json.dumps(str(text)).replace("*", "\\u002a").replace("?", "\\u003f")


def class_names(model: Model) -> str:
    """The table of the names of classes."""
    made = ["".join(_escaped(byte) for byte in name.encode()) for name in model.class_names]
    longest = max(len(name.encode()) for name in model.class_names) + 1
    texts = ",\n    ".join(f'"{text}"' for text in made)
    return f"static const char {model.name}_classes[{len(made)}][{longest}] = {{\n    {texts}\n}};\n"


def _escaped(byte: int) -> str:
    """A byte of a C string; question marks as well, of which two begin a trigraph."""
    character = chr(byte)
    return character if 32 <= byte < 127 and character not in '"\\?' else f"\\{byte:03o}"


def table_text(name: str, table: np.ndarray) -> str:
    """An array of constants."""
    numbers = wrap(", ".join(number_text(value) for value in table), WIDTH - 4)
    lines = "\n    ".join(numbers)
    return f"static const {TYPES[table.dtype.name]} {name}[{len(table)}] = {{\n    {lines}\n}};\n"


def number_text(value: Any) -> str:
    """A constant that is read back as it is; NAN is of math.h."""
    if not isinstance(value, np.floating):
        return str(int(value))
    if np.isnan(value):
        return "NAN"
    text = f"{value:.9g}"
    return text + ("f" if "." in text or "e" in text else ".0f")


def raw_type(model: Model, integers: IntegerNetwork | None = None) -> str:
    """The C type of a raw value."""
    return "uint8_t" if integers is not None and model.preprocessing["kind"] == "image" else "float"
