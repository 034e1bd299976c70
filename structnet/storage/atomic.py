"""Files of results: each appears whole or not at all, on a local disk or in an object store.

A disk may be full for a moment, and a store may be away: what cannot be written is tried again with growing pauses
before the work that needs it ends.
"""

from __future__ import annotations

import os
import re
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from structnet.errors import WorkFailed

PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)  # seconds between two tries
_UNFINISHED = re.compile(r"\..+\.[0-9a-f]{32}\.tmp")


class StoreFailed(WorkFailed):
    """A file could not be written, on retries too; the one that was there before is as it was."""


def is_local(fs: Any) -> bool:
    """Whether an fsspec file system is this machine's own."""
    from fsspec.implementations.local import LocalFileSystem

    return isinstance(fs, LocalFileSystem)


def write_whole(fs: Any, contents: Mapping[str, bytes]) -> None:
    """Writes files in their order, in the place of what is there; on a local disk their folder is made.

    fs: an fsspec file system. contents: path on it -> bytes, all in one folder. The first file appears when all are
    stored, on a local disk, so that even a power cut leaves old ones or new ones, each whole.
    Raises StoreFailed after about 15 seconds of tries.
    """
    write = _write_local if is_local(fs) else _write_remote
    # What goes wrong on a disk is an OSError; what the library of an object store raises is its own affair.
    kinds = OSError if is_local(fs) else Exception
    for pause in (*PAUSES, None):
        try:
            write(fs, contents)
            return
        except kinds as error:
            if pause is None:
                reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
                raise StoreFailed(
                    f"{next(iter(contents))} cannot be written ({reason}), in {len(PAUSES) + 1} tries over "
                    f"{sum(PAUSES):.0f} seconds: free space, or see that the results can be reached and written to"
                ) from error
            time.sleep(pause)


def remove_unfinished(fs: Any, folder: str) -> int:
    """Removes what writers that were killed have left anywhere in a folder; how many files.

    A writer that is still at work finds its file gone, and writes it again.
    """
    if not is_local(fs):
        return 0
    found = [path for path in Path(folder).rglob(".*.tmp") if _UNFINISHED.fullmatch(path.name)]
    for path in found:
        path.unlink(missing_ok=True)
    return len(found)


def _write_remote(fs: Any, contents: Mapping[str, bytes]) -> None:
    """An object store shows an object only when its upload is complete."""
    for path, data in contents.items():
        fs.pipe_file(path, data)


def _write_local(fs: Any, contents: Mapping[str, bytes]) -> None:
    folder = Path(next(iter(contents))).parent
    folder.mkdir(parents=True, exist_ok=True)
    waiting: dict[Path, Path] = {}
    try:
        for path, data in contents.items():
            place = Path(path)
            waiting[place] = place.with_name(f".{place.name}.{uuid.uuid4().hex}.tmp")  # see _UNFINISHED
            with waiting[place].open("xb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
        for place, temporary in waiting.items():
            temporary.replace(place)
    finally:
        for temporary in waiting.values():
            temporary.unlink(missing_ok=True)
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
