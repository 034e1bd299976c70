"""Networks of all shapes on all kinds of raw values, and one C program that computes many of them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from helpers.compiled_cases import topologies
from hypothesis import strategies as st

from structnet.data.tables import input_count, yeo_johnson
from structnet.export.c_source import header
from structnet.export.c_text import raw_type
from structnet.export.int8 import quantised
from structnet.export.int8_network import IntegerNetwork
from structnet.export.model import Model
from structnet.network.activations import ACTIVATIONS, activation_named
from structnet.network.network import StructNet
from structnet.network.topology import Topology

ROWS = 8  # raw inputs of each network
CALIBRATION = 64
COMPILER = shutil.which("cc") or shutil.which("gcc") or "cc"
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic")
SANITIZED = ("-O0", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


class Case(NamedTuple):
    """A model, raw inputs to try, and its integers where those are exported."""

    model: Model
    raw: np.ndarray
    integers: IntegerNetwork | None = None

    def expected(self) -> np.ndarray:
        """Logits: int32 of integers, else float32."""
        return self.model.logits(self.raw) if self.integers is None else self.integers.logits(self.raw)


def network_of(topology: Topology, activation: str, rng_seed: int) -> StructNet:
    """float32, with values that are not small."""
    topology = replace(topology, shape_numbers=len(activation_named(activation).shape))
    values = np.random.default_rng(rng_seed).standard_normal(topology.parameters) / 2
    return StructNet.from_parts(topology, torch.from_numpy(values.astype(np.float32)), activation=activation)


def image_model(topology: Topology, activation: str, rng_seed: int = 0, full_scale: float = 255.0) -> Model:
    """Of grey images of one row."""
    preprocessing = {
        "kind": "image",
        "shape": [1, 1, topology.architecture[0]],
        "scaling": "unit",
        "full_scale": full_scale,
        "offset": [0.0],
        "scale": [full_scale],
    }
    return model_of(network_of(topology, activation, rng_seed), preprocessing)


def model_of(network: StructNet, preprocessing: dict[str, Any], name: str = "net") -> Model:
    classes = tuple(f"class {number}" for number in range(network.architecture[-1]))
    return Model(name, network, preprocessing | {"class_names": list(classes)}, classes)


def calibrated(model: Model, raw: np.ndarray) -> IntegerNetwork:
    """Integers, with what these raw values reach."""
    return quantised(model, model.inputs(raw))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A float or an integer network of any activation on images, columns or a table."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["image", "image", "columns", "table"]))
    preprocessing, raw = {"image": _image, "columns": _columns, "table": _table}[kind](draw, rng)
    inputs = (
        input_count(preprocessing["columns"]) if kind == "table" else int(np.prod(preprocessing["shape"]))
    )
    topology = draw(topologies(inputs=inputs))
    activation = draw(st.sampled_from(list(ACTIVATIONS)))
    model = model_of(network_of(topology, activation, draw(st.integers(0, 99))), preprocessing)
    raw = raw.astype(np.float32).astype(np.float64)
    # What scales were not taken from may lie beyond them.
    integers = calibrated(model, raw[ROWS:]) if draw(st.booleans()) else None
    return Case(model, raw[:ROWS], integers)


@st.composite
def tables(draw: st.DrawFn) -> tuple[dict[str, Any], np.ndarray]:
    """The preprocessing of a table as it is fitted to raw values, and these."""
    return _table(draw, np.random.default_rng(draw(st.integers(0, 2**32 - 1))))


def _image(draw: st.DrawFn, rng: np.random.Generator) -> tuple[dict[str, Any], np.ndarray]:
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)))
    full_scale = draw(st.sampled_from([255.0, 16.0]))
    channels = shape[0]
    standardised = draw(st.booleans())
    offset = (rng.random(channels) * full_scale / 2).tolist() if standardised else [0.0] * channels
    scale = (
        ((0.1 + rng.random(channels)) * full_scale / 4).tolist() if standardised else [full_scale] * channels
    )
    about = {
        "kind": "image",
        "shape": list(shape),
        "full_scale": full_scale,
        "offset": offset,
        "scale": scale,
    }
    return about, rng.integers(0, int(full_scale) + 1, (CALIBRATION, *shape)).astype(np.float64)


def _columns(draw: st.DrawFn, rng: np.random.Generator) -> tuple[dict[str, Any], np.ndarray]:
    """Numbers whose offset may be large for their scale."""
    count = draw(st.integers(1, 6))
    offset, scale = 100 * rng.standard_normal(count), 10.0 ** rng.integers(-1, 4, count)
    raw = offset + scale * rng.standard_normal((CALIBRATION, count))
    names = [f"column {number} */" for number in range(count)]
    about = {"kind": "columns", "shape": [count], "columns": names}
    return about | {"offset": offset.tolist(), "scale": scale.tolist()}, raw


def _table(draw: st.DrawFn, rng: np.random.Generator) -> tuple[dict[str, Any], np.ndarray]:
    columns, values = [], []
    for number in range(draw(st.integers(1, 5))):
        name = f"column {number}"
        made = _number_column if draw(st.booleans()) else _text_column
        column, raw = made(draw, rng, name)
        columns.append(column)
        values.append(np.where(rng.random(CALIBRATION) < 0.2, np.nan, raw))
    shape = [input_count(columns)]
    return {"kind": "table", "shape": shape, "columns": columns}, np.stack(values, axis=1)


def _number_column(draw: st.DrawFn, rng: np.random.Generator, name: str) -> tuple[dict[str, Any], np.ndarray]:
    """As fitted to what it holds: numbers of one or both signs, some of them large for their spread."""
    spread = 10.0 ** draw(st.integers(-2, 3))
    start = draw(st.sampled_from([0.0, 1.0, 20.0, -20.0])) * spread
    raw = start + spread * (
        rng.exponential(size=CALIBRATION) if draw(st.booleans()) else rng.standard_normal(CALIBRATION)
    )
    raw = raw.astype(np.float32).astype(np.float64)
    power = draw(st.sampled_from([None, -1.5, -0.3, 0.0, 1e-9, 0.4, 1.0, 2.0, 2.5]))
    seen = raw if power is None else yeo_johnson(raw, power)
    column = {"name": name, "kind": "number", "fill": float(np.median(raw)), "power": power}
    column |= {"missing": draw(st.booleans()), "offset": float(seen.mean()), "scale": float(seen.std())}
    return column, raw


def _text_column(draw: st.DrawFn, rng: np.random.Generator, name: str) -> tuple[dict[str, Any], np.ndarray]:
    count = draw(st.integers(1, 4))
    other, missing = draw(st.booleans()), draw(st.booleans())
    column = {"name": name, "kind": "category", "categories": [f"text {code}" for code in range(count)]}
    column |= {"other": other, "missing": missing, "binary": count == 2 and not other and not missing}
    return column, rng.integers(0, count + 1, CALIBRATION).astype(np.float64)


def computed(folder: Path, cases: Sequence[Case], *options: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Logits, (n, classes), and numbers of classes, (n,), of each case, by one C program with these options."""
    includes, calls, given = [], [], []
    for at, case in enumerate(cases):
        model = replace(case.model, name=f"net{at}")
        (folder / f"net{at}.h").write_text(header(model, case.integers), encoding="utf-8")
        includes.append(f'#include "net{at}.h"')
        raw, logit = raw_type(model, case.integers), "float" if case.integers is None else "int32_t"
        calls.append(CALL.format(name=f"net{at}", upper=f"NET{at}", raw=raw, logit=logit, rows=len(case.raw)))
        given.append(
            np.ascontiguousarray(case.raw, dtype=np.uint8 if raw == "uint8_t" else np.float32).tobytes()
        )
    text = PROGRAM.format(includes="\n".join(includes), calls="".join(calls))
    said = ran(folder, text, *options, given=b"".join(given))
    found, place = [], 0
    for case in cases:
        shape = (len(case.raw), case.model.network.architecture[-1])
        for kind, size in ((case.expected().dtype, shape), (np.dtype(np.int32), shape[:1])):
            stop = place + int(np.prod(size)) * kind.itemsize
            found.append(np.frombuffer(said[place:stop], kind).reshape(size))
            place = stop
    assert place == len(said)
    return list(zip(found[::2], found[1::2]))


def ran(folder: Path, text: str, *options: str, given: bytes = b"") -> bytes:
    """What a C program of this text, compiled with these options, makes of what it is given."""
    source, made = folder / "program.c", folder / "program"
    source.write_text(text, encoding="utf-8")
    compiled(folder, source, *options, "-o", str(made), "-lm")
    done = subprocess.run([made], input=given, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def compiled(folder: Path, source: Path, *options: str, compiler: str = COMPILER) -> None:
    """A file of a folder compiled, without a warning."""
    # What is linked follows the file that needs it.
    first = [option for option in options if option != "-lm"]
    last = ["-lm"] if "-lm" in options else []
    command = [compiler, "-I", str(folder), *first, str(source), *last]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


PROGRAM = """
#include <stdio.h>
#include <stdlib.h>
{includes}

/* Of exactly this size, so that a byte read or written beyond it is seen. */
static void *room(size_t bytes)
{{
    void *made = malloc(bytes);
    if (!made)
        exit(1);
    return made;
}}

/* Leaves bytes behind that are no number where the next call has its arrays. */
static void stained(void)
{{
    volatile unsigned char bytes[20000];
    size_t at;
    for (at = 0; at < sizeof(bytes); at++)
        bytes[at] = 255;
}}

int main(void)
{{
    size_t row;
{calls}
    return 0;
}}
"""
CALL = """
    {{
        {raw} *raw = ({raw} *)room({upper}_INPUTS * sizeof({raw}));
        {logit} *logits = ({logit} *)room({upper}_CLASSES * sizeof({logit}));
        int32_t classes[{rows}];
        for (row = 0; row < {rows}; row++) {{
            if (fread(raw, sizeof({raw}), {upper}_INPUTS, stdin) != {upper}_INPUTS)
                return 1;
            stained();
            {name}_logits(raw, logits);
            fwrite(logits, sizeof({logit}), {upper}_CLASSES, stdout);
            classes[row] = {name}_predict(raw);
        }}
        fwrite(classes, sizeof(int32_t), {rows}, stdout);
        free(raw);
        free(logits);
    }}
"""
