"""Where this user's machine keeps what is dear to make and can be made again: machine code, the script of reports."""

from __future__ import annotations

import os
from pathlib import Path


def user_cache() -> Path:
    """`structnet` in XDG_CACHE_HOME, else in ~/.cache; RuntimeError where nobody knows the user's home."""
    home = os.environ.get("XDG_CACHE_HOME")
    return Path(home) / "structnet" if home else Path.home() / ".cache" / "structnet"
