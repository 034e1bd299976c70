"""Which files of a folder are the splits of a dataset: tables, or pictures with their classes.

Tables:                                             Pictures:
    train.parquet, test.csv, ...                        cat/1.png, dog/1.png, ...
    data/train-00000-of-00002.parquet, ...              train/cat/1.png, test/cat/1.png, ...
    train/0000.parquet, default/train/0000.parquet      1.png and metadata.csv, also in train/, test/, ...
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from structnet.data.folders import Contents, contents_of, counted, left_out, named
from structnet.data.metadata import METADATA, listed_pictures
from structnet.data.pictures import is_picture, shown_path
from structnet.data.rows import LABEL, TABLE_SUFFIXES, listed
from structnet.errors import UserError

_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}
_SPLIT_NAMED = {name: split for split, names in _NAMES.items() for name in names}
# A split, perhaps the number of a shard and of all shards, and what older exports add to it.
_TABLE = re.compile(rf"({'|'.join(_SPLIT_NAMED)})(?:[-_.]?(\d+)(?:-of-(\d+))?(?:-[0-9a-f]{{16}})?)?")


class SplitFiles(NamedTuple):
    """Tables, or pictures with the names of their classes: one of them is empty."""

    tables: list[Path]
    pictures: list[tuple[Path, str]]


class Layout(NamedTuple):
    """Split -> its files, "train" first. notes: what is left out, a sentence each."""

    splits: dict[str, SplitFiles]
    notes: list[str]


def find_files(path: Path, label: str = LABEL) -> Layout:
    """The files of a dataset. A table alone is "train"; label: the column of the labels in lists of pictures.

    Pictures come class by class, numbers in numerical and texts in alphabetical order, and by their path.
    Raises UserError for a folder that fits no layout, or more than one, and for links that lead in a circle.
    """
    if not path.is_dir():
        if is_picture(path):
            raise UserError(
                f"{shown_path(path)} is one picture, but a dataset needs folders of them, one for each class: "
                "name the folder above those"
            )
        return Layout({"train": SplitFiles([path], [])}, [])
    found = contents_of(path)
    tables = _tables(found.files, path)
    below = [file for file in found.files if is_picture(file) and file.parent != path]
    if tables and below:
        raise UserError(
            f"{shown_path(path)} holds tables ({named(_all_of(tables), path)}) and folders of pictures "
            f"({named(below, path)}): name the table or the folder that is meant, or list the pictures and their "
            f"labels in {METADATA[0]}"
        )
    pictures = {} if tables else _pictures(found.files, path, label)
    if "train" not in {**tables, **pictures}:
        raise _no_layout(found, path)
    _check_classes(pictures, path)
    used = {*_all_of(tables), *(file for each in pictures.values() for file, _ in each)}
    used |= {file for file in found.files if pictures and file.name in METADATA}
    notes = left_out(found, used, path) + _deeper(pictures, path)
    splits = {
        split: SplitFiles(tables.get(split, []), _in_order(pictures.get(split, []))) for split in _NAMES
    }
    return Layout({split: files for split, files in splits.items() if any(files)}, notes)


def picture_files(folder: Path) -> tuple[list[Path], list[str]]:
    """The pictures in a folder and those below it, by their path, and sentences on what is left out."""
    found = contents_of(folder)
    pictures = [file for file in found.files if is_picture(file)]
    return pictures, left_out(found, set(pictures), folder)


def _no_layout(found: Contents, path: Path) -> UserError:
    holds = (
        "is empty"
        if not found.files
        else f"holds {counted(found.files, 'file')} ({named(found.files, path)})"
    )
    return UserError(
        f"{shown_path(path)} {holds}, but neither train.parquet nor train.csv, nor parts such as "
        "data/train-00000-of-00002.parquet, nor pictures in folders of their classes such as cat/1.png or "
        "train/cat/1.png: bring it into one of these forms, or name the file or folder that is meant"
    )


# Tables


def _tables(files: list[Path], root: Path) -> dict[str, list[Path]]:
    """Split -> tables, of the one folder that has some."""
    folders: dict[Path, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for file in files:
        if file.suffix.lower() in TABLE_SUFFIXES and file.name not in METADATA:
            folder, split = _place_of_table(file, root)
            if split is not None:
                folders[folder][split].append(file)
    if len(folders) > 1:
        examples = sorted(_all_of(splits)[0] for splits in folders.values())
        raise UserError(
            f"{shown_path(root)} holds tables in several places ({named(examples, root)}): name the file or the folder "
            "that is meant"
        )
    splits = next(iter(folders.values()), {})
    return {split: _parts_in_order(tables, root) for split, tables in splits.items()}


def _place_of_table(file: Path, root: Path) -> tuple[Path, str | None]:
    """The folder whose splits a table belongs to, and the split, None for one that belongs to none."""
    above = file.relative_to(root).parent.parts
    if above and len(above) <= 2 and (split := _SPLIT_NAMED.get(above[-1].lower())):
        return file.parent.parent, split
    name = _TABLE.fullmatch(file.stem.lower())
    return file.parent, _SPLIT_NAMED[name[1]] if name and len(above) <= 1 else None


def _parts_in_order(tables: list[Path], root: Path) -> list[Path]:
    """The tables of a split by their numbers; raises UserError where they are no parts of one, or some are missing."""
    first = _Part.of(tables[0])
    for table in tables[1:]:
        part = _Part.of(table)
        is_alike = part._replace(number=None) == first._replace(number=None)
        if not is_alike or (part.name and None in (part.number, first.number)):
            both = " and ".join(named([file], root) for file in (tables[0], table))
            raise UserError(f"{shown_path(root)} holds both {both}: keep one of them")
    if first.of_all is not None and len({_Part.of(table).number for table in tables}) != first.of_all:
        raise UserError(
            f"{shown_path(root)} holds {len(tables)} of {first.of_all} parts of {first.name} "
            f"({named(tables, root)}): add the others"
        )
    return sorted(tables, key=lambda table: (_Part.of(table).number or 0, table.name))


class _Part(NamedTuple):
    """What the path of a table says. of_all: how many parts there are, None where it is not said."""

    folder: Path
    suffix: str
    name: str | None
    number: int | None
    of_all: int | None

    @classmethod
    def of(cls, table: Path) -> _Part:
        found = _TABLE.fullmatch(table.stem.lower())
        name, number, of_all = found.groups() if found else (None, None, None)
        counts = [int(text) if text else None for text in (number, of_all)]
        return cls(table.parent, table.suffix.lower(), name, *counts)


# Pictures

_Pictures = list[tuple[Path, str]]


def _pictures(files: list[Path], root: Path, label: str) -> dict[str, _Pictures]:
    """Split -> pictures and the names of their classes."""
    lists = _lists(files, root)
    if root in lists:
        return {"train": _listed_without_splits(lists[root], files, root, label)}
    below: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        if is_picture(file) and file.parent != root:
            below[file.relative_to(root).parts[0]].append(file)
    found: dict[str, _Pictures] = {}
    for split, name in _split_folders(below, root).items():
        folder = root / name
        if folder in lists:
            pictures = listed_pictures(lists[folder], set(files), label)
        else:
            pictures = [(file, _below(file, folder)) for file in below[name] if file.parent != folder]
        if pictures:
            found[split] = pictures
    if found:
        return found
    return {"train": pictures} if (pictures := _without_splits(below, root)) else {}


def _split_folders(names: Iterable[str], root: Path) -> dict[str, str]:
    """Split -> the folder of that name."""
    found: dict[str, str] = {}
    for name in names:
        if (split := _SPLIT_NAMED.get(name.lower())) and found.setdefault(split, name) != name:
            raise UserError(f"{shown_path(root)} holds both {found[split]} and {name}: keep one of them")
    return found


def _without_splits(below: dict[str, list[Path]], root: Path) -> _Pictures:
    """Of folders of classes. Raises UserError where some of them have the names of splits, or hold such."""
    classes = {name: files for name, files in below.items() if name.lower() not in _SPLIT_NAMED}
    if classes and len(classes) < len(below):
        odd = next(name for name in below if name not in classes)
        raise UserError(
            f"{shown_path(root)} holds {odd}, which is the name of a split, beside {listed(sorted(classes))}: put the "
            f"folders of the classes into {odd}, or rename it if it is a class"
        )
    for name, files in classes.items():
        folder = root / name
        deeper = (file for file in files if file.parent != folder)
        inner = next((file for file in deeper if _below(file, folder).lower() in _SPLIT_NAMED), None)
        if inner is not None:
            raise UserError(
                f"{shown_path(root)} holds splits in {name} ({shown_path(inner.relative_to(root))}), but they must "
                f"be at its top: name {shown_path(folder)}"
            )
    return [(file, name) for name, files in classes.items() for file in files]


def _deeper(splits: dict[str, _Pictures], root: Path) -> list[str]:
    """A sentence on pictures that lie deeper in the folders of their classes, if there are some."""
    folders = {
        file.parent
        for pictures in splits.values()
        for file, name in pictures
        if name != file.parent.name and name in file.relative_to(root).parts[:-2]
    }
    if not folders:
        return []
    return [f"Pictures in folders below that of a class count to it ({named(sorted(folders), root)})."]


def _below(file: Path, folder: Path) -> str:
    """The folder, or the file itself, on the way from a folder to a file in or below it."""
    return file.relative_to(folder).parts[0]


def _lists(files: list[Path], root: Path) -> dict[Path, Path]:
    """Folder -> the list of pictures in it, of the root and the folders of splits."""
    found: dict[Path, Path] = {}
    for file in files:
        is_split = file.parent.parent == root and file.parent.name.lower() in _SPLIT_NAMED
        if file.name in METADATA and (file.parent == root or is_split):
            if file.parent in found:
                raise UserError(
                    f"{shown_path(file.parent)} holds both {' and '.join(METADATA)}: keep one of them"
                )
            found[file.parent] = file
    return found


def _listed_without_splits(file: Path, files: list[Path], root: Path, label: str) -> _Pictures:
    pictures = listed_pictures(file, set(files), label)
    for picture, _ in pictures:
        if picture.parent != root and (name := _below(picture, root)).lower() in _SPLIT_NAMED:
            raise UserError(
                f"{shown_path(file)} names pictures in {name}, which is the name of a split: put a {file.name} of "
                "its own into each split"
            )
    return pictures


def _check_classes(splits: dict[str, _Pictures], root: Path) -> None:
    if not splits:
        return
    known = {name for _, name in splits["train"]}
    for name in sorted(known):
        if not name.isprintable():
            raise UserError(
                f"{shown_path(root)} has the class {name!a}, but its name is no text: rename its folder"
            )
    if len(known) < 2:
        only = next(iter(known))
        raise UserError(
            f"{shown_path(root)} has only the class {only!r}, but needs at least two: if the classes or splits lie in "
            f"it, name {shown_path(root / only)}"
        )
    for split, pictures in splits.items():
        others = {name for _, name in pictures} - known
        if others:
            raise UserError(
                f"{split} of {shown_path(root)} has the classes {listed(sorted(others))}, but those of train are "
                f"{listed(sorted(known))}: rename or remove them"
            )


def _in_order(pictures: _Pictures) -> _Pictures:
    are_numbers = all(name.removeprefix("-").isdecimal() for _, name in pictures)
    return sorted(pictures, key=lambda each: (int(each[1]) if are_numbers else 0, each[1], str(each[0])))


def _all_of(splits: dict[str, list[Path]]) -> list[Path]:
    return [file for files in splits.values() for file in files]
