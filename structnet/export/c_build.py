"""C compiled on this machine: a library that runs, and the bytes that its functions and tables take."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from structnet.errors import WorkFailed

COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-std=c99", "-Wall", "-Wextra", "-Werror")
LONGEST_SECONDS = 300


class Sizes(NamedTuple):
    """Bytes of all functions, and of each table by its name; machine: for which they were compiled."""

    code: int
    tables: dict[str, int]
    machine: str


def compiler() -> str | None:
    """The path of a C compiler, if there is one on the PATH."""
    return next((found for name in COMPILERS if (found := shutil.which(name))), None)


def built(folder: Path, source: str, *options: str) -> Path:
    """A C file of this text and the headers of the folder, compiled. Raises WorkFailed where that fails."""
    # A library that is loaded must not be written to.
    file, made = folder / "built.c", folder / ("built.o" if "-c" in options else "built.so")
    file.write_text(source, encoding="utf-8")
    _output([str(compiler()), *FLAGS, "-I", str(folder), *options, str(file), "-o", str(made), "-lm"])
    return made


def runner(
    folder: Path, source: str, raw: Any, logits: Any, classes: int
) -> Callable[[np.ndarray], np.ndarray]:
    """Raw values, (n, numbers), to logits, (n, classes), by the function `logits_of` of a C file of this text.

    raw, logits: number types of the two. Raises WorkFailed where it does not compile.
    """
    logits_of = ctypes.CDLL(str(built(folder, source, "-O2", "-shared", "-fPIC"))).logits_of
    logits_of.argtypes, logits_of.restype = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p), None

    def run(values: np.ndarray) -> np.ndarray:
        given = np.ascontiguousarray(values.reshape(len(values), -1), dtype=raw)
        found = np.empty((len(given), classes), dtype=logits)
        logits_of(given.ctypes.data, len(given), found.ctypes.data)
        return found

    return run


def measured(folder: Path, source: str, optimisation: str = "-Os") -> Sizes:
    """What a C file of this text and the headers of the folder takes.

    A compiler that optimises may do without a table of a few numbers. Raises WorkFailed where it does not compile, or
    `nm` does not list it.
    """
    made = built(folder, source, optimisation, "-c")
    code, tables = 0, {}
    for line in _output([shutil.which("nm") or "nm", "-S", str(made)]).splitlines():
        fields = line.split()
        if len(fields) == 4:
            _, size, kind, name = fields
            if kind in "tT":
                code += int(size, 16)
            elif kind in "rR":
                tables[name] = int(size, 16)
    return Sizes(code, tables, _output([str(compiler()), "-dumpmachine"]).strip())


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise WorkFailed(f"{Path(command[0]).name} could not be run: {error}") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        said = next((line for line in lines if "error" in line), lines[0])
        raise WorkFailed(f"{Path(command[0]).name} failed: {said}")
    return done.stdout
