"""What this program is called where it runs."""

from __future__ import annotations

import os
import shutil
import sys


def program() -> str:
    """How to call this command from here: its name where that is found, else its path."""
    if shutil.which("structnet") or not sys.argv[0].endswith("structnet"):
        return "structnet"
    return os.path.relpath(sys.argv[0])
