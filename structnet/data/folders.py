"""What lies in a folder and below it, whatever it means: links are followed, but never in a circle."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from structnet.data.pictures import is_picture, shown_path
from structnet.errors import UserError

# Beside names that begin with a dot: what Windows, macOS and network storage put beside pictures.
_OF_THE_SYSTEM = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir"})


class Contents(NamedTuple):
    """What a folder and those below it hold, each sorted by path.

    hidden: files and folders of the system, which were not looked into. not_followed: links to folders inside a folder
    that was reached by a link.
    """

    files: list[Path]
    folders: list[Path]
    hidden: list[Path]
    not_followed: list[Path]


def contents_of(root: Path) -> Contents:
    """All that lies in a folder and below it, without it; links to files and folders count as what they lead to.

    Raises UserError for a folder that cannot be read, and for links that lead to themselves or to a folder above them.
    """
    found = Contents([], [], [], [])
    # With the identities of the folders above, and whether a link was followed on the way.
    waiting: list[tuple[Path, tuple[tuple[int, int], ...], bool]] = [(root, (), False)]
    while waiting:
        folder, above, by_link = waiting.pop()
        try:
            about = folder.stat()
            identity = (about.st_dev, about.st_ino)
            if identity in above:
                raise UserError(f"{shown_path(folder)} is a link to a folder that it lies in: remove it")
            with os.scandir(folder) as entries:
                for entry in entries:
                    path = folder / entry.name
                    if entry.name.startswith(".") or entry.name.lower() in _OF_THE_SYSTEM:
                        found.hidden.append(path)
                    elif not entry.is_dir():
                        found.files.append(path)
                    elif by_link and entry.is_symlink():
                        found.not_followed.append(path)
                    else:
                        found.folders.append(path)
                        waiting.append((path, (*above, identity), by_link or entry.is_symlink()))
        except OSError as error:
            raise UserError(
                f"{shown_path(Path(error.filename or folder))} cannot be read ({error.strerror}): make it readable, or "
                "remove it"
            ) from error
    for paths in found:
        paths.sort(key=str)
    return found


def left_out(found: Contents, used: set[Path], root: Path) -> list[str]:
    """Sentences on what is in a folder and not used."""
    unused = [file for file in found.files if file not in used]
    holding = {
        above for folder in {file.parent for file in found.files} for above in (folder, *folder.parents)
    }
    groups = [
        ("picture", [file for file in unused if is_picture(file)], "without a class"),
        ("file", [file for file in unused if not is_picture(file)], "of other kinds"),
        ("hidden or system file", found.hidden, ""),
        ("empty folder", [folder for folder in found.folders if folder not in holding], ""),
        ("link", found.not_followed, "inside linked folders"),
    ]
    return [
        f"Left out in {shown_path(root)}: {' '.join([counted(paths, kind), which]).strip()} ({named(paths, root)})."
        for kind, paths, which in groups
        if paths
    ]


def counted(things: Sequence[object], kind: str) -> str:
    """So many of a kind."""
    return f"{len(things):,} {kind}" + ("s" if len(things) != 1 else "")


def named(paths: Sequence[Path], root: Path) -> str:
    """Paths as a sentence shows them, from the folder on: at most five."""
    names = [shown_path(path.relative_to(root)) for path in paths[:5]]
    return ", ".join(names) + (f" and {len(paths) - 5:,} more" if len(paths) > 5 else "")
