"""What a search goes on from after a crash, and whether it is whole: a dying machine or a full disk cuts files short.

Ray Tune itself looks at none of it: from half a checkpoint a trial fails on every retry and every resume.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

SEAL = "sha256.json"


def seal(folder: Path) -> None:
    """Writes beside the files of a checkpoint what they hash to."""
    (folder / SEAL).write_text(json.dumps(_hashes(folder)))


def is_whole(folder: Path) -> bool:
    """Whether a checkpoint has the files that it was sealed with, unchanged."""
    try:
        return bool(json.loads((folder / SEAL).read_text()) == _hashes(folder))
    except (OSError, ValueError):
        return False


def _hashes(folder: Path) -> dict[str, str]:
    """Of the files that the work of a trial wrote: Tune adds hidden ones of its own."""
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith(".") and path.is_file())
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names if name != SEAL}


def tune_state_is_whole(files: Any, folder: str) -> bool:
    """Whether none of the files of state in a folder of Tune's, on an fsspec file system, was cut short."""
    files.invalidate_cache()
    names = [path for path in files.ls(folder, detail=False) if path.endswith((".json", ".pkl"))]
    return all(_is_complete(path, files.cat_file(path)) for path in names)


def _is_complete(path: str, data: bytes) -> bool:
    """JSON can be read, and a pickle ends with its full stop; it is not opened here."""
    if data.startswith(b"\x80"):
        return data.endswith(b".")
    try:
        json.loads(data)
    except ValueError:
        return False
    return True
