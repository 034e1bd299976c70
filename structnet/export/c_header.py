"""A network as one C99 header that needs no more than math.h, in float32 or int8, and a program that tests it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from structnet.errors import WorkFailed
from structnet.export.c_build import COMPILERS, Sizes, compiler, measured, runner
from structnet.export.c_reference import reference_inputs
from structnet.export.c_source import (
    array_bytes,
    header,
    library,
    multiply_adds,
    program,
    table_bytes,
)
from structnet.export.c_text import raw_type
from structnet.export.int8_network import IntegerNetwork
from structnet.export.model import Model, Written

EXAMPLES = 3  # in the program that tests the header
LOGIT_BYTES = 4


def write(model: Model, folder: Path, integers: IntegerNetwork | None = None) -> Written:
    """Writes NAME.h and NAME_test.c, of the integers of the network if they are given.

    `run` takes pixels of integers as whole numbers and all other raw values in single precision; logits of integers are
    float64 and exact.
    """
    text = header(model, integers)
    raw = reference_inputs(model, EXAMPLES, integers)
    logits = model.logits(raw) if integers is None else integers.logits(raw)
    files = {
        folder / f"{model.name}.h": text,
        folder / f"{model.name}_test.c": program(model, raw, logits, integers),
    }
    for file, content in files.items():
        file.write_text(content, encoding="utf-8")
    run, sizes, reason = None, None, f"no C compiler is on the PATH ({', '.join(COMPILERS)})"
    if compiler() is not None:
        with TemporaryDirectory(prefix="structnet-") as place:
            (Path(place) / f"{model.name}.h").write_text(text, encoding="utf-8")
            try:
                run, reason = _run(model, integers, Path(place)), ""
                sizes = measured(Path(place), library(model, integers))
            except WorkFailed as failed:
                reason = str(failed)
    return Written(list(files), _lines(model, integers, sizes, reason), run, reason)


def _run(model: Model, integers: IntegerNetwork | None, folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    classes, source = model.network.architecture[-1], library(model, integers)
    if integers is None:
        return runner(folder, source, np.float32, np.float32, classes)
    raw = np.uint8 if raw_type(model, integers) == "uint8_t" else np.float32
    call, scale = runner(folder, source, raw, np.int32, classes), integers.scale

    def run(values: np.ndarray) -> np.ndarray:
        pixels = np.clip(np.floor(values + 0.5), 0, 255) if raw is np.uint8 else values
        return call(pixels) * scale

    return run


def _lines(model: Model, integers: IntegerNetwork | None, sizes: Sizes | None, reason: str) -> list[str]:
    """What it takes."""
    tables, classes = table_bytes(model, integers), model.network.architecture[-1]
    number_type = "float32" if integers is None else "int8"
    shared = f"{tables.preprocessing:,} for the preprocessing, " if tables.preprocessing else ""
    if sizes is None:
        code = f"the size of its code is not known: {reason}"
    else:
        code = f"{sizes.code:,} of code, compiled with -Os for {sizes.machine}"
    return [
        f"Flash in bytes: {tables.network:,} for the network in {number_type}, indices included; {shared}"
        f"{tables.classes:,} for the names of the classes; {code}.",
        f"RAM in bytes: {array_bytes(model, integers):,} on the stack for activations, and the caller gives "
        f"{LOGIT_BYTES * classes:,} for logits, or none for the class alone.",
        f"Multiply-adds for one input: {multiply_adds(model, integers):,}.",
    ]
