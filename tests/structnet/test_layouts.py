"""What lies where in a folder says which files are which split, and what class a picture is of."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.data_files import png
from hypothesis import given
from hypothesis import strategies as st

from structnet.data.layouts import find_files, picture_files
from structnet.data.pictures import decode_images, images_of_files
from structnet.errors import UserError


def fill(folder: Path, *names: str, content: bytes = b"") -> Path:
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return folder


def tables(folder: Path) -> dict[str, list[str]]:
    found = find_files(folder).splits
    assert not any(files.pictures for files in found.values())
    return {split: [str(file.relative_to(folder)) for file in files.tables] for split, files in found.items()}


def pictures(folder: Path) -> dict[str, list[tuple[str, str]]]:
    found = find_files(folder).splits
    assert not any(files.tables for files in found.values())
    return {
        split: [(str(file.relative_to(folder)), name) for file, name in files.pictures]
        for split, files in found.items()
    }


def refused(folder: Path, *parts: str) -> None:
    with pytest.raises(UserError) as error:
        find_files(folder)
    assert all(part in str(error.value) for part in (str(folder), *parts)), str(error.value)
    assert str(error.value).isprintable()


# Tables


def test_a_table_alone_is_the_training_split(tmp_path: Path) -> None:
    assert find_files(tmp_path / "x.csv") == ({"train": ([tmp_path / "x.csv"], [])}, [])
    with pytest.raises(UserError, match=r"x\.png is one picture, but a dataset needs folders of them"):
        find_files(tmp_path / "x.png")


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ("train.csv", {"train": "train.csv"}),
        (
            "test.csv train.parquet dev.tsv",
            {"train": "train.parquet", "validation": "dev.tsv", "test": "test.csv"},
        ),
        ("Train.CSV valid.csv", {"train": "Train.CSV", "validation": "valid.csv"}),
        (
            "data/train-00001-of-00002.parquet data/train-00000-of-00002.parquet data/test-00000-of-00001.parquet",
            {
                "train": "data/train-00000-of-00002.parquet data/train-00001-of-00002.parquet",
                "test": "data/test-00000-of-00001.parquet",
            },
        ),
        (
            "mnist/train-00000-of-00001-0123456789abcdef.parquet",
            {"train": "mnist/train-00000-of-00001-0123456789abcdef.parquet"},
        ),
        ("train_2.csv train_10.csv train_1.csv", {"train": "train_1.csv train_2.csv train_10.csv"}),
        (
            "train/b.parquet train/a.parquet val/0.csv",
            {"train": "train/a.parquet train/b.parquet", "validation": "val/0.csv"},
        ),
        (
            "default/test/0000.parquet default/train/0000.parquet",
            {"train": "default/train/0000.parquet", "test": "default/test/0000.parquet"},
        ),
    ],
)
def test_tables_are_found(names: str, found: dict[str, str], tmp_path: Path) -> None:
    assert tables(fill(tmp_path, *names.split())) == {split: files.split() for split, files in found.items()}
    assert list(find_files(tmp_path).splits) == list(found)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("train.csv train.parquet", "holds both train.csv and train.parquet: keep one of them"),
        ("train.csv training.csv", "holds both train.csv and training.csv"),
        ("train.csv train-1.csv", "holds both train-1.csv and train.csv"),
        ("train.csv train_1.csv", "holds both train.csv and train_1.csv"),
        ("train.csv train/0.csv", "holds both train.csv and train/0.csv"),
        ("train.csv val.csv valid/0.csv", "holds both val.csv and valid/0.csv"),
        ("a/train.csv b/train.csv", "tables in several places (a/train.csv, b/train.csv): name the file or"),
        ("train.csv data/train.csv", "several places (data/train.csv, train.csv): name"),
        (
            "data/train-00000-of-00003.parquet data/train-00002-of-00003.parquet",
            "holds 2 of 3 parts of train",
        ),
        (
            "train-00000-of-00001.parquet train-00000-of-00002.parquet",
            "holds both train-00000-of-00001.parquet and",
        ),
        ("test.csv", "holds 1 file (test.csv), but neither train.parquet nor train.csv"),
        ("other.parquet a/b/train.csv", "neither train.parquet nor train.csv"),
        ("", "is empty, but neither"),
        (
            "train.csv cat/1.png dog/1.png",
            "holds tables (train.csv) and folders of pictures (cat/1.png, dog/1.png)",
        ),
        ("train.csv train/1.png", "holds tables (train.csv) and folders of pictures (train/1.png)"),
        ("train/0.parquet test/cat/1.png", "name the table or the folder that is meant"),
    ],
)
def test_folders_of_no_or_two_meanings_are_refused(names: str, message: str, tmp_path: Path) -> None:
    refused(fill(tmp_path, *names.split()), message)


# Pictures


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ("dog/b.png cat/2.jpg cat/10.jpg", {"train": "cat/10.jpg=cat cat/2.jpg=cat dog/b.png=dog"}),
        ("10/a.png 9/a.png -1/a.png", {"train": "-1/a.png=-1 9/a.png=9 10/a.png=10"}),
        ("10/a.png 9/a.png x/a.png", {"train": "10/a.png=10 9/a.png=9 x/a.png=x"}),
        (
            "train/cat/1.png train/dog/1.PNG test/dog/2.gif dev/cat/3.tif",
            {
                "train": "train/cat/1.png=cat train/dog/1.PNG=dog",
                "validation": "dev/cat/3.tif=cat",
                "test": "test/dog/2.gif=dog",
            },
        ),
        ("Train/train/1.png Train/car/1.png", {"train": "Train/car/1.png=car Train/train/1.png=train"}),
        ("cat/x/1.png cat/2.png dog/1.png", {"train": "cat/2.png=cat cat/x/1.png=cat dog/1.png=dog"}),
        ("cat.png/1.png dog.png/1.png", {"train": "cat.png/1.png=cat.png dog.png/1.png=dog.png"}),
    ],
)
def test_folders_of_classes_are_found(names: str, found: dict[str, str], tmp_path: Path) -> None:
    expected = {split: [tuple(each.split("=")) for each in text.split()] for split, text in found.items()}
    assert pictures(fill(tmp_path, *names.split())) == expected
    assert list(find_files(tmp_path).splits) == list(found)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            "train/a/1.png train/b/1.png test/c/1.png test/a/1.png",
            "test of {} has the classes 'c', but those of train are 'a', 'b'",
        ),
        ("a/1.png", "has only the class 'a', but needs at least two"),
        ("archive/train/a/1.png archive/train/b/1.png", "must be at its top: name {}/archive"),
        ("a/1.png b/1.png test/1.png", "holds test, which is the name of a split, beside 'a', 'b'"),
        ("1.png 2.png", "holds 2 files (1.png, 2.png), but neither"),
        ("train/1.png test/1.png", "holds 2 files (test/1.png, train/1.png), but neither"),
        ("test/a/1.png test/b/1.png", "holds 2 files (test/a/1.png, test/b/1.png), but neither"),
        (
            "train/a/1.png train/b/1.png val/a/1.png valid/a/1.png",
            "holds both val and valid: keep one of them",
        ),
        ("a\nb/1.png b/1.png", "has the class 'a\\nb', but its name is no text"),
        ("a/1.heic b/1.eps", "holds 2 files (a/1.heic, b/1.eps), but neither"),
    ],
)
def test_folders_of_pictures_that_fit_no_layout_are_refused(names: str, message: str, tmp_path: Path) -> None:
    refused(fill(tmp_path, *names.split(" ")), message.format(tmp_path))


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    fill(
        tmp_path,
        "cat/1.png",
        "dog/1.png",
        "dog/notes.txt",
        "dog/Thumbs.db",
        ".DS_Store",
        "dog/more/2.png",
        "3.png",
    )
    fill(tmp_path, "README.md", "__MACOSX/cat/._1.png", ".git/x.png", *(f"cat/{at}.txt" for at in range(5)))
    (tmp_path / "bird").mkdir()
    found = find_files(tmp_path)
    assert [name for _, name in found.splits["train"].pictures] == ["cat", "dog", "dog"]
    assert found.notes == [
        f"Left out in {tmp_path}: 1 picture without a class (3.png).",
        f"Left out in {tmp_path}: 7 files of other kinds (README.md, cat/0.txt, cat/1.txt, cat/2.txt, cat/3.txt and 2 "
        "more).",
        f"Left out in {tmp_path}: 4 hidden or system files (.DS_Store, .git, __MACOSX, dog/Thumbs.db).",
        f"Left out in {tmp_path}: 1 empty folder (bird).",
        "Pictures in folders below that of a class count to it (dog/more).",
    ]
    shutil.rmtree(tmp_path)
    notes = find_files(fill(tmp_path, "train.csv", "logo.png", ".gitattributes", "labels.csv")).notes
    assert [note.split(": ")[1] for note in notes] == [
        "1 picture without a class (logo.png).",
        "1 file of other kinds (labels.csv).",
        "1 hidden or system file (.gitattributes).",
    ]
    assert find_files(fill(tmp_path / "x", "train.csv")).notes == []
    assert find_files(fill(tmp_path / "y", "train/train/1.png", "train/car/1.png")).notes == []


NAMES = st.text(st.characters(categories=("L", "N"), max_codepoint=0x2FF), min_size=1, max_size=6)


@given(st.lists(st.tuples(NAMES, NAMES), min_size=2, max_size=12, unique=True))
def test_every_picture_is_found_once_with_its_class(
    tmp_path_factory: pytest.TempPathFactory, places: list[tuple[str, str]]
) -> None:
    places = [(f"class {name}", file) for name, file in places]
    folder = tmp_path_factory.mktemp("root")
    fill(folder, *(f"{name}/{file}.png" for name, file in places))
    if len({name for name, _ in places}) < 2:
        refused(folder, "only the class")
        return
    (split,) = pictures(folder).values()
    assert sorted(split) == sorted((f"{name}/{file}.png", name) for name, file in places)
    assert [name for _, name in split] == sorted(name for _, name in split)


# Links and pipes


def test_linked_pictures_and_folders_are_followed(tmp_path: Path) -> None:
    store = fill(tmp_path / "store", "cats/1.png", "dog.png")
    (store / "cats/inner").symlink_to(fill(tmp_path / "other", "3.png"))
    root = fill(tmp_path / "root", "dog/1.png")
    (root / "cat").symlink_to(store / "cats")
    (root / "dog/2.png").symlink_to(store / "dog.png")
    assert pictures(root) == {"train": [("cat/1.png", "cat"), ("dog/1.png", "dog"), ("dog/2.png", "dog")]}
    assert find_files(root).notes == [f"Left out in {root}: 1 link inside linked folders (cat/inner)."]


def test_links_that_lead_in_a_circle_are_refused(tmp_path: Path) -> None:
    root = fill(tmp_path, "cat/1.png", "dog/1.png")
    (root / "cat/back").symlink_to(root)
    refused(root, "cat/back is a link to a folder that it lies in: remove it")
    (root / "cat/back").unlink()
    (root / "cat/2.png").symlink_to(root / "cat/2.png")
    refused(root, "cat/2.png cannot be read (Too many levels of symbolic links)")
    with pytest.raises(UserError, match="Too many levels"):
        picture_files(root)


def test_pipes_among_pictures_are_not_waited_for(tmp_path: Path) -> None:
    fill(tmp_path, "cat/1.png", "dog/1.png", content=png(np.zeros((2, 2), np.uint8)))
    os.mkfifo(tmp_path / "cat/2.png")
    files = [file for file, _ in find_files(tmp_path).splits["train"].pictures]
    with pytest.raises(UserError, match=r"cat/2\.png is no image but a named pipe: remove it"):
        decode_images(images_of_files(files))


# Lists of pictures


def test_a_list_beside_the_pictures_says_their_classes(tmp_path: Path) -> None:
    fill(tmp_path, "1.png", "2.png", "more/3.png", "4.png")
    (tmp_path / "metadata.csv").write_text(
        "file_name,label,text\n2.png,dog,x\nmore/3.png,cat,y\n1.png,cat,z\n"
    )
    found = [("1.png", "cat"), ("more/3.png", "cat"), ("2.png", "dog")]
    assert pictures(tmp_path) == {"train": found}
    assert find_files(tmp_path).notes == [f"Left out in {tmp_path}: 1 picture without a class (4.png)."]
    (tmp_path / "metadata.csv").rename(tmp_path / "names.csv")
    rows = [json.dumps({"file_name": name, "kind": of}) for name, of in found]
    (tmp_path / "metadata.jsonl").write_text("\n".join(rows))
    assert [name for _, name in find_files(tmp_path, "kind").splits["train"].pictures] == [
        "cat",
        "cat",
        "dog",
    ]


def test_every_split_may_have_its_list(tmp_path: Path) -> None:
    fill(tmp_path, "train/1.png", "train/2.png", "test/1.png", "val/7/1.png")
    for split, labels in (("train", (7, 10)), ("test", (10,))):
        lines = [f"{at}.png,{name}" for at, name in enumerate(labels, 1)]
        (tmp_path / split / "metadata.csv").write_text("\n".join(["file_name,label", *lines]))
    assert pictures(tmp_path) == {
        "train": [("train/1.png", "7"), ("train/2.png", "10")],
        "validation": [("val/7/1.png", "7")],
        "test": [("test/1.png", "10")],
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "file_name,label\n1.png,a\n9.png,b\n",
            "row 1 of {}/metadata.csv names the picture '9.png', but there is no such file",
        ),
        ("file_name,label\n1.png,a\n../x.png,b\n", "names the picture '../x.png', but"),
        ("file_name,label\n1.png,a\n/etc/passwd,b\n", "names the picture '/etc/passwd', but"),
        (
            "file_name,label\n1.png,a\n1.png,b\n",
            "row 1 of {}/metadata.csv names the picture '1.png' once more",
        ),
        ("file_name,label\n1.png,a\n2.png,a\n", "has only the class 'a'"),
        ("file_name,label\n1.png,a\n2.png,\n", "row 1 of {}/metadata.csv has an empty 'label'"),
        ("file_name,kind\n1.png,a\n2.png,b\n", "{}/metadata.csv has no column 'label'"),
        ("file,label\n1.png,a\n2.png,b\n", "{}/metadata.csv has no texts in a column 'file_name'"),
        ("file_name,label\n1.png,a\ntest/1.png,b\n", "put a metadata.csv of its own into each split"),
        ("", "{}/metadata.csv cannot be read"),
        ('file_name,label\n1.png,a\n"2.p', "{}/metadata.csv"),
    ],
)
def test_lists_that_do_not_fit_are_refused(content: str, message: str, tmp_path: Path) -> None:
    folder = fill(tmp_path / "here", "1.png", "2.png", "test/1.png")
    fill(tmp_path, "x.png")
    (folder / "metadata.csv").write_text(content)
    refused(folder, message.format(folder))


def test_the_list_of_a_split_names_no_pictures_of_another(tmp_path: Path) -> None:
    fill(tmp_path, "train/1.png", "train/2.png", "test/1.png")
    (tmp_path / "train/metadata.csv").write_text("file_name,label\n1.png,a\n2.png,b\n../test/1.png,b\n")
    refused(
        tmp_path,
        "row 2 of",
        "names the picture '../test/1.png', but there is no such file beside or below it",
    )


def test_two_lists_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    fill(tmp_path, "1.png", "2.png")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "1.png", "label": "a"}\n{"file_name": "2.p')
    refused(tmp_path, "metadata.jsonl cannot be read", "one object of JSON on each line")
    fill(tmp_path, "metadata.csv")
    refused(tmp_path, "holds both metadata.csv and metadata.jsonl")


# Pictures without classes


def test_pictures_for_a_prediction_are_found_in_all_folders(tmp_path: Path) -> None:
    fill(tmp_path, "b.webp", "a/2.png", "a/1.bmp", "notes.txt", ".x.png", "train/1.png")
    files, notes = picture_files(tmp_path)
    assert [str(file.relative_to(tmp_path)) for file in files] == [
        "a/1.bmp",
        "a/2.png",
        "b.webp",
        "train/1.png",
    ]
    assert [note.split(": ")[1] for note in notes] == [
        "1 file of other kinds (notes.txt).",
        "1 hidden or system file (.x.png).",
    ]
    assert picture_files(fill(tmp_path / "a/empty", "x.txt"))[0] == []
