"""Ctrl-C: at most one line and exit code 130, whenever it comes and however often.

Python raises an exception wherever it happens to be, also in the middle of an import or while the one before is being
handled, and then what the user sees is a traceback. So the command answers Ctrl-C itself, from its first moment on:

    in an import         the process ends at once, unless work has begun
    elsewhere            KeyboardInterrupt, once: temporary files go, and whoever began work writes how far it came
    after that           what comes within two seconds is the same key, pressed twice or told twice, as by a shell and
                         by what runs the command; a later one ends the process at once

A file of results is whole in any case (structnet.storage.atomic), and `--resume` goes on.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

CODE = 130
_SAME_KEY_SECONDS = 2.0
_AGAIN_SECONDS = 0.05


class _State:
    """Of this process. runs: whether it is inside `answering_ctrl_c`. works: `ending_in_order` that are open.

    ends_since: when it was told to end. said: whether the user was told that it has been interrupted. ends: whether
    `_end` is at work.
    """

    runs = False
    works = 0
    ends_since: float | None = None
    said = False
    ends = False


@contextmanager
def answering_ctrl_c() -> Iterator[None]:
    """Answers Ctrl-C from now on, unless it is to be ignored, as in a shell's background.

    Whoever opens it takes the KeyboardInterrupt; as soon as it is closed Ctrl-C ends the process at once.
    """
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, _answer)
        sys.unraisablehook = _not_lost
    _State.runs = True
    try:
        yield
    finally:
        _State.runs = False


@contextmanager
def ending_in_order() -> Iterator[None]:
    """Work that, when a KeyboardInterrupt ends it, has something to write, and is given the time for it."""
    _State.works += 1
    try:
        yield
    except KeyboardInterrupt:
        _State.ends_since = time.monotonic()
        raise
    finally:
        _State.works -= 1


def line_is_said() -> None:
    """To be called when the user has been told that, and how, work was ended."""
    _State.said = True


def told_to_end() -> bool:
    """Whether Ctrl-C has been pressed."""
    return _State.ends_since is not None


def say_line() -> None:
    """Tells the user that the process has been interrupted, unless somebody has done so."""
    if not _State.said:
        _State.said = True
        with suppress(OSError):
            # Not by sys.stderr, which may be in use at this moment.
            os.write(2, b"\nstructnet: interrupted\n" if os.isatty(2) else b"structnet: interrupted\n")


def _answer(number: int, frame: FrameType | None) -> None:
    before, now = _State.ends_since, time.monotonic()
    if before is not None and now - before < _SAME_KEY_SECONDS:
        return
    _State.ends_since = now
    if before is not None or not _State.runs or (not _State.works and _imports(frame)):
        _end()
    raise KeyboardInterrupt


def _imports(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code.co_filename != "<frozen importlib._bootstrap>":
        frame = frame.f_back
    return frame is not None


def _end() -> NoReturn:
    """Ends the process, whatever it is at. What it has claimed is given up."""
    if _State.ends:
        os._exit(CODE)
    _State.ends = True
    say_line()
    with suppress(Exception):
        sys.stdout.flush()
    with suppress(Exception):
        claims = sys.modules.get("structnet.storage.claims")
        if claims is not None:
            claims.release_all()
    os._exit(CODE)


def _not_lost(unraisable: Any) -> None:
    """A KeyboardInterrupt that came up where nothing can be raised, as in a destructor, comes again a moment later."""
    if not issubclass(unraisable.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)
        return
    _State.ends_since = None
    again = threading.Timer(_AGAIN_SECONDS, os.kill, (os.getpid(), signal.SIGINT))
    again.daemon = True
    again.start()
