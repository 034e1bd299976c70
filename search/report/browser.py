"""Pages in a browser."""

from __future__ import annotations

import webbrowser
from pathlib import Path

from structnet.errors import UserError
from structnet.storage.atomic import is_local
from structnet.storage.tables import open_folder


def show(path: str) -> None:
    """Opens a page in a browser; UserError where it is in a store that no browser reaches."""
    files, place = open_folder(path)
    if not is_local(files):
        raise UserError(
            f"the report is at '{path}', but a browser opens files of this machine: copy it here first"
        )
    webbrowser.open(Path(place).absolute().as_uri())
