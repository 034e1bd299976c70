"""`compiled`: how functions of this room become machine code, once per machine.

The code is kept in a folder of the user's cache whose name is a hash of the sources of this room, because numba by
itself looks only at the file of a function, not at what it calls. It is NUMBA_CACHE_DIR where that is set. Where
neither can be written, a process compiles in memory, which costs it some seconds, and says so once.
"""

from __future__ import annotations

import hashlib
import tempfile
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numba

from structnet.storage.user_cache import user_cache

# What numba's own annotations leave out.
config: Any = numba.config
njit: Any = numba.njit

Function = TypeVar("Function", bound=Callable[..., Any])

# Sums may be reordered and products fused, so that loops become vector instructions. NaN and infinity stay what they
# are, so that a network that diverges is seen.
ARITHMETIC = {"reassoc", "contract", "nsz"}


def compiled(function: Function) -> Function:
    """The function as machine code for the types that it is called with; it runs without the interpreter's lock."""
    folder = cache_folder()
    before, config.CACHE_DIR = config.CACHE_DIR, str(folder or "")
    try:
        return _compile(function, nogil=True, cache=folder is not None)
    finally:
        config.CACHE_DIR = before


def part(function: Function) -> Function:
    """A part of compiled functions: none but these can call it, so it needs no way in from the interpreter.

    It becomes part of the machine code of each. As a function of its own it would be called where a process compiles
    it, and be another one, which rounds otherwise, where a later process reads the machine code of its caller.
    """
    return _compile(function, no_cpython_wrapper=True, no_cfunc_wrapper=True, forceinline=True)


def inlined(function: Function) -> Function:
    """A part that is written into its callers before they are compiled: dearer to compile, and nothing to call."""
    return _compile(function, no_cpython_wrapper=True, no_cfunc_wrapper=True, inline="always")


def _compile(function: Function, **options: Any) -> Function:
    made: Function = njit(function, fastmath=ARITHMETIC, error_model="numpy", **options)
    return made


@cache
def cache_folder() -> Path | None:
    """Where machine code is kept; None where nothing can be written."""
    folder = Path(f"compiled-{_hash_of_sources()}")
    try:
        folder = _root() / folder
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except (OSError, RuntimeError) as error:  # RuntimeError: nobody knows where the user's home is
        why = error.strerror if isinstance(error, OSError) else error
        warnings.warn(
            f"training steps are compiled in memory, which costs every process some seconds, because {folder} cannot "
            f"be written ({why}): set NUMBA_CACHE_DIR to a folder that can",
            stacklevel=2,
        )
        return None


def _root() -> Path:
    return Path(config.CACHE_DIR) if config.CACHE_DIR else user_cache()


def _hash_of_sources() -> str:
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]
